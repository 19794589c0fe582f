"""The comparison as a value: JSON, Markdown, a data frame, a page."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbnn_uq._files import atomic_path, writable_folder
from bbnn_uq.comparison.rows import Row
from bbnn_uq.comparison.text import best_of, findings, markdown, notebook

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison"]

_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Comparison:
    """Numbers of several methods side by side, with differences to a baseline, as of `compare`.

    Args:
        baseline: name of the method that the others are compared with.
        methods: name → ``dataset``, ``n``, ``num_classes``, ``fingerprint``, ``other_inputs``
            (None, or why its inputs are not the baseline's), ``ood``: set name → number of inputs,
            and ``runs``: for each its folder and how networks were drawn. The baseline is first.
        rows: one for each method, set, score and metric.
        settings: bins, confidence level, resamples, seed and scores of all numbers here.
        notes: what to know before quoting a number, in sentences.
    """

    baseline: str
    methods: dict[str, dict[str, Any]]
    rows: Sequence[Row]
    settings: dict[str, Any]
    notes: Sequence[str]

    def __repr__(self) -> str:
        others = ", ".join(repr(name) for name in self.methods if name != self.baseline)
        return f"Comparison({others} with {self.baseline!r}: {len(self.rows)} rows)"

    @property
    def num_tests(self) -> int:
        """Number of tests that Holm's correction is over."""
        return sum(
            row.difference is not None and row.difference.test is not None for row in self.rows
        )

    def findings(self) -> list[str]:
        """A sentence for each method but the baseline: what differs beyond chance, and how."""
        return findings(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, one flat dictionary a row; numbers that are not finite are None."""
        return {
            "schema": _SCHEMA,
            "baseline": self.baseline,
            "settings": self._all_settings(),
            "methods": self.methods,
            "findings": self.findings(),
            "notes": list(self.notes),
            "rows": [
                {key: _json_value(value) for key, value in record.items()}
                for record in self._records()
            ],
        }

    def to_json(self) -> str:
        """:meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """Findings, and a table for each set."""
        return markdown(self)

    def to_frame(self) -> pd.DataFrame:
        """Tidy: one row for each method, set, score and metric; the baseline has no differences."""
        import pandas as pd

        return pd.DataFrame(self._records())

    def to_html(self) -> str:
        """One self-contained page that opens offline."""
        from bbnn_uq import pages

        return pages.comparison_page(
            baseline=self.baseline,
            settings=self._all_settings(),
            methods=self.methods,
            findings=self.findings(),
            notes=self.notes,
            rows=self._records(),
        )

    def _records(self) -> list[dict[str, Any]]:
        best = best_of(self.rows)
        return [_flat(row) | {"best": b} for row, b in zip(self.rows, best, strict=True)]

    def _all_settings(self) -> dict[str, Any]:
        return self.settings | {"num_tests": self.num_tests, "correction": "holm"}

    def _repr_html_(self) -> str:
        return notebook(self)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``comparison.json``, ``comparison.md`` and ``comparison.html``, each whole or not.

        Args:
            folder: created when missing; an earlier comparison in it is replaced.

        Returns:
            The folder.
        """
        texts = {".md": self.to_markdown(), ".html": self.to_html(), ".json": self.to_json()}
        target = writable_folder(folder)
        for suffix, text in texts.items():
            with atomic_path(target / f"comparison{suffix}") as temporary:
                temporary.write_text(text, encoding="utf-8")
        return target


def _flat(row: Row) -> dict[str, Any]:
    fields = asdict(row)
    value, difference = fields.pop("value"), fields.pop("difference") or {}
    names = {"value": "difference", "low": "difference_low", "high": "difference_high"}
    names |= {"mc_error": "difference_mc_error"}
    others = ("p_value", "p_adjusted", "test", "note")
    return {
        **fields,
        "better": "higher" if row.higher_is_better else "lower",
        **value,
        **{name: difference.get(key) for key, name in names.items()},
        **{key: difference.get(key) for key in others},
    }


def _json_value(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
