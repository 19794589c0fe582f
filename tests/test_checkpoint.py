"""Checkpoints, and runs that are killed and resumed."""

import signal
import subprocess
import sys
import time

import pytest
import torch

from bbnn_uq import fit, models
from bbnn_uq.checkpoint import load_checkpoint, save_checkpoint


def data():
    x = torch.randn(240, 4, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def train(folder=None, **options):
    arguments = {"epochs": 6, "batch_size": 60, "kl_warmup": 0.5, "num_samples": 2} | options
    model = models.build("mlp:12x1", (4,), 3, dropout=0.3)
    return fit(model, data(), checkpoint_dir=folder, normalise=True, **arguments)


def assert_same(one, other):
    for ours, theirs in (
        (one.natural_param, other.natural_param),
        (one.real_state, other.real_state),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("estimator", ["straight_through", "local", "concrete"])
@pytest.mark.parametrize("stop_at", [1, 4])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, estimator, stop_at):
    def stop(record):
        if record["epoch"] == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, estimator=estimator, on_epoch=stop)
    seen = []
    resumed = train(tmp_path, estimator=estimator, on_epoch=seen.append)
    assert_same(resumed, train(estimator=estimator))
    assert [record["epoch"] for record in seen] == [1, 2, 3, 4, 5, 6]


def test_a_killed_process_leaves_a_run_that_can_be_resumed(tmp_path):
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "import torch; torch.set_num_threads(1)\n"
        "from test_checkpoint import train\n"
        "train(sys.argv[2], epochs=150)\n"
    )
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(__file__).rsplit("/", 1)[0], str(folder)]
    )
    checkpoint = folder / "checkpoint.safetensors"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = len(load_checkpoint(checkpoint)["history"])
    assert 1 <= reached < 150
    assert_same(train(folder, epochs=150), train(epochs=150))


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = train(tmp_path)
    before = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    assert_same(first, train(tmp_path))
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == before


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    train(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"another run \(lr 0.1, now 0.2.*checkpoint_dir"):
        train(tmp_path, epochs=1, lr=0.2)


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(tmp_path, epochs=1)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"checkpoint.safetensors.*delete it"):
        train(tmp_path, epochs=1)


def test_nested_state_round_trip(tmp_path):
    state = {
        "state": {0: {"step": torch.tensor(3.0), "m": torch.randn(2, 3)}, 1: {}},
        "groups": [{"lr": 0.1, "params": [0, 1], "name": None, "flag": True}],
        "bytes": torch.arange(5, dtype=torch.uint8),
    }
    save_checkpoint(tmp_path / "c", state)
    loaded = load_checkpoint(tmp_path / "c")
    assert torch.equal(loaded["state"][0]["m"], state["state"][0]["m"])
    assert loaded["state"][0]["step"].shape == ()
    assert loaded["groups"] == state["groups"]
    assert torch.equal(loaded["bytes"], state["bytes"])


def test_shared_and_transposed_tensors_can_be_saved(tmp_path):
    value = torch.randn(3, 4)
    save_checkpoint(tmp_path / "c", [value, value.T, value[0]])
    assert torch.equal(load_checkpoint(tmp_path / "c")[1], value.T)
