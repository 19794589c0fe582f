"""A report as a tidy table, and as a notebook shows it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bbnn_uq._html import html_block, html_list, html_table
from bbnn_uq.metrics import Interval
from bbnn_uq.monte_carlo import Measurement
from bbnn_uq.verdict import METRIC_NAMES, PICKED, average_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["report_frame", "report_html"]

COLUMNS = ("dataset", "kind", "score", "metric", "value", "low", "high", "mc_error", "n")


def report_frame(
    id: Mapping[str, Any], ood: Mapping[str, Mapping[str, Any]], mode: Mapping[str, Any] | None
) -> pd.DataFrame:
    """One row for each number of a report: see :meth:`bbnn_uq.Report.to_frame`."""
    import pandas as pd  # late: evaluating needs none of it

    rows = [(id["dataset"], "id", None, *row, id["n"]) for row in _rows(id)]
    if mode is not None:
        for kind, numbers in (("mode", mode), ("mean_minus_mode", mode["mean_minus_mode"])):
            rows += [(id["dataset"], kind, None, *row, id["n"]) for row in _rows(numbers)]
    for name, entry in ood.items():
        for score, numbers in entry["scores"].items():
            rows += [(name, "ood", score, *row, entry["n"]) for row in _rows(numbers)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def report_html(
    verdict: Mapping[str, Any],
    id: Mapping[str, Any],
    ood: Mapping[str, Mapping[str, Any]],
    inference: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> str:
    """A notebook's display of a report: the numbers to look at first, and the warnings."""
    level = f"[{100 * settings['confidence_level']:g} %]"
    measured = {name: value for name, value in id.items() if isinstance(value, Interval)}
    title = f"{id['dataset']}, {id['n']:,} test inputs, {average_name(inference)}"
    columns = ["", "value", level, "± over networks"]
    rows = [[METRIC_NAMES.get(name, name), *_cells(value)] for name, value in measured.items()]
    parts = [html_table(title, columns, rows)]
    if ood:
        rows = []
        for each in verdict["ood"]:
            name = f"{each['name']} ({each['n']:,})"
            rows.append([name, each["score"], "first", *_cells(each["auroc"])])
            best = f"best of {each['num_scores']}*"
            rows.append(["", each["best_score"], best, *_cells(each["best_auroc"])])
        columns = ["OOD set", "score", "chosen", "AUROC", level, "± over networks"]
        parts += [html_table("Out-of-distribution detection", columns, rows)]
    notes = [f"* {PICKED}"] if ood else []
    return html_block(*parts, html_list([*notes, *verdict["warnings"]]))


def _rows(numbers: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for metric, number in numbers.items():
        if isinstance(number, Interval):
            error = number.mc_error if isinstance(number, Measurement) else None
            known = math.nan if error is None else error
            yield metric, number.value, number.low, number.high, known


def _cells(number: Interval) -> list[str]:
    error = number.mc_error if isinstance(number, Measurement) else None
    over_networks = "–" if error is None or math.isnan(error) else f"{error:.4f}"
    return [f"{number.value:.4f}", f"[{number.low:.4f}, {number.high:.4f}]", over_networks]
