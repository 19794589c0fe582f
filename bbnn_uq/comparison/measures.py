"""The metrics of a run, and of two runs on the same inputs with a test of no difference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from bbnn_uq import metrics
from bbnn_uq.comparison.runs import Run
from bbnn_uq.comparison.significance import mcnemar, paired_t_test
from bbnn_uq.metrics import Interval

__all__ = ["TESTED", "Measure", "OnID", "OnOOD", "Paired", "Settings"]

NUM_RESAMPLES = 1000

TESTED = ("accuracy", "nll", "brier", "auroc")
"""Metrics with a test. Calibration errors and the like have none known to keep its level."""


@dataclass(frozen=True)
class Settings:
    """How every number of a comparison is computed, whatever the reports were made with."""

    num_bins: int
    confidence_level: float
    seed: int

    @property
    def bootstrap(self) -> dict[str, Any]:
        """Options of the bootstrap functions of :mod:`bbnn_uq.metrics`."""
        return {
            "num_resamples": NUM_RESAMPLES,
            "confidence_level": self.confidence_level,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Paired:
    """A difference of two runs on the same inputs, and where there is a test, its p-value."""

    difference: Interval
    p_value: float | None = None
    test: str | None = None


@dataclass(frozen=True)
class Measure(ABC):
    """Some metrics of a run, by name."""

    settings: Settings

    @property
    def of_baseline(self) -> Measure:
        """What is measured of the baseline for a difference."""
        return self

    @abstractmethod
    def points(self, run: Run) -> dict[str, float]:
        """Values alone."""

    @abstractmethod
    def intervals(self, run: Run) -> dict[str, Interval]:
        """Values with intervals over inputs."""

    @abstractmethod
    def paired(self, run: Run, baseline: Run) -> dict[str, Paired]:
        """Differences of two runs on the same inputs; none where there are too few inputs."""

    @abstractmethod
    def mc_error(self, run: Run, metric: str) -> float | None:
        """The error over networks that the run's report states."""


@dataclass(frozen=True)
class OnID(Measure):
    """The metrics of classification."""

    def points(self, run: Run) -> dict[str, float]:
        """Values alone."""
        chosen = metrics.default_metrics(self.settings.num_bins)
        return {name: metric(run.probs, run.labels) for name, metric in chosen.items()}

    def intervals(self, run: Run) -> dict[str, Interval]:
        """Values with bootstrap intervals."""
        return metrics.classification_intervals(run.probs, run.labels, **self._options)

    def paired(self, run: Run, baseline: Run) -> dict[str, Paired]:
        """Differences with bootstrap intervals; McNemar's test, and t tests of losses by input."""
        found = metrics.paired_differences(run.probs, baseline.probs, run.labels, **self._options)
        right, base_right = (each.probs.argmax(axis=1) == each.labels for each in (run, baseline))
        with np.errstate(invalid="ignore"):  # inf - inf = NaN leaves no test
            log_losses = _log_losses(run) - _log_losses(baseline)
        brier_losses = _brier_losses(run) - _brier_losses(baseline)
        tests = {
            "accuracy": (mcnemar(right, base_right), "McNemar"),
            "nll": (paired_t_test(log_losses), "paired t"),
            "brier": (paired_t_test(brier_losses), "paired t"),
        }
        return {
            name: Paired(interval, *tests.get(name, (None, None)))
            for name, interval in found.items()
        }

    def mc_error(self, run: Run, metric: str) -> float | None:
        """As the report states it, unless with another number of bins."""
        settings = run.facts.get("settings")
        bins = settings.get("num_bins") if isinstance(settings, dict) else None
        if metric in ("ece", "classwise_ece") and bins != self.settings.num_bins:
            return None
        return run.mc_error("id", metric)

    @property
    def _options(self) -> dict[str, Any]:
        return self.settings.bootstrap | {"num_bins": self.settings.num_bins}


def _of_label(run: Run) -> Float64[np.ndarray, "inputs"]:
    return run.probs[np.arange(len(run.labels)), run.labels]


def _log_losses(run: Run) -> Float64[np.ndarray, "inputs"]:
    with np.errstate(divide="ignore"):  # ln 0 = -inf is meant
        return -np.log(_of_label(run))


def _brier_losses(run: Run) -> Float64[np.ndarray, "inputs"]:
    """Less 1, which cancels in differences."""
    return np.einsum("nc,nc->n", run.probs, run.probs) - 2.0 * _of_label(run)


@dataclass(frozen=True)
class OnOOD(Measure):
    """The metrics of OOD detection with a score; the baseline may have another score."""

    dataset: str
    score: str
    baseline_score: str

    @property
    def of_baseline(self) -> OnOOD:
        """The same with the baseline's score."""
        return replace(self, score=self.baseline_score)

    def points(self, run: Run) -> dict[str, float]:
        """Values alone."""
        return asdict(metrics.ood_metrics(*self._scores(run)))

    def intervals(self, run: Run) -> dict[str, Interval]:
        """Values with bootstrap intervals."""
        return metrics.ood_intervals(*self._scores(run), **self.settings.bootstrap)

    def paired(self, run: Run, baseline: Run) -> dict[str, Paired]:
        """Differences with bootstrap intervals; DeLong's test."""
        scores = (*self._scores(run), *self.of_baseline._scores(baseline))
        if min(len(each) for each in scores) < 2:
            return {}
        found = metrics.compare_ood_scores(*scores, **self.settings.bootstrap)
        gap = found["auroc"]
        # Without spread DeLong's variance is 0, and there is no test of a difference that is not.
        known = gap.value == 0.0 or gap.low < gap.high
        tests = {"auroc": (gap.p_value if known else None, "DeLong")}
        return {
            name: Paired(
                Interval(paired.value, paired.low, paired.high), *tests.get(name, (None, None))
            )
            for name, paired in found.items()
        }

    def mc_error(self, run: Run, metric: str) -> float | None:
        """As the report states it."""
        return run.mc_error("ood", self.dataset, "scores", self.score, metric)

    def _scores(self, run: Run) -> tuple[np.ndarray, np.ndarray]:
        return run.scores["id"][self.score], run.scores["ood/" + self.dataset][self.score]
