"""What prediction sets do on labelled inputs: coverage, size, and both by stratum."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import betaincinv

from bbnn_uq._checks import check_fraction, check_labels

__all__ = ["ConformalReport", "evaluate_sets"]


@dataclass(frozen=True)
class ConformalReport:
    """What prediction sets did on labelled inputs, as computed by `evaluate_sets`.

    Attributes:
        num_inputs: Number of inputs N.
        coverage: Share of sets that hold their label.
        coverage_low: Lower end of its Clopper-Pearson interval.
        coverage_high: Upper end of it.
        mean_size: Mean number of classes in a set.
        empty_share: Share of sets without a class.
        singleton_share: Share of sets with one class.
        class_counts: Number of inputs of each class (C).
        class_coverage: Coverage of the inputs of each class (C), NaN where there are none.
        sizes: The sizes that sets have, ascending.
        size_counts: Number of sets of each of these sizes.
        size_coverage: Coverage of the sets of each of these sizes.
    """

    num_inputs: int
    coverage: float
    coverage_low: float
    coverage_high: float
    mean_size: float
    empty_share: float
    singleton_share: float
    class_counts: tuple[int, ...]
    class_coverage: tuple[float, ...]
    sizes: tuple[int, ...]
    size_counts: tuple[int, ...]
    size_coverage: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ``coverage`` as value, low and high; null where there are no inputs."""
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        values["coverage"] = {
            "value": self.coverage,
            "low": values.pop("coverage_low"),
            "high": values.pop("coverage_high"),
        }
        values["class_coverage"] = [None if math.isnan(v) else v for v in self.class_coverage]
        return values


def _check_sets(sets: Any) -> Bool[np.ndarray, "inputs classes"]:
    array = np.asarray(sets.detach().cpu() if hasattr(sets, "detach") else sets)
    if array.dtype != np.bool_:
        raise TypeError(
            f"sets must be boolean, whether each class is in, got dtype {array.dtype}; "
            "pass what predict_sets returned"
        )
    if array.ndim != 2 or array.shape[1] < 2 or not len(array):
        raise ValueError(
            f"sets must have shape (N, C) with at least 1 input and 2 classes, got {array.shape}"
        )
    return array


def _exact_interval(hits: int, num_inputs: int, confidence_level: float) -> tuple[float, float]:
    """Clopper and Pearson 1934: the rates under which so few, or so many, are not too unlikely."""
    tail, misses = (1.0 - confidence_level) / 2.0, num_inputs - hits
    low = float(betaincinv(hits, misses + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, misses, 1.0 - tail)) if misses else 1.0
    return low, high


def evaluate_sets(sets: Any, labels: Any, *, confidence_level: Any = 0.95) -> ConformalReport:
    r"""Coverage, size and fairness of prediction sets on labelled inputs.

    .. math:: \text{coverage} = \frac{1}{N} \sum_n [y_n \in S_n], \qquad
              \text{mean size} = \frac{1}{N} \sum_n |S_n|,

    and the coverage among the inputs of each class, and among the sets of each size. Coverage has
    a Clopper-Pearson interval over test inputs, for the fitting split as it was: that a split of n
    inputs is lucky or unlucky comes on top, by about :math:`\sqrt{\alpha (1 - \alpha) / n}`.

    Source: Clopper and Pearson 1934; coverage by set size, Angelopoulos, Bates, Malik and Jordan
    2021 (arXiv 2009.14193).

    Args:
        sets: Whether each class is in each input's set, bool (N, C).
        labels: True classes (N,), integers in [0, C).
        confidence_level: Level of the interval, in (0, 1).

    Returns:
        The numbers, each share in [0, 1].

    Raises:
        ValueError: If an argument has wrong values or shapes.
        TypeError: If ``sets`` is not boolean, or ``labels`` holds anything but numbers.

    Example:
        >>> report = evaluate_sets([[True, False], [True, True], [False, False]], [0, 1, 1])
        >>> report.mean_size, report.empty_share, report.class_coverage, report.size_coverage
        (1.0, 0.3333333333333333, (1.0, 0.5), (0.0, 1.0, 1.0))
    """
    array = _check_sets(sets)
    num_inputs, num_classes = array.shape
    labels = check_labels(labels, num_inputs=num_inputs, num_classes=num_classes)
    level = check_fraction(confidence_level, "confidence_level")
    held = array[np.arange(num_inputs), labels]
    low, high = _exact_interval(int(held.sum()), num_inputs, level)
    size = array.sum(axis=1)
    class_counts, class_coverage = _stratify(held, labels, num_classes)
    size_counts, size_coverage = _stratify(held, size, num_classes + 1)
    sizes = tuple(np.flatnonzero(size_counts).tolist())
    return ConformalReport(
        num_inputs=num_inputs,
        coverage=float(held.mean()),
        coverage_low=low,
        coverage_high=high,
        mean_size=float(size.mean()),
        empty_share=float((size == 0).mean()),
        singleton_share=float((size == 1).mean()),
        class_counts=tuple(class_counts.tolist()),
        class_coverage=tuple(class_coverage.tolist()),
        sizes=sizes,
        size_counts=tuple(size_counts[list(sizes)].tolist()),
        size_coverage=tuple(size_coverage[list(sizes)].tolist()),
    )


def _stratify(
    held: Bool[np.ndarray, "inputs"], stratum: Int64[np.ndarray, "inputs"], num_strata: int
) -> tuple[Int64[np.ndarray, "strata"], Float64[np.ndarray, "strata"]]:
    """Number of inputs, and share that is held, in each stratum; NaN where there are none."""
    counts = np.bincount(stratum, minlength=num_strata)
    hits = np.bincount(stratum, weights=held, minlength=num_strata)
    return counts, np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)
