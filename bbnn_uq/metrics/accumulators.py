"""Metrics of class probabilities that come in batches, on any number of machines."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_count, check_fraction, check_seed
from bbnn_uq._rows import row_blocks
from bbnn_uq.metrics._confidence_cells import (
    NUM_CELLS,
    bounded_quantile_ece,
    cells_of_counts,
    confidence_cells,
)
from bbnn_uq.metrics._exact_sums import add_exactly, exact_table, exact_totals
from bbnn_uq.metrics._interval_of_sums import ece_interval, normal_interval
from bbnn_uq.metrics._resampling import Interval
from bbnn_uq.metrics._state_file import check_arrays, read_state, write_state
from bbnn_uq.metrics._weighted import check_classification, top_class
from bbnn_uq.metrics.calibration import check_norm, norm_of_gaps
from bbnn_uq.metrics.histogram_metrics import Bounded, bounded_augrc, bounded_aurc
from bbnn_uq.metrics.reliability import ReliabilityCurve, wilson_band

__all__ = ["ClassificationAccumulator", "ClassificationSummary"]

# Rows of the table of exact sums over all inputs.
_BRIER, _BRIER_SQUARED, _NLL, _NLL_SQUARED = range(4)


@dataclass(frozen=True)
class ClassificationSummary:
    """Metrics of all inputs that an accumulator has seen.

    Attributes:
        num_inputs: Number of inputs.
        accuracy: As `bbnn_uq.metrics.accuracy`.
        nll: As `bbnn_uq.metrics.nll`, in nats.
        brier: As `bbnn_uq.metrics.brier`.
        ece: As `bbnn_uq.metrics.ece` with uniform bins and norm ``"l1"``.
    """

    num_inputs: int
    accuracy: float
    nll: float
    brier: float
    ece: float


class ClassificationAccumulator:
    r"""Metrics of probabilities and labels that are added batch by batch and not kept.

    .. math:: \text{sums of } 1,\ [\hat y_n = y_n],\ \kappa_n,\ ([\hat y_n = y_n] - \kappa_n)^2
              \text{ by bins of the confidence } \kappa_n;\quad
              \text{of } b_n, b_n^2, \ell_n, \ell_n^2,

    with b the Brier score and :math:`\ell` the NLL of an input, and numbers of right and of wrong
    inputs by narrow bins of :math:`1 - \kappa`, are all that is kept: about 2.4 MB, whatever the
    number of inputs. Sums are exact (see `bbnn_uq.metrics._exact_sums`), so neither the order of
    inputs, batches and merges nor their grouping changes a bit of any number. Metrics that are
    means over inputs or use uniform bins equal those of the whole data at once, up to the
    rounding of the latter; metrics that rank inputs come with bounds of their error, see
    `Bounded`.

    Everything kept is a whole number, and states of parts of the data add up: sum each array of
    `state` over processes, with an all-reduce for example, and hand the result to `add_state`.
    There is room for 2^36 inputs.

    Args:
        num_classes: C, at least 2.
        num_bins: Number of uniform bins of the ECE and of the reliability curve.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is no integer.

    Example:
        >>> whole, part = ClassificationAccumulator(2), ClassificationAccumulator(2)
        >>> whole.add([[0.9, 0.1], [0.4, 0.6]], [0, 1])
        >>> part.add([[0.7, 0.3], [0.2, 0.8]], [1, 1])
        >>> whole.merge(part)
        >>> whole.result().accuracy
        0.75
    """

    def __init__(self, num_classes: Any, *, num_bins: Any = 15) -> None:
        self.num_classes = check_count(num_classes, "num_classes", minimum=2)
        self.num_bins = check_count(num_bins, "num_bins")
        self._sums: dict[str, np.ndarray] = {
            "bin_counts": np.zeros((2, self.num_bins), np.int64),  # of wrong and of right inputs
            "bin_confidence": exact_table(self.num_bins, -54),
            "bin_squared_gap": exact_table(self.num_bins, -108),
            "losses": exact_table(4),
            "infinite_losses": np.zeros(1, np.int64),
            "cells": np.zeros((2, NUM_CELLS), np.int64),  # of wrong and of right inputs
        }

    def __repr__(self) -> str:
        return (
            f"ClassificationAccumulator({self.num_classes}, num_bins={self.num_bins}): "
            f"{self.num_inputs} inputs"
        )

    @property
    def num_inputs(self) -> int:
        """How many inputs have been added."""
        return int(self._sums["bin_counts"].sum())

    def add(self, probs: Any, labels: Any) -> None:
        """Count a batch.

        Args:
            probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes; an array,
                nested lists or a tensor on any device.
            labels: True classes (N,), integers in [0, C).

        Raises:
            ValueError: If an argument has wrong values or shapes; nothing is counted then.
            TypeError: If either holds anything but real numbers.
        """
        probs, labels = check_classification(probs, labels)
        if probs.shape[1] != self.num_classes:
            raise ValueError(
                f"probs must have shape (N, {self.num_classes}), as this accumulator has "
                f"{self.num_classes} classes, got {probs.shape}"
            )
        for block in row_blocks(probs):
            self._add_confidences(probs[block], labels[block])
            self._add_losses(probs[block], labels[block])

    def _add_confidences(
        self, probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
    ) -> None:
        confidence, correct = top_class(probs, labels)
        right = correct.astype(np.int64)
        # (a, b] with edges k/B rounded once, as in the metrics: 0.3 lies in (0.2, 0.3].
        inner_edges = np.arange(1, self.num_bins) / self.num_bins
        bins = np.searchsorted(inner_edges, confidence, side="left")
        cells = confidence_cells(confidence)
        np.add.at(self._sums["bin_counts"].reshape(-1), bins + right * self.num_bins, 1)
        np.add.at(self._sums["cells"].reshape(-1), cells + right * NUM_CELLS, 1)
        add_exactly(self._sums["bin_confidence"], bins, confidence)
        add_exactly(self._sums["bin_squared_gap"], bins, (correct - confidence) ** 2)

    def _add_losses(
        self, probs: Float64[np.ndarray, "inputs classes"], labels: Int64[np.ndarray, "inputs"]
    ) -> None:
        inputs = np.arange(len(labels))
        # Rows of memory of their own, so that the layout of a batch does not change any rounding.
        errors = np.array(probs, order="C")
        likelihood = errors[inputs, labels]
        errors[inputs, labels] -= 1.0
        brier = np.einsum("nc,nc->n", errors, errors)
        nll = -np.log(likelihood[likelihood > 0.0])
        for row, values in (
            (_BRIER, brier),
            (_BRIER_SQUARED, brier**2),
            (_NLL, nll),
            (_NLL_SQUARED, nll**2),
        ):
            add_exactly(self._sums["losses"], row, values)
        self._sums["infinite_losses"] += len(labels) - len(nll)

    def merge(self, other: Any) -> None:
        """Add all that ``other`` has seen; ``other`` stays as it is.

        Raises:
            ValueError: If the two differ in their numbers of classes or of bins.
        """
        if not isinstance(other, ClassificationAccumulator):
            raise TypeError(
                f"other must be a ClassificationAccumulator, got {type(other).__name__}"
            )
        for name in ("num_classes", "num_bins"):
            own, others = getattr(self, name), getattr(other, name)
            if own != others:
                raise ValueError(
                    f"other must have the {name} of this accumulator, {own}, got {others}; "
                    "accumulators of different settings cannot be merged"
                )
        for name, array in self._sums.items():
            array += other._sums[name]

    def state(self) -> dict[str, np.ndarray]:
        """Copies of the sums: int64 arrays that may be added to those of another accumulator."""
        return {name: array.copy() for name, array in self._sums.items()}

    def add_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Add the sums of accumulators of the same settings, from their `state`.

        Raises:
            ValueError: If ``state`` is none of such an accumulator.
        """
        arrays = check_arrays(state, self._sums)
        if any((array < 0).any() for array in arrays.values()) or not np.array_equal(
            arrays["bin_counts"].sum(axis=1), arrays["cells"].sum(axis=1)
        ):
            raise ValueError(
                "state must be that of a ClassificationAccumulator, "
                "got arrays that contradict each other"
            )
        for name, array in self._sums.items():
            array += arrays[name]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the accumulator to an ``.npz`` file, whole or not at all."""
        settings = {"num_classes": self.num_classes, "num_bins": self.num_bins}
        write_state(path, "ClassificationAccumulator", settings, self._sums)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ClassificationAccumulator:
        """The accumulator in a file of `save`, to be read or added to.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, of something else, or of a newer version.
        """
        return read_state(path, cls)

    def result(self) -> ClassificationSummary:
        """Metrics of all inputs so far.

        Raises:
            ValueError: If there are none yet.
        """
        num_inputs = self._num_seen()
        losses = exact_totals(self._sums["losses"])
        infinite = bool(self._sums["infinite_losses"][0])
        return ClassificationSummary(
            num_inputs=num_inputs,
            accuracy=int(self._sums["bin_counts"][1].sum()) / num_inputs,
            nll=math.inf if infinite else float(losses[_NLL] / num_inputs),
            brier=float(losses[_BRIER] / num_inputs),
            ece=self.ece(),
        )

    def ece(self, *, norm: Any = "l1", debias: Any = False) -> float:
        """Calibration error with uniform bins; see `bbnn_uq.metrics.ece` for the arguments.

        Raises:
            ValueError: If there are no inputs yet, or ``debias`` meets another norm than ``"l2"``.
        """
        self._num_seen()
        check_norm(norm, debias)
        count, confidence, right = self._bins()
        sums = (count[None, None], confidence[None, None], right[None, None])
        return float(norm_of_gaps(sums, norm, debias)[0])

    def quantile_ece(self, *, num_bins: Any = 15) -> Bounded:
        """Bounds of `bbnn_uq.metrics.ece` with quantile bins and norm ``"l1"``.

        Raises:
            ValueError: If there are no inputs yet, or ``num_bins`` is out of range.
        """
        self._num_seen()
        return bounded_quantile_ece(self._sums["cells"], check_count(num_bins, "num_bins"))

    def aurc(self) -> Bounded:
        """Bounds of `bbnn_uq.metrics.aurc`.

        Raises:
            ValueError: If there are no inputs yet.
        """
        self._num_seen()
        return bounded_aurc(cells_of_counts(self._sums["cells"]))

    def augrc(self) -> Bounded:
        """Bounds of `bbnn_uq.metrics.augrc`.

        Raises:
            ValueError: If there are no inputs yet.
        """
        self._num_seen()
        return bounded_augrc(cells_of_counts(self._sums["cells"]))

    def reliability_curve(self, *, confidence_level: Any = 0.95) -> ReliabilityCurve:
        """As `bbnn_uq.metrics.reliability_curve` with uniform bins and Wilson's intervals.

        Raises:
            ValueError: If there are no inputs yet, or ``confidence_level`` is not in (0, 1).
        """
        self._num_seen()
        level = check_fraction(confidence_level, "confidence_level")
        count, confidence, right = self._bins()
        mean, rate, low, high = np.full((4, self.num_bins), np.nan)
        filled = count > 0
        mean[filled] = confidence[filled] / count[filled]
        rate[filled] = right[filled] / count[filled]
        low[filled], high[filled] = wilson_band(count[filled], right[filled], level)
        edges = np.arange(self.num_bins + 1) / self.num_bins
        return ReliabilityCurve(edges, count.astype(np.int64), mean, rate, low, high)

    def intervals(self, *, confidence_level: Any = 0.95, seed: Any = 0) -> dict[str, Interval]:
        r"""Intervals over test inputs, as of `classification_intervals`, without the inputs.

        .. math:: \bar\ell \pm z \sqrt{s^2 / N}, \qquad
                  s^2 = \frac{1}{N - 1} \Big( \sum_n \ell_n^2 - N \bar\ell^2 \Big)

        for NLL and Brier score, Wilson's interval for the accuracy. In a bootstrap of the ECE the
        sums :math:`S_b` of gaps by bin would move, for many inputs, as a normal variable of mean S
        and covariance :math:`\mathrm{diag}(Q) - S S^T / N`, with :math:`Q_b` the sums of squared
        gaps; 10,000 draws of it take the place of resamples, and the interval is the basic one,
        clipped to [0, 1], which covers less often than its level where the true error is near 0.

        Args:
            confidence_level: Level of the intervals, in (0, 1).
            seed: Seed of the draws for the ECE, in [0, 2^64).

        Returns:
            Intervals by the names ``accuracy``, ``nll`` (nats), ``brier``, ``ece``. An infinite NLL
            stays infinite. One input says nothing of the spread: NLL and Brier score get all of
            their range.

        Raises:
            ValueError: If there are no inputs yet, or an option is out of range.
            TypeError: If an option is no number.
        """
        level = check_fraction(confidence_level, "confidence_level")
        generator = np.random.default_rng(check_seed(seed))
        result = self.result()
        num_inputs = result.num_inputs
        losses = exact_totals(self._sums["losses"])
        brier = normal_interval(losses[_BRIER], losses[_BRIER_SQUARED], num_inputs, 2.0, level)
        nll = normal_interval(losses[_NLL], losses[_NLL_SQUARED], num_inputs, math.inf, level)
        _, confidence, right = self._bins()
        squares = exact_totals(self._sums["bin_squared_gap"])
        seen = np.array([float(num_inputs)])
        (low,), (high,) = wilson_band(seen, right.sum(keepdims=True), level)
        return {
            "accuracy": Interval(result.accuracy, float(low), float(high)),
            "nll": Interval(*3 * [math.inf]) if math.isinf(result.nll) else nll,
            "brier": brier,
            "ece": ece_interval(
                result.ece, right - confidence, squares, num_inputs, level, generator
            ),
        }

    def _num_seen(self) -> int:
        if self.num_inputs == 0:
            raise ValueError("the accumulator has seen no inputs; call add first")
        return self.num_inputs

    def _bins(self) -> tuple[Float64[np.ndarray, "bins"], ...]:
        """Number of inputs, sum of confidences and number of right inputs of each bin."""
        counts = self._sums["bin_counts"].astype(np.float64)
        confidence = exact_totals(self._sums["bin_confidence"])
        return counts.sum(axis=0), np.array([float(total) for total in confidence]), counts[1]
