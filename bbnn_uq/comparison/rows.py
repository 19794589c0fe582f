"""Each number of each method, and its difference to the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bbnn_uq.comparison.measures import TESTED, Measure, OnID, OnOOD, Settings
from bbnn_uq.comparison.runs import Method
from bbnn_uq.comparison.significance import difference_of_means, holm, mean_of_runs
from bbnn_uq.metrics import Interval

__all__ = ["Difference", "Row", "all_rows"]

HIGHER_IS_BETTER = ("accuracy", "auroc", "aupr_out", "aupr_in")

Done = Callable[[str], None]


@dataclass(frozen=True)
class Difference(Interval):
    """A method's value less the baseline's.

    Attributes:
        p_value: two-sided, for no difference; None where there is no test.
        p_adjusted: the same after Holm's correction over all tests of the comparison.
        test: name of the test.
        mc_error: Monte Carlo error over networks of the difference of two single runs, their
            networks taken as independent; the interval does not hold it. None where a report
            states no error.
        note: why there is no difference, interval or test.
    """

    p_value: float | None = None
    p_adjusted: float | None = None
    test: str | None = None
    mc_error: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Row:
    """One number of one method.

    Attributes:
        method: its name.
        kind: ``id`` or ``ood``.
        dataset: name of the ID or OOD set.
        n: number of inputs of that set.
        choice: ``named``; or, in rows where each method has a score of its own, ``first``, the one
            that it was first asked for, or ``best``, the one of highest AUROC on these inputs.
        score: OOD score; None of ID metrics.
        baseline_score: the baseline's score that the difference is to.
        metric: ``accuracy``, ``auroc``, ….
        same_inputs: whether the runs were measured on the inputs of the baseline's runs.
        num_runs: number of runs that ``value`` is the mean of.
        value: with the bootstrap interval over inputs of a single run, or Student's over runs.
        std_error: standard error over runs; None of a single run.
        mc_error: the error over networks that the report of a single run states.
        difference: None of the baseline.
    """

    method: str
    kind: str
    dataset: str
    n: int
    choice: str
    score: str | None
    baseline_score: str | None
    metric: str
    same_inputs: bool
    num_runs: int
    value: Interval
    std_error: float | None
    mc_error: float | None
    difference: Difference | None

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value is better."""
        return self.metric in HIGHER_IS_BETTER


def all_rows(
    methods: Sequence[Method], settings: Settings, scores: Sequence[str] | None, done: Done
) -> list[Row]:
    """Rows of the ID metrics, then of each OOD set, with Holm's correction over all their tests.

    Args:
        methods: the baseline first.
        settings: of all numbers.
        scores: names of the OOD scores to compare, the first of them first; when not given, all in
            the order of each report.
        done: called with a few words after each step.
    """
    rows = list(_on_id(methods, settings, done))
    for set_ in dict.fromkeys(set_ for method in methods for set_ in method.sets):
        rows += _on_ood(set_, methods, settings, scores, done)
    tested = [
        i for i, row in enumerate(rows) if row.difference and row.difference.p_value is not None
    ]
    adjusted = holm([_p_value(rows[i]) for i in tested])
    for i, p_adjusted in zip(tested, adjusted, strict=True):
        difference = rows[i].difference
        assert difference is not None
        rows[i] = replace(rows[i], difference=replace(difference, p_adjusted=p_adjusted))
    return rows


def _p_value(row: Row) -> float:
    assert row.difference is not None
    assert row.difference.p_value is not None
    return row.difference.p_value


def _on_id(methods: Sequence[Method], settings: Settings, done: Done) -> Iterator[Row]:
    baseline = methods[0]
    rows = []
    for method in methods:
        run = method.runs[0]
        why_apart = run.other_inputs(baseline.runs[0])
        about = {
            "kind": "id",
            "dataset": run.dataset,
            "n": len(run.labels),
            "same_inputs": why_apart is None,
        }
        rows += _measured(OnID(settings), method, baseline, why_apart, about)
        done(method.name)
    yield from _by_metric(rows)


def _on_ood(
    set_: str,
    methods: Sequence[Method],
    settings: Settings,
    scores: Sequence[str] | None,
    done: Done,
) -> Iterator[Row]:
    baseline = methods[0]
    offered = {method.name: _chosen(method.scores_of(set_), scores) for method in methods}
    why_apart = {method.name: _why_apart(method, baseline, set_) for method in methods}

    def rows_of(method: Method, score: str, baseline_score: str, choice: str) -> list[Row]:
        why = why_apart[method.name]
        about = {
            "kind": "ood",
            "dataset": set_,
            "same_inputs": why is None,
            "n": len(method.runs[0].scores["ood/" + set_][score]),
            "choice": choice,
            "score": score,
            "baseline_score": baseline_score,
        }
        if why is None and baseline_score not in offered[baseline.name]:
            why = "the baseline has no such score"
        measure = OnOOD(settings, set_, score, baseline_score)
        return _measured(measure, method, baseline, why, about)

    named: list[Row] = []
    for score in dict.fromkeys(score for names in offered.values() for score in names):
        having = [method for method in methods if score in offered[method.name]]
        rows = []
        for method in having:
            rows += rows_of(method, score, score, "named")
            done(f"{method.name}, {score}")
        named += _by_metric(rows)
    yield from named
    for method in methods[1:]:
        first = [offered[each.name][0] for each in (method, baseline) if offered[each.name]]
        if len(set(first)) == 2:
            yield from rows_of(method, first[0], first[1], "first")
    if max(len(names) for names in offered.values()) > 1:
        yield from _best(named, baseline.name, why_apart)


def _chosen(offered: Sequence[str], scores: Sequence[str] | None) -> list[str]:
    return list(offered) if scores is None else [score for score in scores if score in offered]


def _why_apart(method: Method, baseline: Method, set_: str) -> str | None:
    """Why numbers of the OOD set are not of the same inputs as the baseline's."""
    if set_ not in method.sets or set_ not in baseline.sets:
        return "the baseline was not evaluated against this set"
    run, other = method.runs[0], baseline.runs[0]
    inside = run.other_inputs(other)
    return run.other_ood_inputs(other, set_) if inside is None else f"ID set: {inside}"


def _best(rows: Sequence[Row], baseline: str, why_apart: dict[str, str | None]) -> Iterator[Row]:
    """The row of highest AUROC of each method; no interval is right for a difference of those."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.metric == "auroc":
            best[row.method] = max(best.get(row.method, row), row, key=lambda r: r.value.value)
    base = best.get(baseline)
    for row in best.values():
        difference = None
        if row.method != baseline:
            why, gap = why_apart[row.method], math.nan
            if why is None and base is not None:
                why, gap = "scores picked on these inputs", row.value.value - base.value.value
            difference = Difference(gap, math.nan, math.nan, note=why)
        score = None if base is None else base.score
        yield replace(row, choice="best", baseline_score=score, difference=difference)


def _by_metric(rows: Sequence[Row]) -> Iterator[Row]:
    """The methods of each metric side by side."""
    for metric in dict.fromkeys(row.metric for row in rows):
        yield from (row for row in rows if row.metric == metric)


def _measured(
    measure: Measure, method: Method, baseline: Method, why_apart: str | None, about: dict[str, Any]
) -> list[Row]:
    single = len(method.runs) == 1
    values: dict[str, tuple[Interval, float | None]]
    if single:
        values = {name: (each, None) for name, each in measure.intervals(method.runs[0]).items()}
    else:
        level = measure.settings.confidence_level
        values = {
            name: mean_of_runs(each, level) for name, each in _points(measure, method).items()
        }
    differences: dict[str, Difference | None] = dict.fromkeys(values)
    if method is not baseline and why_apart is not None:
        differences = dict.fromkeys(
            values, Difference(math.nan, math.nan, math.nan, note=why_apart)
        )
    elif method is not baseline:
        differences.update(_differences(measure, method, baseline))
    common: dict[str, Any] = {"choice": "named", "score": None, "baseline_score": None, **about}
    return [
        Row(
            method=method.name,
            metric=name,
            num_runs=len(method.runs),
            value=value,
            std_error=error,
            mc_error=measure.mc_error(method.runs[0], name) if single else None,
            difference=differences[name],
            **common,
        )
        for name, (value, error) in values.items()
    ]


def _points(measure: Measure, method: Method) -> dict[str, list[float]]:
    """The values of each metric, one for each run."""
    points = [measure.points(run) for run in method.runs]
    return {name: [each[name] for each in points] for name in points[0]}


def _differences(measure: Measure, method: Method, baseline: Method) -> dict[str, Difference]:
    if len(method.runs) == len(baseline.runs) == 1:
        found = _of_single_runs(measure, method, baseline)
        if found:
            return found
    values, others = _points(measure, method), _points(measure.of_baseline, baseline)
    if min(len(method.runs), len(baseline.runs)) > 1:
        return {name: _of_groups(measure, name, values[name], others[name]) for name in values}
    alone = len(method.runs) == len(baseline.runs)
    note = "a single input" if alone else "a single run against several"
    return {
        name: Difference(_gap(values[name], others[name]), math.nan, math.nan, note=note)
        for name in values
    }


def _of_single_runs(measure: Measure, method: Method, baseline: Method) -> dict[str, Difference]:
    run, other = method.runs[0], baseline.runs[0]

    def mc_error(metric: str) -> float | None:
        ours, theirs = measure.mc_error(run, metric), measure.of_baseline.mc_error(other, metric)
        return None if ours is None or theirs is None else math.hypot(ours, theirs)

    return {
        name: Difference(
            **paired.difference.to_dict(),
            p_value=paired.p_value,
            test=paired.test if paired.p_value is not None else None,
            mc_error=mc_error(name),
            note=_why_untested(paired.test, paired.p_value),
        )
        for name, paired in measure.paired(run, other).items()
    }


def _of_groups(
    measure: Measure, metric: str, values: Sequence[float], others: Sequence[float]
) -> Difference:
    level = measure.settings.confidence_level
    interval, p_value = difference_of_means(values, others, level)
    test = "Welch t" if metric in TESTED else None
    return Difference(
        **interval.to_dict(),
        p_value=None if test is None else p_value,
        test=None if p_value is None else test,
        note=_why_untested(test, p_value),
    )


def _why_untested(test: str | None, p_value: float | None) -> str | None:
    untested = test is not None and p_value is None
    return "no test: an infinite loss, or no spread" if untested else None


def _gap(values: Sequence[float], others: Sequence[float]) -> float:
    with np.errstate(invalid="ignore"):  # inf - inf = NaN is meant
        return float(np.mean(values) - np.mean(others))
