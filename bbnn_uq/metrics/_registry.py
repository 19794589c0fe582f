"""The package's own metrics, each with its kernel: what the bootstrap runs many resamples of."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import FunctionType
from typing import Any

from bbnn_uq.metrics._weighted import Kernel, check_classification
from bbnn_uq.metrics.calibration import classwise_ece, classwise_ece_kernel, ece, ece_kernel
from bbnn_uq.metrics.proper_scores import (
    accuracy,
    accuracy_kernel,
    brier,
    brier_kernel,
    nll,
    nll_kernel,
)
from bbnn_uq.metrics.regression import (
    crps_gaussian,
    crps_gaussian_kernel,
    gaussian_nll,
    gaussian_nll_kernel,
    interval_coverage,
    interval_coverage_kernel,
    mse,
    mse_kernel,
    rmse,
    rmse_kernel,
    sharpness,
    sharpness_kernel,
)
from bbnn_uq.metrics.regression_calibration import (
    regression_calibration_error,
    regression_calibration_error_kernel,
)
from bbnn_uq.metrics.risk_coverage import risk_at_coverage, risk_at_coverage_kernel
from bbnn_uq.metrics.selective import (
    augrc,
    augrc_kernel,
    aurc,
    aurc_kernel,
    excess_aurc,
    excess_aurc_kernel,
)
from bbnn_uq.metrics.smooth_calibration import smooth_ece, smooth_ece_kernel

__all__ = ["OwnMetric", "default_metrics", "own_metric"]


@dataclass(frozen=True)
class OwnMetric:
    """How the bootstrap computes a metric.

    Attributes:
        kernel: From checked arrays to the kernel.
        check: From the arrays as they were passed to those that ``kernel`` takes; kernels of real
            targets check by themselves.
        num_arrays: Number of arrays that the metric takes.
        basic_within: Range of a metric that finite data bias upward, so that it gets a basic
            interval; None for the percentile interval.
    """

    kernel: Callable[..., Kernel]
    check: Callable[..., tuple[Any, ...]] = check_classification
    num_arrays: int = 2
    basic_within: tuple[float, float] | None = None

    def of(self, *arrays: Any) -> Kernel:
        """The kernel of the arrays as they were passed.

        Raises:
            TypeError: If an option is missing or unknown.
        """
        checked = self.check(*arrays)
        try:
            inspect.signature(self.kernel).bind(*checked)
        except TypeError as error:
            raise TypeError(
                f"metric cannot be called with its arrays alone: {error}; set its options with "
                "functools.partial"
            ) from None
        return self.kernel(*checked)

    @property
    def of_classes(self) -> bool:
        """Whether the metric is one of class probabilities and labels."""
        return self.check is check_classification


def _as_they_are(*arrays: Any) -> tuple[Any, ...]:
    return arrays


_OWN: dict[Callable[..., float], OwnMetric] = {
    accuracy: OwnMetric(accuracy_kernel),
    nll: OwnMetric(nll_kernel),
    brier: OwnMetric(brier_kernel),
    ece: OwnMetric(ece_kernel, basic_within=(0.0, 1.0)),
    classwise_ece: OwnMetric(classwise_ece_kernel, basic_within=(0.0, 1.0)),
    smooth_ece: OwnMetric(smooth_ece_kernel, basic_within=(0.0, 1.0)),
    aurc: OwnMetric(aurc_kernel),
    augrc: OwnMetric(augrc_kernel),
    excess_aurc: OwnMetric(excess_aurc_kernel),
    risk_at_coverage: OwnMetric(risk_at_coverage_kernel),
    mse: OwnMetric(mse_kernel, _as_they_are),
    rmse: OwnMetric(rmse_kernel, _as_they_are),
    gaussian_nll: OwnMetric(gaussian_nll_kernel, _as_they_are, num_arrays=3),
    crps_gaussian: OwnMetric(crps_gaussian_kernel, _as_they_are, num_arrays=3),
    interval_coverage: OwnMetric(interval_coverage_kernel, _as_they_are, num_arrays=3),
    regression_calibration_error: OwnMetric(
        regression_calibration_error_kernel, _as_they_are, num_arrays=3, basic_within=(0.0, 1.0)
    ),
    sharpness: OwnMetric(sharpness_kernel, _as_they_are, num_arrays=1),
}


def own_metric(metric: Any) -> OwnMetric | None:
    """How to compute ``metric``, with the options that a partial sets; None for a foreign one."""
    options: dict[str, Any] = {}
    if isinstance(metric, partial) and not metric.args:
        metric, options = metric.func, metric.keywords
    own = _OWN.get(metric) if isinstance(metric, FunctionType) else None
    return None if own is None else replace(own, kernel=partial(own.kernel, **options))


def default_metrics(num_bins: int = 15) -> dict[str, Callable[..., float]]:
    """The metrics of a report by name, each a function of probabilities and labels.

    Args:
        num_bins: Number of uniform bins of ECE and class-wise ECE.

    Example:
        >>> probs, labels = [[0.9, 0.1], [0.4, 0.6]], [0, 1]
        >>> [round(metric(probs, labels), 2) for metric in default_metrics().values()][:3]
        [1.0, 0.31, 0.17]
    """
    return {
        "accuracy": accuracy,
        "nll": nll,
        "brier": brier,
        "ece": partial(ece, num_bins=num_bins),
        "aurc": aurc,
        "classwise_ece": partial(classwise_ece, num_bins=num_bins),
        "smooth_ece": smooth_ece,
        "augrc": augrc,
        "excess_aurc": excess_aurc,
    }
