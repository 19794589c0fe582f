"""What the README shows, run as it stands."""

import re
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

import bbnn_uq
from bbnn_uq.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, regression, inference, trust, numbers, optimizer = blocks("python")
    exec(compile(first, "README.md", "exec"), {})
    assert "25,856 weights" in capsys.readouterr().out
    assert (tmp_path / "runs" / "python" / "report.json").is_file()
    exec(compile(regression, "README.md", "exec"), {})
    assert 5.0 < float(capsys.readouterr().out.splitlines()[-1]) < 5.6  # ridge: 5.4
    exec(compile(inference, "README.md", "exec"), {})
    assert (tmp_path / "predictions.npz").is_file()
    shown = capsys.readouterr().out
    assert "networks are drawn once and kept ready" in shown
    assert 0 < float(shown.split()[-1]) < 0.1  # the NLL's error over networks
    exec(compile(trust, "README.md", "exec"), {})
    assert (tmp_path / "calibration.json").is_file()
    *_, size, flagged = capsys.readouterr().out.splitlines()
    assert float(size.split()[0]) > 0.95
    inside, outside = map(float, flagged.split()[:2])
    assert inside < 0.15 < 0.7 < outside
    exec(compile(numbers, "README.md", "exec"), {})
    ece, difference, sets, auroc = capsys.readouterr().out.splitlines()
    assert ece.startswith("Interval(value=0.")
    assert float(difference.split("high=")[1].rstrip(")")) < 0  # the NLL falls
    assert sets.startswith("ConformalReport(")
    assert "Interval(value=0.7" in auroc  # Phi(1 / sqrt 2) = 0.76
    torch.manual_seed(0)
    exec(compile(optimizer, "README.md", "exec"), {})
    assert float(capsys.readouterr().out) > 0


def test_the_page_of_metrics_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(code, "metrics.md", "exec"), {})
    assert (tmp_path / "reliability.png").is_file()
    # Whatever the page calls by its name is there.
    for name in set(re.findall(r"`([a-z_0-9]+)[`(]", page)) - {"level"}:
        assert hasattr(bbnn_uq.metrics, name), name
    plt.close("all")


def test_commands_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (script,) = blocks("bash")
    for line in script.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "bbnn-uq"
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 0, (line, capsys.readouterr().err)
    assert (tmp_path / "runs" / "digits" / "ood" / "reliability.png").is_file()


@pytest.mark.parametrize("target", re.findall(r"\]\(([\w/.-]+)\)", README))
def test_links_lead_somewhere(target):
    assert (Path(__file__).parent.parent / target).exists()
