"""Enough networks? The Monte Carlo error of any number of a report, and how it falls with S.

An interval over test inputs says how a number would move on other inputs, with the same networks.
What stands here says how it would move with other networks, on the same inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq._checks import check_count, check_seed
from bbnn_uq.metrics import Interval
from bbnn_uq.predictive import Predictive
from bbnn_uq.regression import RegressionPredictive

__all__ = [
    "Measurement",
    "MetricCurve",
    "common_groups",
    "jackknife_error",
    "metric_curve",
    "metric_curves",
    "monte_carlo_error",
    "monte_carlo_errors",
]

AnyPredictive: TypeAlias = Predictive | RegressionPredictive

MAX_GROUPS = 100  # of kept samples: the error of an error is then 7 %, and more would take long


@dataclass(frozen=True)
class Measurement(Interval):
    """A metric's value, its interval over test inputs, and its error over networks.

    Attributes:
        mc_error: Monte Carlo standard error over networks, which is not part of the interval;
            None when the networks cannot be told apart.
    """

    mc_error: float | None = None


def jackknife_error(values: Sequence[float]) -> float:
    """Standard error of a number from its values θ₍g₎ without each of G groups.

    √((G − 1) / G · Σ_g (θ₍g₎ − θ̄)²), θ̄ = (1 / G) Σ_g θ₍g₎.

    For a mean over groups of equal size this is the standard error √(s² / G) itself.

    Source: Efron, Stein 1981; for groups, Shao, Wu 1989.

    Args:
        values: one for each group, at least two.

    Returns:
        The error, at least 0, in the number's unit; NaN when a value is not finite.

    Raises:
        ValueError: there are fewer than two values.

    Example:
        >>> round(jackknife_error([2.5, 2.0, 1.5]), 4)  # of the mean of 1, 2, 3
        0.5774
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(
            f"values must be one number for each of at least 2 groups, got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        return math.nan
    return math.sqrt((len(array) - 1) * float(array.var()))


def common_groups(*predictives: AnyPredictive) -> int:
    """Number of groups of networks that can be left out of all these predictives at once.

    Their ``num_groups`` where all of them have groups, of the same number; otherwise, where all
    of them kept the samples of the same number of networks, that number, at most 100. 0 when they
    have no groups in common, come from different networks (number, seed, method), or are of the
    mode, which is no random draw.
    """
    return _common_groups(predictives)[0]


def monte_carlo_error(
    statistic: Callable[..., float], predictive: AnyPredictive, *others: AnyPredictive
) -> float:
    """Monte Carlo standard error of any number of a predictive: by how much other networks move it.

    The delete-a-group jackknife: the networks fall into G groups, s mod G, the number is computed
    without each of them, and the spread of the G results is scaled up (:func:`jackknife_error`).
    It holds for numbers that are smooth in the probabilities; the error is itself uncertain by a
    share of about 1 / √(2 (G − 1)), 27 % at 8 groups.

    Args:
        statistic: called as ``statistic(predictive, *others)``, returns a number.
        predictive: predicted with groups, or with its samples kept, of which each is then a
            group of its own (beyond 100 networks, 100 groups s mod 100).
        others: predictives of the same networks on other inputs, such as OOD sets: the same
            groups are left out of all at once, so that what they share is accounted for.

    Returns:
        The standard error, in the number's unit; NaN when the number is not finite.

    Raises:
        ValueError: the predictives have no groups of networks in common.

    Example:
        >>> samples = [[[0.9, 0.1]], [[0.5, 0.5]], [[0.7, 0.3]]]
        >>> predictive = Predictive.from_samples(samples)
        >>> round(monte_carlo_error(lambda p: p.probs[0, 0], predictive), 4)
        0.1155
        >>> predictive.probs_std_error.round(4)  # of every probability
        array([[0.1155, 0.1155]])
    """

    def named(*left: AnyPredictive) -> dict[str, float]:
        return {"": statistic(*left)}

    return monte_carlo_errors(named, predictive, *others)[""]


def monte_carlo_errors(
    statistics: Callable[..., Mapping[str, float]],
    predictive: AnyPredictive,
    *others: AnyPredictive,
    max_groups: int = MAX_GROUPS,
) -> dict[str, float]:
    """:func:`monte_carlo_error` of many numbers at once, for one pass over the groups.

    Args:
        statistics: as ``statistic`` there, but returns numbers by name.
        predictive: as there.
        others: as there.
        max_groups: into how many groups kept samples are taken at most; fewer take less time, and
            make the errors less certain.

    Returns:
        Standard errors by name.

    Raises:
        ValueError: the predictives have no groups of networks in common.
    """
    predictives = (predictive, *others)
    count, own = _common_groups(predictives, most=check_count(max_groups, "max_groups", minimum=2))
    if not count:
        raise ValueError(_why_none(predictives))
    if own:
        without = zip(*(each.leave_out for each in predictives), strict=True)
    else:
        rest = ([h for h in range(count) if h != g] for g in range(count))
        without = ([_of_samples(each, kept, count) for each in predictives] for kept in rest)
    values = [statistics(*left) for left in without]
    return {name: jackknife_error([each[name] for each in values]) for name in values[0]}


@dataclass(frozen=True, eq=False)
class MetricCurve:
    """A metric against the number of networks.

    Args:
        num_networks: S′, the mean size of the subsets of each point, (K,), increasing.
        mean: of the metric over the subsets, (K,).
        std: standard deviation of the metric over the subsets, (K,); NaN for a single one.
        num_subsets: number of disjoint subsets, (K,).
    """

    num_networks: Float64[np.ndarray, " points"]
    mean: Float64[np.ndarray, " points"]
    std: Float64[np.ndarray, " points"]
    num_subsets: Int64[np.ndarray, " points"]


def metric_curve(
    statistic: Callable[..., float],
    predictive: AnyPredictive,
    *others: AnyPredictive,
    seed: int = 0,
) -> MetricCurve:
    """A metric of the average over S′ networks, for S′ = 1, 2, 4, … up to all S.

    The networks (or their groups, when no samples were kept) are put in random order and cut
    into disjoint subsets of S′; the metric is computed on each. So ``mean`` is an unbiased
    estimate of what one may expect of a prediction with S′ networks, and ``std`` of how much it
    differs between two such predictions: the Monte Carlo standard error at S′. Where ``mean`` has
    become flat beside ``std``, more networks change nothing that one could see. At S there is one
    subset and ``std`` is NaN; :func:`monte_carlo_error` estimates it there. Points share their
    networks, so a step between neighbours that is small beside ``std`` may still be real.

    Args:
        statistic: called as ``statistic(predictive, *others)``, returns a number.
        predictive: predicted with its samples kept, or with groups; with G groups S′ starts at
            S / G. Where it has both, the samples are taken; they do not give the energy.
        others: predictives of the same networks on other inputs; each subset is taken of all.
        seed: of the random order.

    Returns:
        The :class:`MetricCurve`, for :func:`bbnn_uq.plots.metric_against_networks`.

    Raises:
        ValueError: the predictives have no networks or groups in common, or the seed is invalid.

    Example:
        >>> predictive = Predictive.from_samples([[[0.8, 0.2]], [[0.4, 0.6]]] * 2)
        >>> curve = metric_curve(lambda p: p.mutual_information[0], predictive)
        >>> curve.num_networks, curve.num_subsets, curve.mean[:1]  # one network has none
        (array([1., 2., 4.]), array([4, 2, 1]), array([0.]))
    """

    def named(*subset: AnyPredictive) -> dict[str, float]:
        return {"": statistic(*subset)}

    return metric_curves(named, predictive, *others, seed=seed)[""]


def metric_curves(
    statistics: Callable[..., Mapping[str, float]],
    predictive: AnyPredictive,
    *others: AnyPredictive,
    seed: int = 0,
) -> dict[str, MetricCurve]:
    """:func:`metric_curve` of many metrics at once, on the same subsets.

    Args:
        statistics: as ``statistic`` there, but returns numbers by name.
        predictive: as there.
        others: as there.
        seed: as there.

    Returns:
        Curves by name.

    Raises:
        ValueError: as there.
    """
    generator = np.random.default_rng(check_seed(seed))
    predictives = (predictive, *others)
    count, own = _common_groups(predictives, most=None, samples_first=True)
    if not count:
        raise ValueError(_why_none(predictives))
    order = generator.permutation(count)
    points: dict[str, list[tuple[float, float, float, int]]] = {}
    for size in [*(2**k for k in range((count - 1).bit_length())), count]:
        found, networks = [], []
        for groups in order[: count - count % size].reshape(-1, size).tolist():
            taken = [
                each.of_groups(groups) if own else _of_samples(each, groups, count)
                for each in predictives
            ]
            found.append(statistics(*taken))
            networks.append(taken[0].num_samples)
        for name in found[0]:
            values = [float(each[name]) for each in found]
            with np.errstate(invalid="ignore"):  # an infinite NLL has no spread
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
            point = (float(np.mean(networks)), float(np.mean(values)), spread, len(values))
            points.setdefault(name, []).append(point)
    return {
        name: MetricCurve(*(np.array(column) for column in zip(*rows, strict=True)))
        for name, rows in points.items()
    }


def _common_groups(
    predictives: Sequence[AnyPredictive],
    *,
    most: int | None = MAX_GROUPS,
    samples_first: bool = False,
) -> tuple[int, bool]:
    """Number of groups that all have, or 0, and whether they are their own or kept samples."""
    networks = {(each.num_samples, each.seed, each.method) for each in predictives}
    if len(networks) > 1 or predictives[0].method == "mode":
        return 0, False
    own = {each.num_groups for each in predictives}
    kept = {_num_kept(each) for each in predictives}
    choices = [(own, True), (kept, False)]
    for numbers, are_own in reversed(choices) if samples_first else choices:
        number = min(numbers)
        if len(numbers) == 1 and number > 1:
            return (number if are_own or most is None else min(number, most)), are_own
    return 0, False


def _num_kept(predictive: AnyPredictive) -> int:
    # Of real targets the samples are means alone, and the noise of each network is not known.
    if not isinstance(predictive, Predictive) or predictive.samples is None:
        return 0
    return len(predictive.samples)


def _of_samples(predictive: AnyPredictive, groups: Collection[int], count: int) -> Predictive:
    assert predictive.samples is not None
    chosen = np.isin(np.arange(len(predictive.samples)) % count, list(groups))
    return Predictive.from_samples(predictive.samples[chosen], metadata=predictive.metadata)


def _why_none(predictives: Sequence[AnyPredictive]) -> str:
    about = [f"{each.num_samples} of seed {each.seed} by {each.method}" for each in predictives]
    networks = list(dict.fromkeys(about))
    if len(networks) > 1:
        return (
            f"the predictives come from different networks ({'; '.join(networks)}); predict all "
            "with the same num_samples, seed and method"
        )
    if predictives[0].method == "mode":
        return "the mode is no random draw, so it has no Monte Carlo error; draw networks instead"
    groups = [each.num_groups for each in predictives]
    if min(groups) > 0:
        return (
            f"the predictives have {groups} groups of networks; predict all with the same "
            "num_groups"
        )
    return (
        f"the networks cannot be told apart: {groups} groups and {predictives[0].num_samples} "
        "networks; predict with num_groups between 2 and num_samples, or classes with "
        "keep_samples=True"
    )
