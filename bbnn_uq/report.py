"""evaluate: from predictives and labels to a Report, and its folder."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bbnn_uq import metrics
from bbnn_uq._checks import check_count, check_fraction, check_labels, check_seed
from bbnn_uq._files import writable_folder
from bbnn_uq.metrics import Interval, ReliabilityCurve
from bbnn_uq.monte_carlo import Measurement, common_groups, monte_carlo_errors
from bbnn_uq.predictive import Predictive
from bbnn_uq.report_files import draw_figures, figure_names, markdown, safe_names
from bbnn_uq.scores import PLAIN_SCORES

__all__ = ["Report", "evaluate"]

SCHEMA = 1
NUM_RESAMPLES = 1000


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

    def __repr__(self) -> str:
        against = ", ".join(self.ood) or "nothing"
        return (
            f"Report({self.id['dataset']}: accuracy {self.id['accuracy'].value:.4f}, NLL "
            f"{self.id['nll'].value:.4f}, ECE {self.id['ece'].value:.4f}; against {against})"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values in the schema of ``report.json``; non-finite numbers are None."""
        return _json_value({"schema": SCHEMA} | self._parts())

    def to_json(self) -> str:
        """:meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """The tables a person reads first."""
        return markdown(**self._parts())

    def _parts(self) -> dict[str, Any]:
        names = ("id", "ood", "mode", "posterior", "inference", "settings")
        return {name: getattr(self, name) for name in names}

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the evaluation folder: JSON, Markdown, figures and scores.

        All files are made in a temporary folder first and then moved, ``report.json`` last, so
        that a fault or an interrupt on the way leaves what was there before.

        Args:
            folder: created when missing; files of an earlier report in it are replaced
                or, figures that are no longer made, removed.

        Returns:
            The folder.
        """
        target = writable_folder(folder)
        stage = Path(tempfile.mkdtemp(dir=target, prefix=".report."))
        try:
            (stage / "report.md").write_text(self.to_markdown(), encoding="utf-8")
            np.savez(stage / "scores.npz", **self._arrays())
            (stage / "report.json").write_text(self.to_json(), encoding="utf-8")
            draw_figures(
                stage, id=self.id, ood=self.ood, reliability=self.reliability, scores=self.scores
            )
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
    mode: Predictive | None = None,
    scores: Any = None,
    num_bins: int = 15,
    confidence_level: float = 0.95,
    seed: int = 0,
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
        scores: names of scores, such as ``entropy`` or ``mutual_information@3``; all that the
            predictive offers at temperature 1 and at its softened ones when not given.
        num_bins: bins of the ECE and of the reliability curve.
        confidence_level: of all intervals, in (0, 1).
        seed: of the bootstrap.

    Returns:
        The :class:`Report`.

    Raises:
        ValueError: labels or probabilities are invalid, a score is unknown or missing, or an OOD
            predictive comes from another number of networks, seed or method: mutual information
            is biased by the number of networks, so scores would not be comparable.

    Example:
        >>> confident = Predictive.from_probs([[0.9, 0.1], [0.2, 0.8]])
        >>> unsure = Predictive.from_probs([[0.6, 0.4], [0.5, 0.5]])
        >>> report = evaluate(confident, [0, 1], ood={"far": unsure})
        >>> report.to_dict()["ood"]["far"]["scores"]["entropy"]["auroc"]["value"]
        1.0
    """
    if not isinstance(predictive, Predictive):
        raise TypeError(
            f"predictive must be a Predictive, got {type(predictive).__name__}; "
            "Predictive.from_probs and from_samples make one"
        )
    if ood is not None and not isinstance(ood, Mapping):
        raise TypeError(f"ood must be a dictionary name -> Predictive, got {type(ood).__name__}")
    if isinstance(scores, str):
        raise TypeError(f"scores must be a list of names, got the string {scores!r}")
    check_count(num_bins, "num_bins")
    check_fraction(confidence_level, "confidence_level")
    options: dict[str, Any] = {
        "num_resamples": NUM_RESAMPLES,
        "confidence_level": confidence_level,
        "seed": check_seed(seed),
    }
    others = dict(ood or {})
    checked = check_labels(
        labels, num_inputs=len(predictive.probs), num_classes=predictive.probs.shape[1]
    )
    for name, other in others.items():
        _check_same_networks(name, predictive, other)
    if mode is not None and mode.probs.shape != predictive.probs.shape:
        raise ValueError(
            f"mode has probabilities of shape {mode.probs.shape} and the ID predictive of shape "
            f"{predictive.probs.shape}; predict both on the same inputs"
        )
    names = (
        _all_scores(predictive, others.values()) if scores is None else list(dict.fromkeys(scores))
    )
    if not names:
        raise ValueError("scores is empty; name at least one, such as 'entropy'")
    table = {"id": {name: predictive.score(name) for name in names}}
    table |= {"ood/" + key: {n: other.score(n) for n in names} for key, other in others.items()}

    facts = predictive.metadata
    posterior = facts.get("posterior")
    everything = [predictive, *others.values(), *([] if mode is None else [mode])]
    return Report(
        id={
            "dataset": facts.get("dataset", "id"),
            "n": len(checked),
            **_measured_id(predictive, checked, num_bins, options),
        },
        ood={
            key: {
                "n": len(other.probs),
                "scores": _measured_ood(
                    (predictive, other), (table["id"], table["ood/" + key]), options
                ),
            }
            for key, other in others.items()
        },
        mode=None if mode is None else _against_mode(predictive, mode, checked, num_bins, options),
        posterior=None
        if posterior is None
        else {key: value for key, value in posterior.items() if key != "layers"},
        inference={
            "num_samples": predictive.num_samples,
            "seed": predictive.seed,
            "method": predictive.method,
            "precision": facts.get("precision", "unknown"),
            "device": facts.get("device", "unknown"),
            "seconds": sum(each.metadata.get("seconds", 0.0) for each in everything),
        },
        settings={"num_bins": num_bins, **options},
        reliability=metrics.reliability_curve(
            predictive.probs, checked, num_bins=num_bins, confidence_level=confidence_level
        ),
        probs=predictive.probs,
        labels=checked,
        scores=table,
    )


def _measured_id(
    predictive: Predictive, labels: np.ndarray, num_bins: int, options: dict[str, Any]
) -> dict[str, Measurement]:
    chosen = metrics.default_metrics(num_bins)

    def points(left: Predictive) -> dict[str, float]:
        return {name: metric(left.probs, labels) for name, metric in chosen.items()}

    errors = monte_carlo_errors(points, predictive) if common_groups(predictive) else {}
    intervals = metrics.classification_intervals(
        predictive.probs, labels, num_bins=num_bins, **options
    )
    return {
        name: Measurement(**interval.to_dict(), mc_error=errors.get(name))
        for name, interval in intervals.items()
    }


def _measured_ood(
    predictives: tuple[Predictive, Predictive],
    scores: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    options: dict[str, Any],
) -> dict[str, dict[str, Measurement]]:
    inside, outside = scores

    def points(left: Predictive, left_other: Predictive) -> dict[str, float]:
        found = {}
        for name in inside:
            try:
                numbers = metrics.ood_metrics(left.score(name), left_other.score(name))
            except ValueError:
                continue  # what kept samples or sums by group do not hold, such as the energy
            found |= {f"{name} {metric}": value for metric, value in asdict(numbers).items()}
        return found

    errors = monte_carlo_errors(points, *predictives) if common_groups(*predictives) else {}
    intervals = {
        name: metrics.ood_intervals(inside[name], outside[name], **options) for name in inside
    }
    return {
        name: {
            metric: Measurement(**interval.to_dict(), mc_error=errors.get(f"{name} {metric}"))
            for metric, interval in of_score.items()
        }
        for name, of_score in intervals.items()
    }


def _against_mode(
    predictive: Predictive,
    mode: Predictive,
    labels: np.ndarray,
    num_bins: int,
    options: dict[str, Any],
) -> dict[str, Any]:
    options = options | {"num_bins": num_bins}
    intervals = metrics.classification_intervals(mode.probs, labels, **options)
    differences = metrics.paired_differences(predictive.probs, mode.probs, labels, **options)
    return {**intervals, "mean_minus_mode": differences}


def _check_same_networks(name: str, reference: Predictive, other: Predictive) -> None:
    for attribute in ("num_samples", "seed", "method"):
        ours, theirs = getattr(reference, attribute), getattr(other, attribute)
        if ours != theirs:
            raise ValueError(
                f"ood[{name!r}] has {attribute} {theirs!r} and the ID predictive {ours!r}; "
                "predict both with the same networks, or their scores cannot be compared"
            )
    for key in ("posterior", "precision"):
        if reference.metadata.get(key) != other.metadata.get(key):
            raise ValueError(
                f"ood[{name!r}] comes from another {key} than the ID predictive; predict both "
                "with the same networks, or their scores cannot be compared"
            )
    if reference.probs.shape[1] != other.probs.shape[1]:
        raise ValueError(
            f"ood[{name!r}] has {other.probs.shape[1]} classes and the ID predictive "
            f"{reference.probs.shape[1]}; they have to come from the same model"
        )


def _all_scores(predictive: Predictive, others: Iterable[Predictive]) -> list[str]:
    """What each predictive offers; a divergence, say, is infinite where one has an exact 0."""
    names = [
        name
        for name in predictive.available_scores()
        if all(name in other.available_scores() for other in others)
    ]
    softened = [
        # The shortest text that reads back as this very number: 3, not 3.0; 0.3333333333333333.
        f"{name}@{str(temperature).removesuffix('.0')}"
        for temperature in predictive.softened
        for name in names
        if name not in PLAIN_SCORES
    ]
    return [*names, *softened]


def _json_value(value: Any) -> Any:
    if isinstance(value, Interval):
        return _json_value(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
