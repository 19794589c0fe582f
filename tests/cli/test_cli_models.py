"""--model package.module:factory, from the current directory."""

import json
import sys

import pytest
from cli_cases import TRAIN, snapshot

from bbnn_uq import load

NETS = """
import torch
from lab_nets import widths

def small(input_shape, num_outputs):
    assert input_shape == (5,)
    return torch.nn.Sequential(
        torch.nn.Linear(input_shape[0], widths.HIDDEN, bias=False),
        torch.nn.BatchNorm1d(widths.HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(widths.HIDDEN, num_outputs, bias=False),
    )

def fixed():
    from lab_nets import late  # found when the factory runs, too
    return small((5,), late.CLASSES)

def other():
    return torch.nn.Sequential(torch.nn.Linear(5, 3))

def unfit():
    return torch.nn.Sequential(torch.nn.Linear(7, 2))

def no_module():
    return 3

def demanding(depth):
    return None

def broken():
    raise RuntimeError("two\\nlines")

constant = 3
"""


@pytest.fixture
def nets(here, monkeypatch):
    package = here / "lab_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "widths.py").write_text("HIDDEN = 6")
    (package / "late.py").write_text("CLASSES = 2")
    (package / "nets.py").write_text(NETS)
    (package / "wrong.py").write_text("def f(:")
    before = list(sys.path)
    yield package
    assert sys.path == before
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab_nets"]:
        del sys.modules[name]


def train(run, model, out="custom"):
    options = [item for item in TRAIN if item not in ("--model", "mlp:8x1")]
    return run("train", "--data", "data.npz", "--model", model, *options, "--out", out)


@pytest.mark.parametrize("factory", ["small", "fixed"])
def test_train_then_ood(factory, nets, run, ood):
    model = f"lab_nets.nets:{factory}"
    assert train(run, model).status == 0
    posterior = load("custom/posterior.safetensors")
    assert {name: tuple(v.shape) for name, v in posterior.natural_param.items()} == {
        "0.weight": (6, 5),
        "3.weight": (2, 6),
    }
    outcome = ood(posterior="custom/posterior.safetensors", model=model, json=True)
    assert outcome.status == 0
    assert json.loads(outcome.out)["posterior"]["num_weights"] == 6 * 5 + 2 * 6


def test_a_posterior_of_a_custom_model_needs_the_model_again(nets, here, run, ood):
    assert train(run, "lab_nets.nets:small").status == 0
    sys.modules.pop("lab_nets.nets")
    before = snapshot(here)
    outcome = ood(posterior="custom/posterior.safetensors")
    assert outcome.status == 2
    assert "pass --model lab_nets.nets:small" in outcome.err
    assert outcome.err.count("\n") == 1
    assert "lab_nets.nets" not in sys.modules
    assert snapshot(here) == before


def test_another_model_than_the_posteriors_is_refused(nets, here, run, ood):
    assert train(run, "lab_nets.nets:small").status == 0
    for model in ("lab_nets.nets:other", "mlp:6x1"):
        outcome = ood(posterior="custom/posterior.safetensors", model=model)
        assert outcome.status == 2
        assert "does not fit the model" in outcome.err
        assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("lab_nets.nets:absent", "has no attribute 'absent'"),
        ("lab_nets.absent:small", "No module named"),
        ("lab_nets.wrong:f", "SyntaxError"),
        ("lab_nets.nets:no_module", "must give a torch.nn.Module, got int"),
        ("lab_nets.nets:demanding", "missing 1 required positional argument: 'depth'"),
        ("lab_nets.nets:broken", "RuntimeError: two lines"),
        ("lab_nets.nets:constant", "not a callable"),
        ("lab_nets.nets:unfit", "shapes cannot be multiplied"),
        ("lab_nets.nets", "is not known"),
        (".nets:small", "relative import"),
    ],
)
def test_factories_that_give_no_model_are_one_line(model, reason, nets, here, run):
    before = snapshot(here)
    outcome = train(run, model)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.startswith("bbnn-uq: error: ")
    assert outcome.err.count("\n") == 1
    assert reason in outcome.err
    assert snapshot(here) == before
