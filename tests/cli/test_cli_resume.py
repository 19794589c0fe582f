"""ood --resume: a run that was stopped ends where one that was not does, bit for bit."""

import fcntl
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from cli_cases import snapshot

from bbnn_uq.inference import parts
from bbnn_uq.inference.engine import Engine
from bbnn_uq.npz_file import GrowingArrays

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = 2**13  # of a part: some inputs of the sixty here


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", SMALL)


def results(folder):
    """A report's JSON without seconds, and its arrays."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["inference"].pop("seconds") > 0
    with np.load(folder / "scores.npz") as file:
        return report, {key: file[key].tobytes() for key in file.files}


@pytest.fixture
def whole(here, ood):
    """The results of a run that was not stopped."""
    assert ood(out="whole", quiet=True).status == 0
    assert not (here / "whole" / ".run").exists()
    return results(here / "whole")


@pytest.fixture
def stopped(here, ood, monkeypatch):
    """Stop a run at its addition of this number, before it is known to be whole."""

    def stop(addition, error=KeyboardInterrupt, **changes):
        original, made = GrowingArrays.append, []

        def append(self, *arguments):
            made.append(None)
            if len(made) == addition:
                with (self.folder / "probs.values").open("ab") as file:
                    file.write(b"half of it")
                raise error
            original(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(GrowingArrays, "append", append)
            outcome = ood(out="out", quiet=True, **changes)
        assert len(made) == addition
        return outcome

    return stop


@pytest.mark.parametrize("addition", [2, 5, 8])
def test_a_resumed_run_has_the_same_bits(addition, here, ood, whole, stopped):
    assert stopped(addition).status == 130
    assert not (here / "out" / "report.json").exists()
    outcome = ood(out="out", resume=True, quiet=True)
    assert (outcome.status, outcome.err) == (0, "")
    assert results(here / "out") == whole
    assert not (here / "out" / ".run").exists()


def test_finished_parts_are_not_computed_again(here, ood, whole, stopped, monkeypatch):
    done = []
    original = Engine.run

    def run(self, *arguments, **options):
        for part in original(self, *arguments, **options):
            done.append(len(part.probs))
            yield part

    monkeypatch.setattr(Engine, "run", run)
    stopped(4)
    assert ood(out="out", resume=True, quiet=True).status == 0
    size = done[0]
    assert 1 < size < 60
    # 60 inputs of the networks, 60 of the mode, 40 OOD; and the one that was computed in vain.
    assert sum(done) == 60 + 60 + 40 + size


def test_a_killed_process_can_be_resumed(here, ood, whole):
    code = f"""
import os, signal, sys
from bbnn_uq.inference import parts
from bbnn_uq.npz_file import GrowingArrays
from bbnn_uq.cli import main
parts.PART_BYTES = {SMALL}
original, made = GrowingArrays.append, []
def append(self, *arguments):
    made.append(None)
    if len(made) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, *arguments)
GrowingArrays.append = append
main(sys.argv[1:])
"""
    options = ["--posterior", "run/posterior.safetensors", "--id", "data.npz", "--ood", "far.npz"]
    options += ["--scores", "entropy,mutual_information@3", "--samples", "4", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", code, "ood", *options, "--out", "out"],
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert ood(out="out", resume=True, quiet=True).status == 0
    assert results(here / "out") == whole


def test_a_full_disk_on_the_way_is_one_line_and_can_be_resumed(here, ood, whole, stopped):
    outcome = stopped(5, OSError(28, "No space left on device"))
    assert outcome.status == 2
    assert "No space left on device" in outcome.err
    assert "add --resume" in outcome.err
    assert outcome.err.count("\n") == 1
    assert ood(out="out", resume=True, quiet=True).status == 0
    assert results(here / "out") == whole


def test_bad_input_on_the_way_leaves_nothing(here, stopped):
    before = snapshot(here)
    assert stopped(5, ValueError("two words")).err == "bbnn-uq: error: two words\n"
    assert snapshot(here) == before


def test_a_stopped_run_is_not_thrown_away(here, ood, stopped):
    stopped(5)
    before = snapshot(here)
    outcome = ood(out="out")
    assert outcome.status == 2
    assert "'out' holds a run that was stopped; add --resume to continue it" in outcome.err
    assert outcome.err.count("\n") == 1
    assert snapshot(here) == before


OTHERS = {
    "seed": ({"seed": "1"}, "seed was 0, and is 1"),
    "samples": ({"samples": "5"}, "num_samples was 4, and is 5"),
    "method": ({"method": "local"}, 'method was "monte_carlo", and is "local"'),
    "precision": ({"precision": "float32"}, 'precision was "auto", and is "float32"'),
    "batch": ({"batch_size": "7"}, "batch_size was null, and is 7"),
    "temperatures": ({"scores": "entropy@2"}, "temperatures was [1.0, 3.0], and is [2.0]"),
    "ID": ({"id": "other.npz"}, 'id was {"name": "data"'),
    "OOD": ({"ood": ["far.npz", "noise"]}, "ood was"),
    "posterior": ({"posterior": "other/posterior.safetensors"}, "posterior was"),
}


@pytest.mark.filterwarnings("ignore:the posterior holds BatchNorm statistics")
@pytest.mark.parametrize("other", OTHERS)
def test_another_configuration_is_refused_by_name(other, here, run, ood, stopped):
    with np.load("data.npz") as file:
        np.savez("other.npz", x=file["x"] + 1, y=file["y"])
    if other == "posterior":
        train = ["train", "--data", "data.npz", "--model", "mlp:8x1", "--epochs", "1", "--quiet"]
        assert run(*train, "--out", "other").status == 0
    stopped(5)
    before = snapshot(here)
    changes, reason = OTHERS[other]
    outcome = ood(out="out", resume=True, **changes)
    assert outcome.status == 2
    assert "is another one: " in outcome.err
    assert reason in outcome.err
    assert "give the same options, delete 'out/.run' to start over" in outcome.err
    assert outcome.err.count("\n") == 1
    assert snapshot(here) == before


def test_what_decides_no_prediction_may_change(here, ood, stopped):
    stopped(5)
    changes = {"scores": "margin,entropy@3", "bins": "5", "level": "0.5", "gate": "id.ece<=1"}
    outcome = ood(out="out", resume=True, json=True, **changes)
    assert outcome.status == 0
    report = json.loads(outcome.out)
    assert list(report["ood"]["far"]["scores"]) == ["margin", "entropy@3"]
    assert (report["settings"]["num_bins"], report["settings"]["confidence_level"]) == (5, 0.5)


def test_resume_without_a_stopped_run_starts_one(here, ood, whole):
    assert ood(out="new", resume=True, quiet=True).status == 0
    assert results(here / "new") == whole


def test_data_that_changed_under_their_name_are_noticed(here, ood, stopped):
    stopped(5)
    with np.load("data.npz") as file:
        x, y = file["x"], file["y"]
    x[0] += 1
    np.savez("data.npz", x=x, y=y)
    outcome = ood(out="out", resume=True)
    assert outcome.status == 2
    assert "fingerprint" in outcome.err


def test_a_damaged_state_is_named(here, ood, stopped):
    stopped(5)
    manifest = here / "out" / ".run" / "run.json"
    content = manifest.read_text(encoding="utf-8")
    manifest.write_text(content[:-2], encoding="utf-8")
    outcome = ood(out="out", resume=True)
    assert outcome.status == 2
    assert "'out/.run/run.json' is damaged; delete 'out/.run' to start over" in outcome.err
    manifest.write_text(content, encoding="utf-8")
    (here / "out" / ".run" / "id" / "probs.values").write_bytes(b"")
    outcome = ood(out="out", resume=True)
    assert outcome.status == 2
    assert "what a stopped run left in 'out/.run/id' is damaged" in outcome.err
    assert outcome.err.count("\n") == 1


def test_two_processes_do_not_add_to_the_same_files(here, ood, stopped):
    stopped(5)
    before = snapshot(here)
    other = os.open(here / "out", os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        outcomes = [ood(out="out", resume=resume) for resume in (True, None)]
    finally:
        os.close(other)
    for outcome in outcomes:
        assert outcome.status == 2
        assert "another process works in 'out/.run'; wait for it" in outcome.err
    assert snapshot(here) == before
