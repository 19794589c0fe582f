"""``bbnn-uq compare``: what it prints and writes, and how it fails."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from cli_cases import snapshot

from bbnn_uq import Predictive, evaluate, pages, report
from bbnn_uq.cli.comparison_tables import named_folders
from bbnn_uq.comparison import compare, measures

LABELS = np.arange(50) % 3


def save(folder, seed):
    """An evaluation folder without figures."""

    def probs(count, strength):
        logits = np.random.default_rng(seed + count).normal(size=(count, 3))
        logits[:, :1] += strength
        weights = np.exp(logits)
        return weights / weights.sum(axis=1, keepdims=True)

    inside = Predictive.from_probs(probs(50, 0.5))
    inside.metadata["dataset"] = "[bold]inside"
    evaluate(
        inside,
        LABELS,
        ood={"near": Predictive.from_probs(probs(30, 0.0))},
        scores=["entropy", "margin"],
    ).save(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_figures", lambda *_, **__: None)
        patch.setattr(pages, "report_page", lambda **_: "")
        patch.setattr(report, "NUM_RESAMPLES", 20)
        for seed, name in enumerate(("a", "b", "c", "d")):
            save(folder / name, seed)
    return folder


@pytest.fixture(autouse=True)
def _here(made, monkeypatch):
    monkeypatch.chdir(made)
    monkeypatch.setattr(measures, "NUM_RESAMPLES", 20)


def test_it_prints_the_numbers_and_writes_nothing_unasked(made, run):
    before = snapshot(made)
    outcome = run("compare", "a", "b")
    assert (outcome.status, outcome.err) == (0, "")
    frame = compare(["a", "b"]).to_frame()
    nll = frame.query("method == 'b' and metric == 'nll'").iloc[0]
    plain = " ".join(outcome.out.replace("−", "-").split())
    assert f"{nll.value:.4f}" in plain
    assert f"{nll.difference:+.4f} [{nll.difference_low:+.4f}, {nll.difference_high:+.4f}]" in plain
    assert "[bold]inside, 50 inputs" in outcome.out
    assert "AUROC against near, 30 OOD inputs" in outcome.out
    assert "★" in outcome.out
    assert "b against a: " in outcome.out
    assert "nothing of another training seed" in plain
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    assert snapshot(made) == before


@pytest.mark.parametrize("width", ["40", "200"])
def test_it_fits_the_terminal(run, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    outcome = run("compare", "a", "b")
    assert outcome.status == 0
    assert max(len(line) for line in outcome.out.splitlines()) <= int(width)
    assert "…" not in outcome.out.replace("DIR,DIR,…", "").replace("DIR,…", "").replace(",…", "")


def test_json_is_what_is_written(run, tmp_path):
    outcome = run("compare", "a", "b", "--json", "--out", tmp_path / "new" / "er")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == (tmp_path / "new/er/comparison.json").read_text(encoding="utf-8")
    assert json.loads(outcome.out)["baseline"] == "a"
    assert {file.name for file in (tmp_path / "new/er").iterdir()} == {
        "comparison.json",
        "comparison.md",
        "comparison.html",
    }


def test_it_says_where_it_wrote_unless_quiet(run, tmp_path):
    outcome = run("compare", "a", "b", "--out", tmp_path / "x")
    files = "comparison.html, comparison.md and comparison.json"
    assert outcome.out.endswith(f"Wrote {files} to {tmp_path / 'x'}\n")
    outcome = run("compare", "a", "b", "--out", tmp_path / "y", "--quiet")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert (tmp_path / "y" / "comparison.json").is_file()


def test_options_reach_the_comparison(run):
    options = ["--scores", "margin, entropy", "--bins", "4", "--level", "0.8", "--seed", "3"]
    outcome = run("compare", "a", "b", "--json", "--baseline", "b", *options)
    found = json.loads(outcome.out)
    assert found["baseline"] == "b"
    settings = found["settings"]
    assert settings["scores"] == ["margin", "entropy"]
    assert (settings["num_bins"], settings["confidence_level"], settings["seed"]) == (4, 0.8, 3)


def test_groups_of_runs(run):
    outcome = run("compare", "one=a,b", "two=c,d", "--json")
    methods = json.loads(outcome.out)["methods"]
    folders = {name: [r["folder"] for r in about["runs"]] for name, about in methods.items()}
    assert folders == {"one": ["a", "b"], "two": ["c", "d"]}
    printed = run("compare", "[b]one=a,b", "two=c,d").out
    assert printed.count("│ [b]one ") > 5
    assert " ± " in printed
    assert "nothing of other inputs" in " ".join(printed.split())


def test_a_folder_may_hold_the_signs_of_a_group(made, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("x=1,2", "a,b"):
        (tmp_path / name).mkdir()
    assert named_folders(["x=1,2", "y=a,b", "z=p,q"]) == {
        "x=1,2": ["x=1,2"],
        "y": ["a,b"],
        "z": ["p", "q"],
    }


FAULTS = {
    "one run": (["a"], "comparing takes at least two"),
    "missing folder": (["a", "bb"], "there is no folder 'bb'"),
    "near folder": (["a", "sub/../e"], "there is no folder"),
    "a file": (["a", "b/report.json"], "is a file; name the evaluation folder"),
    "the same twice": (["a", "a"], "given twice"),
    "one name twice": (["x=a", "x=b"], "two runs are called 'x'", "NAME=DIR"),
    "a name alone": (["x=", "a"], "lacks a name or a folder", "NAME=DIR,DIR"),
    "a folder alone": (["=a", "b"], "lacks a name or a folder"),
    "an empty part": (["x=a,", "b"], "lacks a name or a folder"),
    "unknown baseline": (["a", "b", "--baseline", "bb"], "baseline must be one of a, b", "did you"),
    "unknown score": (["a", "b", "--scores", "entrpy"], "did you mean 'entropy'"),
    "no score": (["a", "b", "--scores", ","], "scores is empty"),
    "no level": (["a", "b", "--level", "95"], "between 0 and 1"),
    "no bins": (["a", "b", "--bins", "0"], "num_bins must be at least 1"),
    "out is a file": (["a", "b", "--out", "a/report.json"], "cannot create the folder"),
    "no runs": ([], "Missing argument", "try --help"),
    "unknown option": (["a", "b", "--basline", "a"], "--basline", "try --help"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_one_line_and_leave_everything_as_it_was(made, run, fault):
    arguments, *fragments = FAULTS[fault]
    before = snapshot(made)
    if "--out" not in arguments and arguments:
        arguments = [*arguments, "--out", "new/er"]
    outcome = run("compare", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("bbnn-uq: error: ")
    assert outcome.err.count("\n") == 1
    for fragment in fragments:
        assert fragment in outcome.err, outcome.err
    assert snapshot(made) == before


def test_its_help_loads_nothing_heavy():
    code = """
import sys
from bbnn_uq.cli import main
try:
    main(["compare", "--help"])
except SystemExit as stopped:
    assert not stopped.code
heavy = {"torch", "numpy", "scipy", "pandas", "matplotlib", "jinja2"}
sys.exit(", ".join(heavy & set(sys.modules)) or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Example: bbnn-uq compare " in " ".join(done.stdout.split())
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
