"""Gates: conditions on a report that decide the exit status, for continuous integration."""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

import typer

__all__ = ["Gate", "parse_gate", "report_gates"]

_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Gate:
    """A condition ``NAME OPERATOR NUMBER`` on one value of a report."""

    name: str
    symbol: str
    bound: float

    def check(self, report: dict[str, Any]) -> tuple[float | None, bool]:
        """The report's value and whether it passes; a value that is null does not.

        Args:
            report: as :meth:`bbnn_uq.Report.to_dict` gives it.

        Raises:
            ValueError: the report has no such value.
        """
        from bbnn_uq.scores import SCORES  # late: a command's --help needs none of it

        values = _values(report)
        if self.name not in values:
            near = get_close_matches(self.name, values, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(values)}"
            for set_, entry in report["ood"].items():
                score = self.name.removeprefix(f"ood.{set_}.").rpartition(".")[0]
                if score in SCORES and score not in entry["scores"]:
                    hint = f"score {score!r} is not computed, add it to --scores"
            raise ValueError(
                f"gate {self.name!r} names no value of this report (id.METRIC or "
                f"ood.SET.SCORE.METRIC); {hint}"
            )
        value = values[self.name]
        return value, value is not None and _OPERATORS[self.symbol](value, self.bound)

    def check_name(self, ood: Iterable[str], scores: Iterable[str]) -> None:
        """Raise at once, before anything is computed, when no report could have this value."""
        from bbnn_uq import metrics  # late, as above

        interval = {"value": None}
        numbers = {field.name: interval for field in fields(metrics.OODMetrics)}
        names = list(scores)
        self.check(
            {
                "id": dict.fromkeys(metrics.default_metrics(), interval),
                "ood": {set_: {"scores": dict.fromkeys(names, numbers)} for set_ in ood},
            }
        )


def parse_gate(text: str) -> Gate:
    """Parse ``id.METRIC>=X`` or ``ood.SET.SCORE.METRIC>=X``; also <=, > and <.

    Raises:
        ValueError: it is no such condition.

    Example:
        >>> parse_gate("ood.noise.entropy.auroc >= 0.9")
        Gate(name='ood.noise.entropy.auroc', symbol='>=', bound=0.9)
    """
    match = re.fullmatch(r"\s*(.+?)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
    try:
        if match:
            return Gate(match[1], match[2], float(match[3]))
    except ValueError:
        pass
    raise ValueError(
        f"gate {text!r} is no condition; write it as 'id.accuracy>=0.95' or "
        "'ood.noise.entropy.auroc>=0.9'"
    )


def report_gates(gates: Iterable[Gate], report: dict[str, Any], quiet: bool) -> None:
    """Say of each gate whether the report passes; leave with status 1 when it fails one.

    Raises:
        typer.Exit: one fails.
    """
    failed = False
    for gate in gates:
        value, passed = gate.check(report)
        failed |= not passed
        if passed and quiet:
            continue
        verdict = "passed" if passed else "FAILED"
        got = "no finite value" if value is None else f"{value:.6g}"
        text = f"gate {verdict}: {gate.name} {gate.symbol} {gate.bound:g}, got {got}"
        print(text, file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _values(report: dict[str, Any]) -> dict[str, float | None]:
    """Every value of a report by its gate name. Set names may hold dots; this needs no parsing."""
    values = {
        f"id.{metric}": entry["value"]
        for metric, entry in report["id"].items()
        if isinstance(entry, dict)
    }
    for name, entry in report["ood"].items():
        for score, numbers in entry["scores"].items():
            values |= {f"ood.{name}.{score}.{m}": number["value"] for m, number in numbers.items()}
    return values
