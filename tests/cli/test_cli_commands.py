"""train, ood and inspect on a small data set: figures, gates, and what they print."""

import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from cli_cases import TRAIN, snapshot

from bbnn_uq import load
from bbnn_uq.cli.gates import Gate, parse_gate
from bbnn_uq.inference import parts
from bbnn_uq.posterior import PosteriorMixture

pytestmark = pytest.mark.usefixtures("undrawn")


def report_of(folder="report"):
    with open(f"{folder}/report.json", encoding="utf-8") as file:
        return json.load(file)


def numbers(value, path=""):
    """Every number of a report by its path, times aside."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "seconds":
                yield from numbers(item, f"{path}/{key}")
    elif isinstance(value, (int, float)):
        yield path, value


# --- figures ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the posterior holds BatchNorm statistics")
def test_the_same_seed_gives_the_same_report_and_another_does_not(here, ood):
    reports = []
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert ood(out=out, seed=seed, quiet=True).status == 0
        reports.append(report_of(out))
        del reports[-1]["inference"]["seconds"]
    assert reports[0] == reports[1]
    entropy = [r["ood"]["far"]["scores"]["entropy"]["auroc"]["value"] for r in reports]
    nll = [r["id"]["nll"]["value"] for r in reports]
    assert (entropy[0], nll[0]) != (entropy[2], nll[2])


def test_no_figure_depends_on_the_batch_size(here, ood):
    found = {}
    for size in ("1", "7", "1000"):
        assert ood(out=size, batch_size=size, quiet=True).status == 0
        found[size] = dict(numbers(report_of(size)))
    assert len(found["7"]) > 60
    for size in ("7", "1000"):
        assert found[size] == pytest.approx(found["1"], abs=1e-6)


@pytest.mark.filterwarnings("ignore:the posterior holds BatchNorm statistics")
def test_the_report_says_which_networks_were_drawn(here, ood):
    assert ood(samples="2", method="monte_carlo", seed="3", quiet=True).status == 0
    inference = report_of()["inference"]
    assert (inference["num_samples"], inference["seed"], inference["method"]) == (
        2,
        3,
        "monte_carlo",
    )
    assert inference["precision"] in ("float32", "float64")
    assert inference["device"] == "cpu"


def test_the_mode_is_one_network_without_a_comparison(here, ood):
    assert ood(method="mode", scores="entropy,energy", quiet=True).status == 0
    report = report_of()
    assert (report["inference"]["method"], report["inference"]["num_samples"]) == ("mode", 1)
    assert report["mode"] is None


@pytest.mark.filterwarnings("default:sums by group of networks")
def test_too_many_inputs_for_errors_over_networks_are_said_so(here, ood, monkeypatch):
    assert ood(samples="8", quiet=True).status == 0
    assert report_of()["id"]["nll"]["mc_error"] > 0
    monkeypatch.setattr(parts, "LARGE_BYTES", 1000)
    outcome = ood(samples="8", out="large", quiet=True)
    assert outcome.err.startswith("bbnn-uq: warning: sums by group of networks for 100 inputs")
    assert outcome.err.count("\n") == 1
    few, many = report_of(), report_of("large")
    assert many["id"]["nll"]["mc_error"] is None
    assert many["id"]["nll"]["value"] == pytest.approx(few["id"]["nll"]["value"], rel=1e-12)


def test_constant_training_data_can_be_evaluated_against_noise(here, run, ood):
    np.savez("flat.npz", x=np.ones((20, 5)), y=np.arange(20) % 2)
    assert run("train", "--data", "flat.npz", *TRAIN, "--out", "flat").status == 0
    outcome = ood(posterior="flat/posterior.safetensors", id="flat.npz", ood="noise", quiet=True)
    assert (outcome.status, outcome.err) == (0, "")


# --- train -----------------------------------------------------------------------------------


def test_train_writes_three_files_that_agree(trained):
    run = trained / "run"
    assert {f.name for f in run.iterdir()} == {
        "posterior.safetensors",
        "config.json",
        "train.jsonl",
    }
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config == load(run / "posterior.safetensors").metadata
    assert config["architecture"]["model"] == "mlp:8x1"
    assert config["recipe"]["epochs"] == 3
    epochs = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert epochs[-1]["flip_rate"] == pytest.approx(load(run / "posterior.safetensors").flip_rate())


def test_train_with_the_same_seed_writes_the_same_posterior(here, run):
    arguments = ["train", "--data", "data.npz", *TRAIN]
    assert run(*arguments, "--out", "again").status == 0
    assert run(*arguments, "--seed", "1", "--out", "other").status == 0
    files = [(here / d / "posterior.safetensors").read_bytes() for d in ("run", "again", "other")]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_train_starts_from_its_prior(here, run):
    """At a step size of nothing, what is left is where training started."""
    arguments = ["train", "--data", "data.npz", *TRAIN, "--lr", "1e-12"]
    prior = ["--prior", "run/posterior.safetensors"]
    assert run(*arguments, *prior, "--out", "from-prior").status == 0
    assert run(*arguments, "--out", "from-nothing").status == 0
    before = load("run/posterior.safetensors").natural_param
    after = load("from-prior/posterior.safetensors").natural_param
    fresh = load("from-nothing/posterior.safetensors").natural_param
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)
        assert not torch.allclose(fresh[name], value, atol=1e-2)


@pytest.fixture
def mixture(here, run):
    assert run("train", "--data", "data.npz", *TRAIN, "--seed", "1", "--out", "two").status == 0
    members = [load(f"{folder}/posterior.safetensors") for folder in ("run", "two")]
    PosteriorMixture(members).save("mixture.safetensors")
    return PosteriorMixture(members)


@pytest.mark.filterwarnings("ignore:the posterior holds BatchNorm statistics")
def test_a_mixture_is_shown_and_evaluated_but_is_no_prior(mixture, run, ood):
    assert "112 binary weights in 2 posteriors" in run("inspect", "mixture.safetensors").out
    assert ood(posterior="mixture.safetensors", quiet=True).status == 0
    assert report_of()["posterior"]["flip_rate"] == pytest.approx(mixture.flip_rate())
    prior = ["--prior", "mixture.safetensors", "--out", "new"]
    outcome = run("train", "--data", "data.npz", *TRAIN, *prior)
    assert outcome.status == 2
    assert outcome.err.startswith(
        "bbnn-uq: error: --prior 'mixture.safetensors' is a mixture; name"
    )


# --- gates -----------------------------------------------------------------------------------


def test_gates_decide_the_status_and_the_report_is_written_either_way(here, ood):
    passed = ood(gate=["id.accuracy>=0.5", "ood.far.entropy.auroc <= 1"])
    assert passed.status == 0
    assert passed.err.count("gate passed") == 2
    failed = ood(gate=["id.accuracy>=0.5", "id.accuracy>1"], out="second")
    value = report_of("second")["id"]["accuracy"]["value"]
    assert failed.status == 1
    assert failed.err.splitlines() == [
        f"gate passed: id.accuracy >= 0.5, got {value}",
        f"gate FAILED: id.accuracy > 1, got {value}",
    ]


def test_quiet_prints_failed_gates_only(here, ood):
    assert ood(gate="id.accuracy>=0", quiet=True).err == ""
    failed = ood(gate=["id.accuracy>=0", "id.accuracy>1"], quiet=True)
    assert failed.status == 1
    assert failed.err.startswith("gate FAILED: id.accuracy > 1, got ")
    assert failed.err.count("\n") == 1


def test_gates_take_set_names_with_dots_and_operators(here, ood):
    for name in ("v1.2", "a>=0.5"):
        np.savez(f"{name}.npz", x=np.ones((5, 5)))
        gate = f"ood.{name}.mutual_information@3.fpr95<=1"
        assert ood(ood=f"{name}.npz", gate=gate, out=f"of-{name}", quiet=True).status == 0


def test_a_value_that_is_null_fails_every_gate():
    report = {"id": {"dataset": "x", "n": 3, "nll": {"value": None}}, "ood": {}}
    for symbol in (">=", "<=", ">", "<"):
        assert parse_gate(f"id.nll{symbol}0").check(report) == (None, False)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("id.ece<0.1", Gate("id.ece", "<", 0.1)),
        (" id.ece <= 1e-1 ", Gate("id.ece", "<=", 0.1)),
        ("id.ece>-2", Gate("id.ece", ">", -2.0)),
    ],
)
def test_gates_are_parsed(text, wanted):
    assert parse_gate(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "id.ece", "id.ece=1", "id.ece>=", ">=1", "id.ece>=nan", "a>=."]
)
def test_gates_that_are_no_conditions_are_refused(text):
    with pytest.raises(ValueError, match=r"is no condition; write it as"):
        parse_gate(text)


@pytest.mark.parametrize(
    ("symbol", "below", "equal", "above"),
    [
        (">=", False, True, True),
        ("<=", True, True, False),
        (">", False, False, True),
        ("<", True, False, False),
    ],
)
def test_gates_compare(symbol, below, equal, above):
    gate = Gate("id.ece", symbol, 0.5)
    for value, wanted in ((0.4, below), (0.5, equal), (0.6, above)):
        report = {"id": {"ece": {"value": value}}, "ood": {}}
        assert gate.check(report) == (value, wanted)


# --- what they print -------------------------------------------------------------------------


def test_json_is_the_report_and_nothing_else(here, ood):
    outcome = ood(json=True)
    assert json.loads(outcome.out) == report_of()
    assert outcome.err == ""


def test_json_of_train_and_inspect_is_the_posteriors_summary(here, run):
    trained = run("train", "--data", "data.npz", *TRAIN, "--json", "--out", "again")
    shown = run("inspect", "run/posterior.safetensors", "--json")
    posterior = load("run/posterior.safetensors")
    wanted = posterior.summary() | {"metadata": posterior.metadata}
    assert json.loads(trained.out) == json.loads(shown.out) == wanted
    assert trained.err == shown.err == ""


def test_quiet_prints_nothing(here, ood, run):
    for outcome in (ood(quiet=True), run("train", "--data", "data.npz", *TRAIN, "--out", "again")):
        assert (outcome.status, outcome.out, outcome.err) == (0, "", "")


def test_ood_prints_the_reports_numbers_and_where_it_wrote(here, ood):
    outcome = ood(out="deep/er")
    report = report_of("deep/er")
    assert f"{report['id']['accuracy']['value']:.4f} [" in outcome.out
    assert f"{report['mode']['mean_minus_mode']['nll']['value']:.4f} [" in outcome.out
    assert f"{report['ood']['far']['scores']['entropy']['auroc']['value']:.3f} [" in outcome.out
    assert "far (40)" in outcome.out
    assert outcome.out.endswith("to deep/er\n")
    assert max(len(line) for line in outcome.out.splitlines()) <= 80


def test_inspect_prints_each_parameter(here, run):
    outcome = run("inspect", "run/posterior.safetensors")
    posterior = load("run/posterior.safetensors")
    for name in posterior.natural_param:
        assert name in outcome.out
    assert f"{posterior.flip_rate():.4f}" in outcome.out
    assert "mlp:8x1" in outcome.out


@pytest.mark.filterwarnings("default:the posterior has collapsed")
def test_a_collapsed_posterior_is_warned_of_in_one_line(here, run):
    arguments = ["train", "--data", "data.npz", *TRAIN, "--lr", "1e6", "--kl-weight", "0"]
    for command in ([*arguments, "--out", "sharp"], ["inspect", "sharp/posterior.safetensors"]):
        outcome = run(*command)
        assert outcome.status == 0
        assert outcome.err.startswith("bbnn-uq: warning: the posterior has collapsed: flip rate 0")
        assert outcome.err.count("\n") == 1


def test_where_files_went_is_one_line_and_names_no_other_files(here, run):
    long = "/".join(["a-rather-long-name"] * 8)
    (here / "mine.txt").write_text("mine")
    for out in (".", long):
        outcome = run("train", "--data", "data.npz", *TRAIN[:-1], "--out", out)
        assert "mine.txt" not in outcome.out
        last = outcome.out.splitlines()[-1]
        assert last == f"Wrote posterior.safetensors, config.json and train.jsonl to {out}"


@pytest.mark.parametrize("columns", ["20", "40", "79"])
def test_narrow_terminals_cut_nothing_off(columns, here, ood, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    outcome = ood()
    assert outcome.status == 0
    tables = outcome.out[: outcome.out.index("Posterior:")]
    assert "…" not in tables
    assert max(len(line) for line in tables.splitlines()) <= int(columns)
    cells = [line.split("│")[1:-1] for line in tables.splitlines() if line.startswith("│")]
    first = "".join(row[0].strip() for row in cells)
    assert "far(40)" in first.replace(" ", "")
    assert run("inspect", "run/posterior.safetensors").status == 0


def test_names_are_printed_without_markup_and_codes(here, ood):
    np.savez("[red]x[.npz", x=np.ones((5, 5)))
    np.savez("a\x1b[31mb.npz", x=np.ones((5, 5)))
    outcome = ood(ood=["[red]x[.npz", "a\x1b[31mb.npz"])
    assert "[red]x[ (5)" in outcome.out
    assert "\x1b" not in outcome.out
    assert "a�[31mb (5)" in outcome.out


def test_a_terminal_without_unicode_still_gets_its_results(here, ood, run, monkeypatch):
    np.savez("é.npz", x=np.ones((5, 5)))
    for options in ({}, {"json": True}):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr(sys, "stdout", stream)
        assert ood(ood="é.npz", **options).status == 0
        stream.flush()
        text = stream.buffer.getvalue().decode("ascii")
        if options:
            assert list(json.loads(text)["ood"]) == ["é"]
        else:
            assert "accuracy" in text


def in_a_pipe(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "bbnn_uq", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        timeout=120,
        check=False,
    )


def test_a_pipe_gets_no_codes_and_no_progress_bar(here):
    train = ["train", "--data", "data.npz", *TRAIN[:-1], "--out", "piped"]
    done = in_a_pipe(*train, TERM="xterm-256color")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert "linear1.weight" in done.stdout


def test_no_color_is_honoured_even_where_colours_are_forced(here, run, monkeypatch):
    """FORCE_COLOR makes rich think that it writes to a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    outcome = run("inspect", "run/posterior.safetensors")
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;)", outcome.out)


def test_only_the_output_folder_is_written(here, ood):
    before = snapshot(here)
    assert ood(quiet=True).status == 0
    after = snapshot(here)
    assert {name for name in after if name not in before} == {
        "report",
        *(f"report/{file.name}" for file in (here / "report").iterdir()),
    }
    assert all(after[name] == content for name, content in before.items())


@pytest.mark.filterwarnings("default:data 'bytes' span")
@pytest.mark.parametrize(("factor", "warned"), [(255.0, True), (1.5, False)])
def test_inputs_on_another_scale_are_warned_of(factor, warned, here, ood, undrawn):
    x = np.load("far.npz")["x"]
    np.savez("bytes.npz", x=factor * np.load("data.npz")["x"][: len(x)])
    found = ood(ood="bytes.npz")
    assert found.status == 0
    assert ("are they on one scale?" in found.err) == warned
    assert ("warning: data 'bytes' span" in found.err) == warned
