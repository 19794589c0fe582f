"""Ctrl-C: status 130, one line, and nothing half-written."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from cli_cases import TRAIN, snapshot
from matplotlib.figure import Figure

from bbnn_uq.checkpoint import load_checkpoint
from bbnn_uq.cli import training
from bbnn_uq.inference.engine import Engine


def interrupt_at(call, count):
    """``call``, raising KeyboardInterrupt at the count-th time."""
    made = []

    def counted(*arguments, **options):
        made.append(None)
        if len(made) == count:
            raise KeyboardInterrupt
        return call(*arguments, **options)

    return counted


HINT = "what was done is kept; add --resume to the same command to go on from there"


def check(outcome, before, folder):
    assert outcome.status == 130
    assert outcome.out == ""
    assert outcome.err == "bbnn-uq: interrupted\n"
    assert snapshot(folder) == before


def check_kept(outcome, before, folder):
    """The same, but for the parts of predictions, which --resume goes on from."""
    assert outcome.status == 130
    assert outcome.out == ""
    assert outcome.err == f"bbnn-uq: interrupted; {HINT}\n"
    after = snapshot(folder)
    state = {name for name in after if name.startswith("report/.run")}
    assert "report/.run/run.json" in state
    assert {n: v for n, v in after.items() if n not in state and n != "report"} == {
        n: v for n, v in before.items() if n != "report"
    }


def test_interrupt_before_the_first_checkpoint(here, run, monkeypatch):
    loss = torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", interrupt_at(loss, 1))
    before = snapshot(here)
    check(run("train", "--data", "data.npz", *TRAIN, "--out", "new/folder"), before, here)


def test_interrupt_leaves_an_earlier_posterior(here, run, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", stop)
    before = snapshot(here)
    check(run("train", "--data", "data.npz", *TRAIN, "--out", "run"), before, here)
    check(run("demo", "--quiet", "--out", "run"), before, here)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_interrupt_between_predictions(count, here, ood, monkeypatch):
    monkeypatch.setattr(Engine, "run", interrupt_at(Engine.run, count))
    before = snapshot(here)
    if count == 1:  # nothing was finished, so nothing is left
        check(ood(), before, here)
    else:
        check_kept(ood(), before, here)


@pytest.mark.parametrize("count", [1, 3])
def test_interrupt_while_figures_are_drawn_leaves_the_earlier_report(count, here, ood, monkeypatch):
    assert ood(quiet=True).status == 0
    before = snapshot(here)
    monkeypatch.setattr(Figure, "savefig", interrupt_at(Figure.savefig, count))
    check_kept(ood(samples="3"), before, here)


def test_interrupt_while_scores_are_written_leaves_no_report(here, ood, monkeypatch):
    def half(file, **_):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", half)
    before = snapshot(here)
    check_kept(ood(), before, here)


def test_a_full_disk_leaves_the_earlier_report(here, ood, monkeypatch):
    assert ood(quiet=True).status == 0
    before = snapshot(here)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    outcome = ood(samples="3")
    assert outcome.status == 2
    assert outcome.err.startswith("bbnn-uq: error: cannot use")
    assert "No space left on device" in outcome.err
    assert HINT in outcome.err
    assert outcome.err.count("\n") == 1
    after = snapshot(here)
    assert {name: after[name] for name in before} == before
    monkeypatch.undo()
    os.chdir(here)
    assert ood(samples="3", resume=True, quiet=True).status == 0


def test_a_signal_stops_a_process_that_trains(here):
    """What is left is a whole checkpoint, to resume from."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from bbnn_uq.cli import main\n"
        "main(['train', '--data', 'data.npz', '--model', 'mlp:8x1', '--epochs', '1000000',"
        " '--device', 'cpu', '--out', 'new/folder'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60
        checkpoint = here / "new/folder/.checkpoint-0/checkpoint.safetensors"
        while not checkpoint.exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", f"bbnn-uq: interrupted; {HINT}\n")
    left = [file for file in (here / "new").rglob("*") if file.is_file()]
    assert left == [checkpoint]
    assert load_checkpoint(left[0])["history"]
