"""Bootstrap interval of any metric: how much it would move on another test set of that size.

Inputs are resampled with replacement, and the metric is computed on every resample. Metrics of
this package run on multiplicities, many resamples at a time (see `_weighted`); anything else is
called once per resample. Both see the same resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from bbnn_uq.metrics._registry import own_metric
from bbnn_uq.metrics._resampling import (
    Interval,
    check_options,
    evaluate_resamples,
    make_interval,
    resample_indices,
)

__all__ = ["Interval", "bootstrap_interval"]


def _call_on_resamples(
    metric: Callable[..., Any], arrays: Sequence[Any], num_resamples: int, seed: int
) -> tuple[float, Float64[np.ndarray, "resamples"]]:
    """Any metric on the data and on every resample of them; a failing resample is an error."""
    value = float(metric(*arrays))
    if math.isnan(value):
        raise ValueError("metric gave NaN on the data themselves; there is no interval around it")
    resampled = np.empty(num_resamples)
    for row, (drawn,) in enumerate(resample_indices([len(arrays[0])], num_resamples, seed)):
        try:
            resampled[row] = float(metric(*(array[drawn] for array in arrays)))
        except ValueError as error:
            raise ValueError(f"metric failed on resample {row} of the data: {error}") from error
        if math.isnan(resampled[row]):
            raise ValueError(
                f"metric gave NaN on resample {row} of the data; it must be defined on every "
                "resample, also on one that lacks a class or repeats a single input"
            )
    return value, resampled


def bootstrap_interval(
    metric: Any,
    *arrays: Any,
    num_resamples: Any = 1000,
    confidence_level: Any = 0.95,
    seed: Any = 0,
) -> Interval:
    r"""Bootstrap interval of any metric of arrays that share their first axis.

    .. math:: [\, m^*_{(1 - \gamma)/2},\; m^*_{(1 + \gamma)/2} \,],

    the quantiles of the metric's values on the resamples, :math:`m^*`, at the level
    :math:`\gamma`: the percentile interval, with the order statistics next outside, widened where
    needed to hold the value on the data. `ece`, `classwise_ece` and `smooth_ece` get the basic
    interval, for the reason that `classification_intervals` gives.

    Source: Efron and Tibshirani 1993, chapter 13.

    Args:
        metric: Called as ``metric(*arrays)``, returns a number. Metrics of this package over one
            test set, or a ``functools.partial`` of one that sets options, run on many resamples
            at once; anything else is called for each resample.
        arrays: Arrays, lists or tensors of equal length N, resampled jointly.
        num_resamples: Number of resamples, at least 1.
        confidence_level: Level of the interval, in (0, 1).
        seed: Seed of the resamples, in [0, 2^64).

    Returns:
        Value on the data, and the interval.

    Raises:
        ValueError: If an option or array is invalid, or the metric is undefined on a resample.
            None is dropped, since that would bias the interval.
        TypeError: If ``metric`` is not callable, or an option is no number.

    Example:
        >>> import numpy as np
        >>> bootstrap_interval(np.mean, [1.0, 2.0, 3.0, 4.0], num_resamples=200)
        Interval(value=2.5, low=1.5, high=3.5)
    """
    num_resamples, confidence_level, seed = check_options(num_resamples, confidence_level, seed)
    if not callable(metric):
        raise TypeError(f"metric must be callable as metric(*arrays), got {metric!r}")
    if not arrays:
        raise ValueError("arrays must hold at least one array to resample, got none")
    own = own_metric(metric)
    if own is not None and len(arrays) == own.num_arrays:
        kernel = own.of(*arrays)
        values, resampled = evaluate_resamples(
            lambda weights: {"metric": kernel(weights)}, [len(arrays[0])], num_resamples, seed
        )
        return make_interval(
            values["metric"], resampled["metric"], confidence_level, own.basic_within
        )

    # A tensor stays one, so that the metric gets what it was written for.
    data = [array if hasattr(array, "detach") else np.asarray(array) for array in arrays]
    lengths = {len(array) if array.ndim else 0 for array in data}
    if len(lengths) > 1 or 0 in lengths:
        shapes = [tuple(array.shape) for array in data]
        raise ValueError(f"arrays must share a first axis of length >= 1, got shapes {shapes}")
    value, on_resamples = _call_on_resamples(metric, data, num_resamples, seed)
    return make_interval(value, on_resamples, confidence_level)
