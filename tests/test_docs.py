"""Every Python block of the pages in docs/, run as it stands."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

import bbnn_uq

ROOT = Path(__file__).parent.parent
PAGES = sorted(ROOT.glob("docs/**/*.md"))


def python_blocks(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def run(code):
    torch.manual_seed(0)
    exec(compile(code, "block", "exec"), {})


def test_python_parts_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    regression, inference, trust, numbers, optimizer = python_blocks("python.md")
    run(regression)
    assert 5.0 < float(capsys.readouterr().out.splitlines()[-1]) < 5.6  # ridge: 5.4
    run(inference)
    assert (tmp_path / "predictions.npz").is_file()
    shown = capsys.readouterr().out
    assert "networks are drawn once and kept ready" in shown
    assert 0 < float(shown.split()[-1]) < 0.1  # the NLL's error over networks
    run(trust)
    assert (tmp_path / "calibration.json").is_file()
    *_, size, flagged = capsys.readouterr().out.splitlines()
    assert float(size.split()[0]) > 0.95
    inside, outside = map(float, flagged.split()[:2])
    assert inside < 0.15 < 0.7 < outside
    run(numbers)
    ece, difference, sets, auroc = capsys.readouterr().out.splitlines()
    assert ece.startswith("Interval(value=0.")
    assert float(difference.split("high=")[1].rstrip(")")) < 0  # the NLL falls
    assert sets.startswith("ConformalReport(")
    assert "Interval(value=0.7" in auroc  # Phi(1 / sqrt 2) = 0.76
    run(optimizer)
    assert float(capsys.readouterr().out) > 0


def test_the_page_of_metrics_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = python_blocks("metrics.md")
    run(code)
    assert (tmp_path / "reliability.png").is_file()
    # Whatever the page calls by its name is there.
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"`([a-z_0-9]+)[`(]", page)) - {"level"}:
        assert hasattr(bbnn_uq.metrics, name), name
    plt.close("all")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([\w/.-]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
