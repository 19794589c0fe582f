"""Calibration of a predictive on validation data: temperature, sets of classes, OOD threshold."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64

from bbnn_uq import metrics
from bbnn_uq._checks import check_count, check_fraction, check_labels, check_real, check_seed
from bbnn_uq._files import atomic_path
from bbnn_uq.conformal import ConformalClassifier
from bbnn_uq.posterior import Posterior, PosteriorMixture
from bbnn_uq.predictive import Predictive
from bbnn_uq.recalibration import TemperatureScaling
from bbnn_uq.scores import parse_score

__all__ = ["DEFAULT_SCORE", "Calibration", "posterior_digest"]

DEFAULT_SCORE = "mutual_information"
"""What networks disagree on; `docs/ood_scores.md` says when another score does better."""

_FORMAT = 1
_FEWEST = 20


@dataclass(frozen=True, eq=False)
class Calibration:
    """What validation data teach about a predictive: how to read it, and when not to trust it.

    Made by :meth:`fit`. The validation inputs are cut in two at random: the temperature is fitted
    on one half, and the conformal quantiles on the other, whose probabilities it has not seen, so
    that the sets keep their guarantee. The threshold takes all of them, since no score was fitted.

    Args:
        temperature: of the averaged probabilities.
        conformal: fitted on probabilities at that temperature.
        score: name of the OOD score.
        threshold: an input is out-of-distribution when its score is higher.
        retention: share of new in-distribution inputs that the threshold keeps on average.
        num_inputs: validation inputs that this was fitted on.
        source: which networks it was fitted for: their number, seed, method, precision, the
            summary of their posterior, and its digest where it is known.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> probs = generator.dirichlet([2.0, 1.0, 1.0], 400)
        >>> labels = [generator.choice(3, p=row) for row in probs]
        >>> calibration = Calibration.fit(Predictive.from_probs(probs), labels, score="entropy")
        >>> new = Predictive.from_probs([[0.98, 0.01, 0.01], [0.34, 0.33, 0.33]])
        >>> calibration.prediction_sets(new, alpha=0.2)
        array([[ True, False, False],
               [ True,  True,  True]])
        >>> calibration.is_ood(new)
        array([False,  True])
    """

    temperature: TemperatureScaling
    conformal: ConformalClassifier
    score: str
    threshold: float
    retention: float
    num_inputs: int
    source: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"Calibration(temperature={self.temperature.temperature_:.3g}, "
            f"sets={self.conformal.score!r}, flags {self.score} > {self.threshold:.4g}, "
            f"from {self.num_inputs:,} inputs)"
        )

    @classmethod
    def fit(
        cls,
        predictive: Predictive,
        labels: Any,
        *,
        score: str = DEFAULT_SCORE,
        retention: float = 0.95,
        conformal: str = "lac",
        seed: int = 0,
    ) -> Calibration:
        """Fit temperature, conformal quantiles and threshold on validation data.

        Args:
            predictive: of the validation inputs, which neither trained the model nor test it.
            labels: their classes (N,).
            score: name of the OOD score, as :meth:`Predictive.score` takes it.
            retention: share of in-distribution inputs to keep, in (0, 1).
            conformal: score of the sets: ``lac``, ``aps`` or ``raps``.
            seed: of the cut in two, and of randomised sets.

        Raises:
            ValueError: labels are invalid, there are too few inputs, the score is missing or the
                same for all inputs.

        Warns:
            UserWarning: there is no error among the inputs that the temperature is fitted on.
        """
        checked = check_labels(
            labels, num_inputs=len(predictive.probs), num_classes=predictive.probs.shape[1]
        )
        scores = predictive.score(score)
        if not np.isfinite(scores).all():
            raise ValueError(
                f"score {score!r} is infinite for some validation input, where a network gives a "
                "class the probability 0; take 'entropy' or another score that has a bound"
            )
        if scores.min() == scores.max():
            raise ValueError(
                f"score {score!r} is {scores[0]:g} for every validation input, so it can tell "
                "nothing apart; a posterior that has collapsed has no mutual information: take "
                "'entropy', or another posterior"
            )
        if len(checked) < _FEWEST:
            raise ValueError(
                f"calibration needs at least {_FEWEST} validation inputs, half for the temperature "
                f"and half for the sets, got {len(checked)}"
            )
        order = np.random.default_rng(check_seed(seed)).permutation(len(checked))
        first, second = order[: len(order) // 2], order[len(order) // 2 :]
        temperature = TemperatureScaling().fit(predictive.probs[first], checked[first])
        if np.array_equal(predictive.probs[first].argmax(axis=1), checked[first]):
            warnings.warn(
                f"the {len(first)} validation inputs that the temperature is fitted on hold no "
                "error, which says nothing about how sure to be: calibrated probabilities are "
                "too sure; give more validation inputs",
                stacklevel=2,
            )
        return cls(
            temperature=temperature,
            conformal=ConformalClassifier(score=conformal, seed=seed).fit(
                temperature.transform(predictive.probs[second]), checked[second]
            ),
            score=score,
            threshold=metrics.threshold_at_retention(scores, retention),
            retention=retention,
            num_inputs=len(checked),
            source=_source(predictive),
        )

    def probs(self, predictive: Predictive) -> Float64[np.ndarray, "inputs classes"]:
        """Calibrated class probabilities (N, C): softmax(ln p / T) of the averaged ones."""
        self._check(predictive)
        return self.temperature.transform(predictive.probs)

    def prediction_sets(
        self, predictive: Predictive, alpha: float = 0.1
    ) -> Bool[np.ndarray, "inputs classes"]:
        """Sets that hold the true class of a new in-distribution input with probability ≥ 1 − α.

        Args:
            predictive: of new inputs.
            alpha: share of misses to allow, in (0, 1).
        """
        return self.conformal.predict_sets(self.probs(predictive), alpha)

    def is_ood(self, predictive: Predictive) -> Bool[np.ndarray, " inputs"]:
        """Whether each input's score is above the threshold."""
        self._check(predictive)
        return predictive.score(self.score) > self.threshold

    def _check(self, predictive: Predictive) -> None:
        for key, theirs in _source(predictive).items():
            ours = self.source[key]
            if theirs != ours:
                told = "" if key == "posterior" else f" ({theirs!r}, not {ours!r})"
                raise ValueError(
                    f"predictive has another {key} than the calibration was fitted with{told}; "
                    "predict with the same networks, or calibrate again"
                )

    def to_dict(self) -> dict[str, Any]:
        """JSON values that :meth:`from_dict` takes."""
        return {
            "format": _FORMAT,
            "temperature": self.temperature.to_dict(),
            "conformal": self.conformal.to_dict(),
            "score": self.score,
            "threshold": self.threshold,
            "retention": self.retention,
            "num_inputs": self.num_inputs,
            "source": self.source,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """From what :meth:`to_dict` gave.

        Raises:
            ValueError: a value is missing or of another format.
        """
        try:
            if values["format"] is not _FORMAT:
                raise ValueError(f"format {values['format']!r}, and this version reads {_FORMAT}")
            source = dict(values["source"])
            if set(source) - {"digest"} != set(_SOURCE):
                raise ValueError(f"source must tell {', '.join(_SOURCE)}, got {', '.join(source)}")
            parse_score(values["score"])
            return cls(
                temperature=TemperatureScaling.from_dict(values["temperature"]),
                conformal=ConformalClassifier.from_dict(values["conformal"]),
                score=values["score"],
                threshold=check_real(values["threshold"], "threshold"),
                retention=check_fraction(values["retention"], "retention"),
                num_inputs=check_count(values["num_inputs"], "num_inputs"),
                source=source,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"values are no calibration of this version: {error!r}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, whole or not at all."""
        text = json.dumps(self.to_dict(), allow_nan=False) + "\n"
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: the file is damaged or holds something else.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{os.fspath(path)!r} holds no calibration: {error}") from None


_SOURCE = ("num_samples", "seed", "method", "precision", "posterior")


def _source(predictive: Predictive) -> dict[str, Any]:
    about = {name: getattr(predictive, name) for name in _SOURCE[:3]}
    return about | {name: predictive.metadata.get(name) for name in _SOURCE[3:]}


def posterior_digest(posterior: Posterior) -> str:
    """SHA-256 of all that decides what a posterior's networks predict.

    A summary would not do: it is the same with the signs of λ turned or with other biases.
    """
    digest = hashlib.sha256()
    mixed = isinstance(posterior, PosteriorMixture)
    for member in posterior.posteriors if mixed else (posterior,):
        normalised = member.batchnorm
        sections = [member.natural_param, member.real_state]
        if normalised is not None:
            sections += [normalised.networks, normalised.mode]
        for section in sections:
            for name, value in sorted(section.items()):
                digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        about = {key: member.metadata.get(key) for key in ("normalisation", "likelihood")}
        digest.update(json.dumps(about, sort_keys=True).encode())
    return digest.hexdigest()
