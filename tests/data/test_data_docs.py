"""docs/data.md: its tables say what the package does."""

from __future__ import annotations

from pathlib import Path

from bbnn_uq.data import CORRUPTIONS, data_names

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_its_tables_are_complete() -> None:
    specs, *_ = PAGE.split("## Shapes")
    assert [name for name in data_names() if f"`{name}`" not in specs] == []
    for kind, amounts in CORRUPTIONS.items():
        row = f"| `{kind}` | " + " | ".join(f"{amount:g}" for amount in amounts) + " |"
        assert row in PAGE
