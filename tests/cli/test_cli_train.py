"""train --members and --resume."""

import json

import numpy as np
import pytest
import torch
from cli_cases import TRAIN, snapshot
from PIL import Image

import bbnn_uq
from bbnn_uq import PosteriorMixture

LONG = ["train", "--data", "data.npz", *TRAIN, "--epochs", "6"]


def stop_after(monkeypatch, steps):
    """Interrupt training at a step; returns what undoes it."""
    loss, made = torch.nn.functional.cross_entropy, []

    def counted(*arguments, **options):
        made.append(None)
        if len(made) == steps:
            raise KeyboardInterrupt
        return loss(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", counted)
    return lambda: monkeypatch.setattr(torch.nn.functional, "cross_entropy", loss)


def interrupted(run, monkeypatch, out, arguments=LONG):
    """Stop a run in its fourth epoch."""
    steps = -(-len(np.load("data.npz")["x"]) // 128)
    undo = stop_after(monkeypatch, 3 * steps + 1)
    assert run(*arguments, "--out", out).status == 130
    undo()


@pytest.mark.parametrize("members", ["1", "2"])
def test_a_resumed_run_writes_what_an_uninterrupted_one_does(here, run, monkeypatch, members):
    arguments = [*LONG, "--members", members]
    interrupted(run, monkeypatch, "stopped", arguments)
    assert not (here / "stopped" / "posterior.safetensors").exists()
    assert run(*arguments, "--out", "stopped", "--resume").status == 0
    assert run(*arguments, "--out", "whole").status == 0
    for name in ("posterior.safetensors", "config.json"):
        assert (here / "stopped" / name).read_bytes() == (here / "whole" / name).read_bytes()
    epochs = (here / "stopped" / "train.jsonl").read_text().splitlines()
    assert len(epochs) == 6 * int(members)
    assert {f.name for f in (here / "stopped").iterdir()} == {
        "posterior.safetensors",
        "config.json",
        "train.jsonl",
    }


def test_a_stopped_run_is_not_thrown_away(here, run, monkeypatch):
    interrupted(run, monkeypatch, "out")
    before = snapshot(here)
    outcome = run(*LONG, "--out", "out")
    assert outcome.status == 2
    assert "add --resume to continue it" in outcome.err
    assert outcome.err.count("\n") == 1
    assert snapshot(here) == before


def test_files_of_others_stay(here, run):
    mine = [here / "out" / "checkpoints" / "mine.txt", here / "out" / ".checkpoint-0" / "mine.txt"]
    for file in mine:
        file.parent.mkdir(parents=True)
        file.write_text("mine")
    assert run(*LONG, "--out", "out").status == 0
    assert all(file.read_text() == "mine" for file in mine)
    assert not (here / "out" / ".checkpoint-0" / "checkpoint.safetensors").exists()


def test_resuming_a_finished_run_changes_nothing(here, run):
    assert run(*LONG, "--out", "out").status == 0
    before = (here / "out" / "posterior.safetensors").stat().st_mtime_ns
    assert run(*LONG, "--out", "out", "--resume").status == 0
    assert (here / "out" / "posterior.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", [["--lr", "0.7"], ["--members", "2"], ["--model", "mlp:9x1"]])
def test_resuming_another_run_is_refused(here, run, monkeypatch, change):
    assert run(*LONG, "--out", "done").status == 0
    outcome = run(*LONG, *change, "--out", "done", "--resume")
    assert outcome.status == 2
    assert "leave out --resume" in outcome.err
    interrupted(run, monkeypatch, "half")
    if change[0] == "--members":
        return  # the first member may well go on
    outcome = run(*LONG, *change, "--out", "half", "--resume")
    assert outcome.status == 2
    assert "another run" in outcome.err
    assert outcome.err.count("\n") == 1


def test_members_differ_in_their_seeds_and_make_a_mixture(here, run, ood):
    assert run(*LONG, "--seed", "4", "--members", "2", "--out", "two").status == 0
    assert run(*LONG, "--seed", "5", "--out", "five").status == 0
    mixture = bbnn_uq.load(here / "two" / "posterior.safetensors")
    alone = bbnn_uq.load(here / "five" / "posterior.safetensors")
    assert isinstance(mixture, PosteriorMixture)
    second = mixture.posteriors[1].natural_param
    assert all(torch.equal(value, second[name]) for name, value in alone.natural_param.items())
    records = [json.loads(x) for x in (here / "two" / "train.jsonl").read_text().splitlines()]
    assert [record["member"] for record in records] == [0] * 6 + [1] * 6
    outcome = ood(posterior="two/posterior.safetensors", out="evaluated", quiet=True)
    assert (outcome.status, outcome.err) == (0, "")
    assert run("inspect", "two/posterior.safetensors").status == 0


def test_a_folder_of_images_is_trained_on_and_evaluated(here, run, ood):
    generator = np.random.default_rng(0)
    for split, count in (("train", 9), ("test", 5)):
        for name, bright in (("day", 200), ("night", 30)):
            folder = here / "photos" / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = generator.integers(bright - 30, bright + 30, (12, 10), np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
    options = [item for item in TRAIN if item not in ("--model", "mlp:8x1")]
    outcome = run("train", "--data", "photos", "--input-shape", "1x6x6", *options, "--out", "new")
    assert (outcome.status, outcome.err) == (0, "")
    about = json.loads((here / "new" / "config.json").read_text(encoding="utf-8"))
    assert about["architecture"]["input_shape"] == [1, 6, 6]
    assert about["data"]["num_inputs"] == 18
    sets = {"id": "photos", "ood": ["photos+contrast@5", "photo-patches"]}
    outcome = ood(posterior="new/posterior.safetensors", json=True, **sets)
    assert (outcome.status, outcome.err) == (0, "")
    report = json.loads(outcome.out)
    assert [entry["name"] for entry in report["per_class"]] == ["day", "night"]
    assert [entry["n"] for entry in report["per_class"]] == [5, 5]
    assert list(report["ood"]) == ["photos+contrast@5", "photo-patches"]


def test_no_members_are_refused(here, run):
    outcome = run(*LONG, "--members", "0", "--out", "none")
    assert outcome.status == 2
    assert "members must be at least 1" in outcome.err
    assert not (here / "none").exists()


def test_a_model_with_another_number_of_outputs_is_refused(here, run):
    (here / "wide.py").write_text(
        "import torch\ndef net(input_shape):\n    return torch.nn.Linear(input_shape[0], 7)\n"
    )
    outcome = run("train", "--data", "data.npz", "--model", "wide:net", "--out", "out")
    assert outcome.status == 2
    assert "outputs of shape (2, 7) for 2 inputs of 2 classes" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (here / "out").exists()


@pytest.mark.filterwarnings("default:no training input")
def test_classes_without_a_training_input_are_warned_of(here, run):
    x = np.random.default_rng(0).random((20, 4), dtype=np.float32)
    np.savez("gap.npz", x=x, y=np.arange(20) % 2 * 2 + 1)  # labels 1 and 3
    small = ["--model", "mlp:4x1", "--epochs", 1, "--device", "cpu", "--out", "new"]
    found = run("train", "--data", "gap.npz", *small)
    assert found.status == 0
    assert "warning: no training input is of class 0, 2 of 4: classes are numbered" in found.err
    assert "no training input" not in run("train", "--data", "data.npz", *small).err
