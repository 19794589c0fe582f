"""docs/data.md: its code runs, and its tables say what the package does."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from bbnn_uq.data import CORRUPTIONS, data_names

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_its_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "data.md", "exec"), names)
    sys.modules.pop("lab", None)
    assert capsys.readouterr().out.splitlines() == [
        "ArrayData('mine', x of shape (100, 1, 28, 28), 2 classes)",
        "ArrayData('near_ood', x of shape (50, 1, 28, 28), no labels)",
        "2 (2, 3, 30, 40) (3, 30, 40) (2, 3, 30, 40)",
    ]


def test_its_tables_are_complete() -> None:
    specs, *_ = PAGE.split("## Shapes")
    assert [name for name in data_names() if f"`{name}`" not in specs] == []
    for kind, amounts in CORRUPTIONS.items():
        row = f"| `{kind}` | " + " | ".join(f"{amount:g}" for amount in amounts) + " |"
        assert row in PAGE
