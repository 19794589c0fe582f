"""A small data set, a posterior trained on it, and a way to run commands in this process."""

import os
from dataclasses import dataclass

import pytest
from cli_cases import TRAIN, save_data

from bbnn_uq import pages, report
from bbnn_uq.cli import main


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch):
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def undrawn(monkeypatch):
    """No figures, an empty page and few resamples: most of a small report's time."""
    monkeypatch.setattr(report, "NUM_RESAMPLES", 50)
    monkeypatch.setattr(report, "draw_figures", lambda *_, **__: None)
    monkeypatch.setattr(pages, "report_page", lambda **_: "")


@pytest.fixture
def run(capsys):
    """Run a command: status, standard output and standard error."""

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(stopped.value.code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with data and ``posterior.safetensors``, to be left as they are."""
    folder = tmp_path_factory.mktemp("trained")
    save_data(folder)
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--data", str(folder / "data.npz"), *TRAIN, "--out", str(folder / "run")])
    assert stopped.value.code == 0
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """The current folder: a fresh copy of ``trained``."""
    for file in [*trained.glob("*"), *trained.glob("run/*")]:
        target = tmp_path / file.relative_to(trained)
        if file.is_dir():
            target.mkdir()
        else:
            target.write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert os.listdir("run")
    return tmp_path


@pytest.fixture
def ood(run):
    """Run ``ood`` with small defaults; keywords change them, None takes one away."""
    return with_defaults(
        run,
        "ood",
        posterior="run/posterior.safetensors",
        id="data.npz",
        ood="far.npz",
        scores="entropy,mutual_information@3",
        samples="4",
        device="cpu",
        out="report",
    )


@pytest.fixture
def predict(run):
    """Run ``predict`` likewise."""
    return with_defaults(
        run,
        "predict",
        posterior="run/posterior.safetensors",
        data="data.npz",
        scores="entropy,mutual_information@3",
        samples="4",
        device="cpu",
        out="predicted.npz",
    )


@pytest.fixture
def evaluate(run):
    """Run ``evaluate`` likewise."""
    return with_defaults(run, "evaluate", predictions="id.npz", out="report")


def with_defaults(run, command, **defaults):
    def call(**changes):
        arguments = [command]
        for name, value in (defaults | changes).items():
            for each in value if isinstance(value, list) else [value]:
                if each is True:
                    arguments += [f"--{name.replace('_', '-')}"]
                elif each is not None:
                    arguments += [f"--{name.replace('_', '-')}", each]
        return run(*arguments)

    return call
