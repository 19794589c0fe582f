"""evaluate: from predictives and labels to a Report, and its folder."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bbnn_uq import metrics
from bbnn_uq import verdict as verdicts
from bbnn_uq._checks import check_count, check_fraction, check_labels, check_seed
from bbnn_uq._files import writable_folder
from bbnn_uq.examples import Examples, select_examples
from bbnn_uq.measuring import (
    curve_inputs,
    measure_classes,
    measure_curves,
    measure_id,
    measure_mode,
    measure_ood,
)
from bbnn_uq.metrics import ReliabilityCurve
from bbnn_uq.monte_carlo import MetricCurve
from bbnn_uq.predictive import Predictive
from bbnn_uq.report_checks import (
    check_class_names,
    check_predictives,
    check_scores,
    check_sets,
)
from bbnn_uq.report_files import draw_figures, figure_names, markdown, safe_names
from bbnn_uq.report_tables import report_frame, report_html

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report", "evaluate"]

SCHEMA = 1
NUM_RESAMPLES = 1000

_IN_JSON = (
    "id", "ood", "mode", "posterior", "inference", "settings", "class_names", "per_class",
    "against_networks", "examples", "warnings",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Report:
    """Accuracy, calibration and OOD detection of one predictive, each with both of its errors.

    Args:
        id: ``dataset``, ``n`` and metric name → :class:`~bbnn_uq.monte_carlo.Measurement`: the
            value, its interval over inputs, and its Monte Carlo error over networks.
        ood: set name → {"n", "scores": score name → metric name → Measurement}.
        mode: metric name → :class:`~bbnn_uq.metrics.Interval` of the posterior's mode, and
            ``mean_minus_mode``, the paired differences (negative NLL: averaging networks helps);
            None when no mode was given.
        posterior: the posterior's summary; None for foreign predictions.
        inference: how the networks were drawn and run.
        settings: bins, confidence level, resamples and seed of the numbers here.
        reliability: the curve of the reliability diagram.
        probs: (N, C) of the ID set.
        labels: (N,) of the ID set.
        scores: ``id`` or ``ood/NAME`` → score name → (N,).
        class_names: one for each class; None when they are unknown.
        per_class: one dictionary for each class: its number under ``class``, its ``name`` or
            None, the number ``n`` of its inputs, its ``accuracy`` and ``precision`` with Wilson
            intervals, and the mean ``confidence`` and ``entropy`` (nats) of its inputs.
        against_networks: ``nll``, ``accuracy``, ``ece``, and ``ood/NAME`` for the AUROC of the
            first score → the metric against the number of networks; empty where networks cannot
            be told apart.
        examples: ``id``, the inputs with the highest value of the first score, and ``ood/NAME``,
            those with the lowest, which would slip through.
        warnings: what to beware of, a sentence each.
    """

    id: dict[str, Any]
    ood: dict[str, dict[str, Any]]
    mode: dict[str, Any] | None
    posterior: dict[str, Any] | None
    inference: dict[str, Any]
    settings: dict[str, Any]
    reliability: ReliabilityCurve
    probs: np.ndarray
    labels: np.ndarray
    scores: dict[str, dict[str, np.ndarray]]
    class_names: tuple[str, ...] | None
    per_class: list[dict[str, Any]]
    against_networks: dict[str, MetricCurve]
    examples: dict[str, Examples]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        against = ", ".join(self.ood) or "nothing"
        return (
            f"Report({self.id['dataset']}: accuracy {self.id['accuracy'].value:.4f}, NLL "
            f"{self.id['nll'].value:.4f}, ECE {self.id['ece'].value:.4f}; against {against})"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values in the schema of ``report.json``; non-finite numbers are None."""
        return _json_value({"schema": SCHEMA} | {name: getattr(self, name) for name in _IN_JSON})

    def to_json(self) -> str:
        """:meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """The tables a person reads first."""
        return markdown(
            id=self.id,
            ood=self.ood,
            mode=self.mode,
            posterior=self.posterior,
            inference=self.inference,
            settings=self.settings,
            per_class=self.per_class,
            warnings=self.warnings,
        )

    def to_frame(self) -> pd.DataFrame:
        """One row for each number of the report, for pandas and seaborn.

        Returns:
            A table with the columns ``dataset``; ``kind``: ``id``, ``ood``, or of the ID set
            ``mode`` and ``mean_minus_mode``; ``score`` (None but for OOD sets), ``metric``,
            ``value``, ``low``, ``high``, ``mc_error`` (NaN where it is unknown) and ``n``, the
            number of inputs of the set.

        Example:
            >>> far = {"far": Predictive.from_probs([[0.5, 0.5]])}
            >>> report = evaluate(Predictive.from_probs([[0.9, 0.1]]), [0], ood=far)
            >>> frame = report.to_frame()
            >>> frame[frame.metric == "auroc"][["dataset", "score", "value", "n"]]
               dataset       score  value  n
            9      far     entropy    1.0  1
            15     far  confidence    1.0  1
            21     far      margin    1.0  1
        """
        return report_frame(self.id, self.ood, self.mode)

    def _repr_html_(self) -> str:
        return report_html(self.verdict(), self.id, self.ood, self.inference, self.settings)

    def verdict(self) -> dict[str, Any]:
        """The few numbers to look at first, and the warnings: :func:`bbnn_uq.verdict.verdict`."""
        return verdicts.verdict(self.id, self.ood, self.warnings)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the evaluation folder: JSON, Markdown, a page, figures and scores.

        All files are made in a temporary folder first and then moved, ``report.json`` last, so
        that a fault or an interrupt on the way leaves what was there before.

        Args:
            folder: created when missing; files of an earlier report in it are replaced
                or, figures that are no longer made, removed.

        Returns:
            The folder.
        """
        from bbnn_uq.pages import report_page  # late: a page needs matplotlib and jinja2

        target = writable_folder(folder)
        stage = Path(tempfile.mkdtemp(dir=target, prefix=".report."))
        try:
            (stage / "report.md").write_text(self.to_markdown(), encoding="utf-8")
            np.savez(stage / "scores.npz", **self._arrays())
            (stage / "report.json").write_text(self.to_json(), encoding="utf-8")
            draw_figures(
                stage,
                id=self.id,
                ood=self.ood,
                reliability=self.reliability,
                scores=self.scores,
                probs=self.probs,
                labels=self.labels,
            )
            page = report_page(**{each.name: getattr(self, each.name) for each in fields(self)})
            (stage / "report.html").write_text(page, encoding="utf-8")
            self._remove_earlier_figures(target)
            for file in sorted(stage.iterdir(), key=lambda file: file.name == "report.json"):
                file.replace(target / file.name)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        return target

    def _arrays(self) -> dict[str, Any]:
        arrays = {"id/probs": self.probs, "id/labels": self.labels}
        arrays |= {f"id/{score}": values for score, values in self.scores["id"].items()}
        for name, safe in safe_names(self.ood).items():
            scores = self.scores["ood/" + name]
            arrays |= {f"ood/{safe}/{score}": values for score, values in scores.items()}
        return arrays

    def _remove_earlier_figures(self, folder: Path) -> None:
        """Remove the figures of an earlier report here that this one does not have."""
        try:
            earlier = json.loads((folder / "report.json").read_text(encoding="utf-8"))["ood"]
            names = {set_: entry["scores"] for set_, entry in earlier.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        kept = figure_names({set_: entry["scores"] for set_, entry in self.ood.items()})
        for name in set(figure_names(names)) - set(kept):
            if Path(name).name == name:  # that file may be anybody's
                (folder / name).unlink(missing_ok=True)


def evaluate(
    predictive: Any,
    labels: Any,
    *,
    ood: Any = None,
    mode: Any = None,
    scores: Any = None,
    num_bins: int = 15,
    confidence_level: float = 0.95,
    seed: int = 0,
    inputs: Any = None,
    ood_inputs: Any = None,
    class_names: Any = None,
) -> Report:
    """Measure accuracy, calibration and OOD detection, each with a bootstrap interval.

    Intervals are over the test inputs, 1,000 resamples. The Monte Carlo error over networks is
    not in them; it stands beside them as ``mc_error``, the jackknife of
    :func:`bbnn_uq.monte_carlo.monte_carlo_error`, where the predictives were made with the same
    groups of networks or kept their samples, and is None elsewhere. OOD is the positive class
    and every score is higher for OOD.

    Args:
        predictive: of the in-distribution test set.
        labels: its classes (N,), integers in [0, C).
        ood: set name → predictive, of the same networks as ``predictive``.
        mode: the predictive of the posterior's mode on the ID set, to say whether averaging
            networks helps.
        scores: names of scores, such as ``entropy`` or ``mutual_information@3``, the one that
            examples are chosen by first; all that the predictive offers at temperature 1 and at
            its softened ones when not given.
        num_bins: bins of the ECE and of the reliability curve.
        confidence_level: of all intervals, in (0, 1).
        seed: of the bootstrap, and of the order of networks in curves.
        inputs: the ID inputs, to show examples of: an array, tensor or dataset of length N, of
            which at most 24 inputs are read.
        ood_inputs: set name → inputs of that OOD set, likewise.
        class_names: one for each class, to be shown beside its number.

    Returns:
        The :class:`Report`.

    Raises:
        ValueError: labels or probabilities are invalid, a score is unknown or missing, inputs or
            class names are not as many as there should be, or an OOD predictive comes from
            another number of networks, seed or method: mutual information is biased by the
            number of networks, so scores would not be comparable.

    Example:
        >>> confident = Predictive.from_probs([[0.9, 0.1], [0.2, 0.8]])
        >>> unsure = Predictive.from_probs([[0.6, 0.4], [0.5, 0.5]])
        >>> report = evaluate(confident, [0, 1], ood={"far": unsure})
        >>> report.to_dict()["ood"]["far"]["scores"]["entropy"]["auroc"]["value"]
        1.0
    """
    bins = {"num_bins": check_count(num_bins, "num_bins")}
    options: dict[str, Any] = {
        "num_resamples": NUM_RESAMPLES,
        "confidence_level": check_fraction(confidence_level, "confidence_level"),
        "seed": check_seed(seed),
    }
    others = check_predictives(predictive, ood, mode)
    shape = predictive.probs.shape
    checked = check_labels(labels, num_inputs=shape[0], num_classes=shape[1])
    sets = check_sets(predictive, others, inputs, ood_inputs)
    called = check_class_names(class_names, shape[1])
    names = check_scores(scores, predictive, others)
    table = {"id": {name: predictive.score(name) for name in names}}
    table |= {"ood/" + key: {n: other.score(n) for n in names} for key, other in others.items()}

    numbers = _numbers(predictive, checked, others, table, bins | options)
    classes = measure_classes(
        predictive, checked, class_names=called, confidence_level=options["confidence_level"]
    )
    return Report(
        **numbers,
        mode=None if mode is None else measure_mode(predictive, mode, checked, **bins, **options),
        inference=_inference([predictive, *others.values(), *([] if mode is None else [mode])]),
        settings=bins | options | {"curve_inputs": curve_inputs(predictive)},
        probs=predictive.probs,
        labels=checked,
        scores=table,
        class_names=called,
        per_class=classes,
        against_networks=measure_curves(
            predictive, checked, others, score=names[0], seed=options["seed"], **bins
        ),
        examples=_examples(names[0], predictive, checked, others, sets),
        warnings=verdicts.find_warnings(
            predictive,
            others,
            per_class=classes,
            confidence_level=options["confidence_level"],
            **numbers,
        ),
    )


def _numbers(
    predictive: Predictive,
    labels: np.ndarray,
    others: Mapping[str, Predictive],
    table: Mapping[str, Mapping[str, np.ndarray]],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The parts of a report that are measured set by set, and the posterior's summary."""
    without_bins = {name: value for name, value in options.items() if name != "num_bins"}
    posterior = predictive.metadata.get("posterior")
    return {
        "id": {
            "dataset": predictive.metadata.get("dataset", "id"),
            "n": len(labels),
            **_fingerprint(predictive),
            **measure_id(predictive, labels, **options),
        },
        "ood": {
            name: {
                "n": len(other.probs),
                **_fingerprint(other),
                "scores": measure_ood(
                    (predictive, other), (table["id"], table["ood/" + name]), **without_bins
                ),
            }
            for name, other in others.items()
        },
        "posterior": None
        if posterior is None
        else {key: value for key, value in posterior.items() if key != "layers"},
        "reliability": metrics.reliability_curve(
            predictive.probs,
            labels,
            num_bins=options["num_bins"],
            confidence_level=options["confidence_level"],
        ),
    }


def _fingerprint(predictive: Predictive) -> dict[str, Any]:
    fingerprint = predictive.metadata.get("fingerprint")
    return {} if fingerprint is None else {"fingerprint": fingerprint}


def _inference(predictives: list[Predictive]) -> dict[str, Any]:
    """How the first one's networks were drawn and run, and the time that all of them took."""
    first = predictives[0]
    return {
        "num_samples": first.num_samples,
        "seed": first.seed,
        "method": first.method,
        "precision": first.metadata.get("precision", "unknown"),
        "device": first.metadata.get("device", "unknown"),
        "seconds": sum(each.metadata.get("seconds", 0.0) for each in predictives),
    }


def _examples(
    score: str,
    predictive: Predictive,
    labels: np.ndarray,
    others: Mapping[str, Predictive],
    sets: Mapping[str, Any],
) -> dict[str, Examples]:
    found = {
        "id": select_examples(predictive, score, highest=True, labels=labels, inputs=sets.get("id"))
    }
    for name, other in others.items():
        key = "ood/" + name
        found[key] = select_examples(other, score, highest=False, inputs=sets.get(key))
    return found


def _json_value(value: Any) -> Any:
    if isinstance(value, Examples):
        return _json_value(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):  # an Interval, or a curve
        return {each.name: _json_value(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, np.ndarray):
        return _json_value(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
