"""What a report's numbers mean, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from bbnn_uq.metrics import Interval

__all__ = ["accuracy_meaning", "auroc_meaning", "enough_networks", "gap_meaning", "mode_meaning",
           "nll_meaning"]  # fmt: skip

MUCH_LESS = 0.5
"""An error over networks of half that over inputs adds 12 % to the two together."""


def accuracy_meaning(accuracy: Interval, count: int) -> str:
    """What an accuracy says.

    Example:
        >>> accuracy_meaning(Interval(0.75, 0.5, 1.0), 8)
        '6 of 8 test inputs are classified right.'
    """
    return f"{round(accuracy.value * count):,} of {count:,} test inputs are classified right."


def nll_meaning(nll: Interval) -> str:
    """What a negative log-likelihood says.

    Example:
        >>> nll_meaning(Interval(math.log(2), 0.5, 1.0))
        'In nats. The true class is given a probability of 0.500 on (geometric) average.'
    """
    if math.isinf(nll.value):
        return "Infinite: some true class is given the probability 0."
    mean = math.exp(-nll.value)
    return f"In nats. The true class is given a probability of {mean:.3f} on (geometric) average."


def gap_meaning(probs: np.ndarray, labels: np.ndarray) -> str:
    """Whether confidence is above or below accuracy on the whole, or cannot be told from it.

    Told by the mean over inputs of confidence minus correctness, against 1.96 of its standard
    errors.

    Args:
        probs: (N, C).
        labels: (N,).

    Example:
        >>> gap_meaning(np.array([[0.9, 0.1]] * 50), np.arange(50) % 2)
        'On the whole overconfident: mean confidence 90.0 %, accuracy 50.0 %.'
    """
    confidence = probs.max(axis=1)
    gaps = confidence - (probs.argmax(axis=1) == labels)
    error = float(gaps.std()) / math.sqrt(len(gaps))
    gap = float(gaps.mean())
    numbers = f"mean confidence {confidence.mean():.1%}, accuracy {confidence.mean() - gap:.1%}."
    numbers = numbers.replace("%", " %")
    if abs(gap) <= 1.96 * error:
        return f"Neither over- nor underconfident on the whole: {numbers}"
    return f"On the whole {'over' if gap > 0 else 'under'}confident: {numbers}"


def auroc_meaning(auroc: Interval) -> str:
    """What an AUROC says, of a pair of inputs.

    Example:
        >>> auroc_meaning(Interval(0.974, 0.95, 0.99))
        'In 97.4 of 100 pairs of an OOD and an ID input, the OOD input has the higher score.'
    """
    pairs = f"{100 * auroc.value:.1f}".removesuffix(".0")
    return f"In {pairs} of 100 pairs of an OOD and an ID input, the OOD input has the higher score."


def mode_meaning(differences: Mapping[str, Any]) -> str:
    """Whether averaging networks changed the NLL, from the paired differences mean − mode.

    Example:
        >>> mode_meaning({"nll": Interval(-0.2, -0.3, -0.1)})
        'Averaging networks lowers the NLL by 0.2000 nats, beyond what the test inputs leave open.'
    """
    nll = differences["nll"]
    if math.isnan(nll.value) or math.isinf(nll.value):
        return "An infinite NLL leaves no difference to state."
    if nll.low <= 0.0 <= nll.high:
        return (
            "The interval of the difference in NLL holds 0: these test inputs leave open whether "
            "averaging networks helps."
        )
    verb = "lowers" if nll.value < 0 else "raises"
    return (
        f"Averaging networks {verb} the NLL by {abs(nll.value):.4f} nats, beyond what the test "
        "inputs leave open."
    )


def enough_networks(
    measured: Sequence[tuple[str, Any]], *, count: int, confidence_level: float
) -> str:
    """Whether more networks would make the numbers surer: errors over networks against inputs'.

    Args:
        measured: pairs of a name and its :class:`~bbnn_uq.monte_carlo.Measurement`.
        count: number of networks.
        confidence_level: of the intervals, in (0, 1).

    Example:
        >>> from bbnn_uq.monte_carlo import Measurement
        >>> number = Measurement(0.9, 0.86, 0.94, mc_error=0.002)
        >>> enough_networks([("accuracy", number)], count=32, confidence_level=0.95)
        'Yes: with all 32 networks each Monte Carlo error is at most 10 % of the standard error
         over test inputs.'
    """
    ratios = [
        (name, ratio)
        for name, number in measured
        if (ratio := _ratio(number, confidence_level)) is not None
    ]
    if not ratios:
        return "The numbers have no Monte Carlo error to compare, so this cannot be said."
    high = [(name, ratio) for name, ratio in ratios if ratio > MUCH_LESS]
    if not high:
        largest = math.ceil(100 * max(ratio for _, ratio in ratios))
        return (
            f"Yes: with all {count:,} networks each Monte Carlo error is at most {largest} % of "
            "the standard error over test inputs."
        )
    named = ", ".join(f"{name} ({100 * ratio:.0f} %)" for name, ratio in high)
    return (
        f"More would help: with all {count:,} networks the Monte Carlo error, as a share of the "
        f"standard error over test inputs, is large for {named}."
    )


def _ratio(number: Any, confidence_level: float) -> float | None:
    error = getattr(number, "mc_error", None)
    if error is None or not math.isfinite(error):
        return None
    quantile = NormalDist().inv_cdf(0.5 + confidence_level / 2.0)
    over_inputs = (number.high - number.low) / (2.0 * quantile)
    if error == 0.0:
        return 0.0
    return error / over_inputs if over_inputs > 0.0 and math.isfinite(over_inputs) else None
