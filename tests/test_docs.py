"""Every page: its code runs from top to bottom, its fences say what they hold, its links lead on.

The blocks of a page run in one folder and one namespace, as a reader types along. A block that is
not run says why, in a comment on the line before it: ``<!-- not run: needs the network -->``.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import typer.main
import yaml

import bbnn_uq
from bbnn_uq import pages, report
from bbnn_uq.cli import main
from bbnn_uq.cli.app import app
from bbnn_uq.comparison import measures

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for page in ROOT.glob("docs/**/*.md") if "_build" not in page.parts),
]
LANGUAGES = {"python", "bash", "text", "json", "yaml", "toml", "bibtex"}
DIRECTIVES = {"{toctree}", "{eval-rst}", "{program-output}", "{math}", "{figure}", "{image}"}
REASONS = {"needs a GPU", "needs a cluster", "needs the network", "needs hours"}
COMMAND = re.compile(r"\s*\$?\s*(bbnn-uq|\S*python3?|torchrun|pip|make|git)\s+[-\w./]")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its first line's number, and why it is not run."""

    language: str
    text: str
    line: int
    reason: str | None
    follows: bool  # nothing stands between it and the block before

    @property
    def runs(self) -> bool:
        return self.reason is None and self.language in {"python", "bash"}


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, those within lists too."""
    found: list[Block] = []
    lines = text.splitlines()
    number, end = 0, -1
    while number < len(lines):
        fence = re.fullmatch(r"( *)(`{3,}|~{3,})(.*)", lines[number])
        if fence is None:
            number += 1
            continue
        start = number + 1
        closing = re.compile(rf" *{re.escape(fence[2])}{fence[2][0]}* *")
        number = next(n for n in range(start, len(lines)) if closing.fullmatch(lines[n]))
        before = lines[start - 2].strip() if start >= 2 else ""
        mark = re.fullmatch(r"<!-- not run: (.*?) -->", before)
        found.append(
            Block(
                language=fence[3].strip().split(" ")[0],
                text=textwrap.dedent("\n".join(lines[start:number])) + "\n",
                line=start + 1,
                reason=mark[1] if mark else None,
                follows=bool(found) and not any(line.strip() for line in lines[end : start - 1]),
            )
        )
        number += 1
        end = number
    return found


def blocks_of(page: Path) -> list[Block]:
    return blocks(page.read_text(encoding="utf-8"))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).with_suffix("").as_posix()


def run_python(block: Block, page: Path, names: dict) -> None:
    """With the page's own name and line numbers, so that a traceback points into it."""
    exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)


def joined(script: str) -> list[str]:
    return script.replace("\\\n", " ").splitlines()


def run_bash(block: Block, page: Path) -> None:
    for line in joined(block.text):
        words = shlex.split(line, comments=True)
        if not words:
            continue
        stated = re.search(r"# exit status (\d+)", line)
        wanted = int(stated[1]) if stated else 0
        where = f"{page.name}: {line}"
        if words[0] == "bbnn-uq":
            with pytest.raises(SystemExit) as stopped:
                main(words[1:])
            status = stopped.value.code
            if status == 0 and words[1] in {"demo", "ood", "evaluate"} and "--help" not in words:
                assert Path(words[words.index("--out") + 1], "report.html").is_file(), where
        elif words[0] == "python":
            status = run_script(words[1:])
        elif words[0] == "torchrun":
            status = run_processes(words[1:])
        else:
            pytest.fail(f"{where}\nis not run by tests: mark its block with one of {REASONS}")
        assert status == wanted, where


def run_script(arguments: list[str]) -> int:
    """As ``python FILE`` runs it, but for a new process; ``docs/…`` is in the repository."""
    file, *_ = arguments
    path = Path(file) if Path(file).exists() else ROOT / file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        patch.syspath_prepend(str(path.parent))
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def run_processes(arguments: list[str]) -> int:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    print(done.stdout, end="")
    if done.returncode != 0:
        print(done.stderr[-3000:], file=sys.stderr)
    return done.returncode


def check_output(shown: str, printed: str, where: str) -> None:
    """The output that a page shows, with … for what differs from machine to machine."""
    pieces = (re.escape(" ".join(piece.split())) for piece in shown.split("…"))
    agrees = re.fullmatch(r"\s?.*?\s?".join(pieces), " ".join(printed.split()), flags=re.DOTALL)
    assert agrees, f"{where} shows\n{shown}\nand its code printed\n{printed}"


# --- what pages promise beyond running --------------------------------------------------------


def after_python(outputs: list[str], names: dict) -> None:
    regression, inference, trust, numbers, optimizer = outputs
    assert 5.0 < float(regression.splitlines()[-1]) < 5.6  # ridge: 5.4
    assert Path("predictions.npz").is_file()
    assert "networks are drawn once and kept ready" in inference
    assert 0 < float(inference.split()[-1]) < 0.1  # the NLL's error over networks
    assert Path("calibration.json").is_file()
    *_, size, flagged = trust.splitlines()
    assert float(size.split()[0]) > 0.95
    inside, outside = map(float, flagged.split()[:2])
    assert inside < 0.15 < 0.7 < outside
    ece, difference, sets, auroc = numbers.splitlines()
    assert ece.startswith("Interval(value=0.")
    assert float(difference.split("high=")[1].rstrip(")")) < 0  # the NLL falls
    assert sets.startswith("ConformalReport(")
    assert "Interval(value=0.7" in auroc  # Phi(1 / sqrt 2) = 0.76
    assert float(optimizer) > 0


def after_metrics(outputs: list[str], names: dict) -> None:
    assert Path("reliability.png").is_file()
    # Whatever the page calls by its name is there.
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"`([a-z_0-9]+)[`(]", page)) - {"level"}:
        assert hasattr(bbnn_uq.metrics, name), name


def after_data(outputs: list[str], names: dict) -> None:
    assert "".join(outputs[1:]).splitlines() == [
        "ArrayData('mine', x of shape (100, 1, 28, 28), 2 classes)",
        "ArrayData('near_ood', x of shape (50, 1, 28, 28), no labels)",
        "2 (2, 3, 30, 40) (3, 30, 40) (2, 3, 30, 40)",
    ]


def after_ood_scores(outputs: list[str], names: dict) -> None:
    assert 0.5 < float(outputs[-1].split()[-1]) <= 1.0


def after_sklearn(outputs: list[str], names: dict) -> None:
    accuracy, _, ece, search = "".join(outputs).splitlines()
    assert float(accuracy) > 0.93
    assert 0.0 < float(ece) < 0.1
    assert float(search.split()[-1]) > 0.3
    assert names["mean"].shape == names["std"].shape == (5,)
    expected = names["classifier"].predict_proba(names["x"])
    np.testing.assert_allclose(names["probs"], expected, rtol=1e-9)


def after_comparing(outputs: list[str], names: dict) -> None:
    assert outputs[-1].startswith("weak against strong: ")
    page = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    written = json.loads(Path("runs/compared/comparison.json").read_text(encoding="utf-8"))
    method = written["methods"]["weak"]
    for key in {*written, *written["settings"], *written["rows"][0], *method}:
        assert f"`{key}`" in page, key


def after_at_scale(outputs: list[str], names: dict) -> None:
    """Parts, merged, give what all data at once give, and bounds hold what they bound."""
    assert names["total"].result() == names["accumulator"].result()
    exact = bbnn_uq.metrics.accuracy(names["probs"], names["labels"])
    assert names["total"].result().accuracy == pytest.approx(exact)
    auroc = bbnn_uq.metrics.ood_metrics(names["inside"], names["outside"]).auroc
    assert names["auroc"].low <= auroc <= names["auroc"].high


def after_recalibration(outputs: list[str], names: dict) -> None:
    temperature, coverage = map(float, outputs[-1].split())
    assert 1.8 < temperature < 2.4  # the stand-in squares probabilities, sharpening them
    assert 0.87 < coverage < 0.93


AFTER: dict[str, Callable[[list[str], dict], None]] = {
    "docs/python": after_python,
    "docs/metrics": after_metrics,
    "docs/data": after_data,
    "docs/ood_scores": after_ood_scores,
    "docs/sklearn": after_sklearn,
    "docs/comparing": after_comparing,
    "docs/at_scale": after_at_scale,
    "docs/recalibration": after_recalibration,
}


# Of their several reports only the numbers are looked at; drawing them takes seconds each.
WITHOUT_FIGURES = {
    "docs/comparing",
    "docs/data",
    "docs/how-to/ci_gate",
}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.runs for b in blocks_of(page))], ids=name_of
)
def test_its_code_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as of a prompt or a script in that folder
    torch.manual_seed(0)
    # No page shows an end of an interval, and checks of shapes make resamples slow in tests.
    monkeypatch.setattr(report, "NUM_RESAMPLES", 50)
    monkeypatch.setattr(measures, "NUM_RESAMPLES", 50)
    if name_of(page) in WITHOUT_FIGURES:
        monkeypatch.setattr(report, "draw_figures", lambda *_, **__: None)
        monkeypatch.setattr(pages, "report_page", lambda **_: "")
    loaded = set(sys.modules)
    names = {"__name__": "__page__"}
    outputs: list[str] = []
    printed = None  # by the block before, where that was run
    try:
        for block in blocks_of(page):
            if block.runs:
                if block.language == "python":
                    run_python(block, page, names)
                else:
                    run_bash(block, page)
                printed = capsys.readouterr().out
                outputs.append(printed)
            else:
                if block.language == "text" and block.follows and printed is not None:
                    check_output(block.text, printed, f"{page.name}, line {block.line},")
                printed = None
        AFTER.get(name_of(page), lambda *_: None)(outputs, names)
    finally:
        plt.close("all")
        for name in set(sys.modules) - loaded:  # modules that a page writes, or its scripts load
            file = str(getattr(sys.modules[name], "__file__", None))
            if file.startswith((str(tmp_path), str(ROOT / "docs"))):
                del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_its_blocks_say_what_they_hold(page):
    text = page.read_text(encoding="utf-8")
    for block in (found := blocks(text)):
        where = f"{page.name}, line {block.line}"
        assert block.language in LANGUAGES | DIRECTIVES, where
        assert block.reason is None or block.reason in REASONS, where
        if block.reason is not None and block.language == "python":
            compile(block.text, where, "exec")
        if block.reason is not None and block.language == "bash":
            check_commands(block.text)
        if block.language == "text":
            assert not any(COMMAND.match(line) for line in block.text.splitlines()), where
    # A mark that no block follows would be read as one that counts.
    assert len(re.findall("^ *<!-- not run:", text, flags=re.MULTILINE)) == sum(
        block.reason is not None for block in found
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([\w/.-]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


WORKFLOWS = [
    pytest.param(block.text, id=f"{name_of(page)}:{block.line}")
    for page in PAGES
    for block in blocks_of(page)
    if block.language == "yaml"
]


@pytest.mark.parametrize("text", WORKFLOWS)
def test_workflows_call_commands_that_exist(text):
    workflow = yaml.safe_load(text)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert sum(check_commands(step.get("run", "")) for step in steps) > 0


def check_commands(script: str) -> int:
    """That each `bbnn-uq` of a script is a command with options that it has; how many there are."""
    commands = typer.main.get_group(app).commands
    lines = [shlex.split(line, comments=True) for line in joined(script)]
    called = [words for words in lines if words and words[0] == "bbnn-uq"]
    for _, command, *arguments in called:
        known = {option for parameter in commands[command].params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= known, command
    return len(called)
