"""The demo from end to end, once: its folder, its figures and what it prints."""

import contextlib
import io
import json
import re

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from bbnn_uq import load
from bbnn_uq.cli import main

SETS = {"digits-high": 118, "photo-patches": 1000}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "runs" / "demo"
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        patch.delenv("FORCE_COLOR", raising=False)
        streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
        with streams[0], streams[1], pytest.raises(SystemExit) as stopped:
            main(["demo", "--out", str(folder)])
    assert (stopped.value.code, err.getvalue()) == (0, "")
    return folder, out.getvalue()


@pytest.fixture(scope="module")
def report(demo):
    return json.loads((demo[0] / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def arrays(demo):
    with np.load(demo[0] / "scores.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def test_it_is_accurate_and_its_posterior_has_not_collapsed(report):
    assert report["id"]["dataset"] == "digits-low"
    assert report["id"]["n"] == 481
    assert report["id"]["accuracy"]["value"] >= 0.95
    assert report["posterior"]["flip_rate"] > 0.005
    assert report["posterior"]["collapsed"] is False


def test_drawn_networks_disagree(arrays):
    information = arrays["id/mutual_information"]
    assert information.min() >= 0
    assert information.max() > 0.01
    assert arrays["ood/photo-patches/mutual_information"].mean() > 10 * information.mean()


def test_far_inputs_are_found_and_near_ones_mostly(report):
    far, near = (
        report["ood"][name]["scores"]["entropy"] for name in ("photo-patches", "digits-high")
    )
    assert far["auroc"]["value"] >= 0.95
    assert near["auroc"]["value"] >= 0.9


def test_averaging_networks_costs_no_likelihood(report):
    difference = report["mode"]["mean_minus_mode"]["nll"]
    assert difference["value"] <= 0.002
    assert difference["low"] <= 0


def test_its_folder_holds_all_files(demo, report):
    scores = report["ood"]["digits-high"]["scores"]
    wanted = {"posterior.safetensors", "config.json", "train.jsonl"}
    wanted |= {"report.html", "report.json", "report.md", "scores.npz"}
    wanted |= {"reliability.png", "risk_coverage.png"}
    wanted |= {f"ood_{score}_{name}.png" for score in scores for name in SETS}
    wanted |= {f"roc_{name}.png" for name in SETS}
    assert {file.name for file in demo[0].iterdir()} == wanted
    assert "mutual_information@3" in scores
    assert load(demo[0] / "posterior.safetensors").num_weights == report["posterior"]["num_weights"]


def test_scores_npz_gives_the_reports_numbers(report, arrays):
    probs, labels = arrays["id/probs"], arrays["id/labels"]
    assert report["id"]["accuracy"]["value"] == accuracy_score(labels, probs.argmax(axis=1))
    nll = log_loss(labels, probs, labels=range(probs.shape[1]))
    assert report["id"]["nll"]["value"] == pytest.approx(nll, abs=1e-9)
    for name, size in SETS.items():
        assert report["ood"][name]["n"] == size
        for score, numbers in report["ood"][name]["scores"].items():
            pair = arrays[f"id/{score}"], arrays[f"ood/{name}/{score}"]
            is_ood = np.repeat([0, 1], [len(values) for values in pair])
            auroc = roc_auc_score(is_ood, np.concatenate(pair))
            assert numbers["auroc"]["value"] == pytest.approx(auroc, abs=1e-12)


def test_it_prints_tables_that_fit_80_columns(demo, report):
    folder, text = demo
    *tables, last = text.splitlines()
    assert max(len(line) for line in tables) <= 80
    assert "\x1b" not in text
    assert "…" not in text
    files = "posterior.safetensors and report.html, report.md, report.json, scores.npz and figures"
    assert last == f"Wrote {files} to {folder}"
    for name, size in SETS.items():
        assert f"{name} ({size:,})" in text
    rows = re.findall(r"│ *(\S+) +│ (0\.\d{3}) \[", text)
    assert len(rows) == 2 * len(report["ood"]["digits-high"]["scores"])


def numbers(report):
    yield from ((metric, i) for metric, i in report["id"].items() if isinstance(i, dict))
    for score, found in report["ood"]["digits-high"]["scores"].items():
        yield from ((f"{score} {metric}", interval) for metric, interval in found.items())


@pytest.mark.usefixtures("undrawn")
def test_no_figure_of_its_posterior_depends_on_the_batch_size(demo, tmp_path, run):
    values = {}
    options = ["--posterior", demo[0] / "posterior.safetensors", "--id", "digits-low"]
    options += ["--ood", "digits-high", "--scores", "entropy,mutual_information@3"]
    options += ["--samples", "8", "--device", "cpu", "--quiet"]
    for size in ("1", "7", "1000"):
        out = tmp_path / size
        assert run("ood", *options, "--batch-size", size, "--out", out).status == 0
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        values[size] = {
            f"{name} {end}": number
            for name, interval in numbers(report)
            for end, number in interval.items()
        }
    metrics = 9 + 2 * 6  # of the ID set, and of each score
    assert len(values["1"]) == 4 * metrics  # value, low, high, error over networks
    assert values["7"] == pytest.approx(values["1"], abs=1e-6)
    assert values["1000"] == pytest.approx(values["1"], abs=1e-6)
