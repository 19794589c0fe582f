"""Bad input: one line that says what is wrong and what to do, status 2, and nothing written."""

import numpy as np
import pytest
import torch
from cli_cases import snapshot

from bbnn_uq import BernoulliPosterior, load
from bbnn_uq.inference.engine import Engine


def check(outcome, before, folder, *fragments):
    """One line on stderr that holds the fragments; the folder is as it was."""
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.startswith("bbnn-uq: error: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    assert "Traceback" not in outcome.err
    for fragment in fragments:
        assert fragment in outcome.err, outcome.err
    assert snapshot(folder) == before


OOD_FAULTS = {
    "missing posterior": ({"posterior": "none.safetensors"}, "does not exist", "bbnn-uq train"),
    "posterior is a folder": ({"posterior": "run"}, "is a folder", "run/posterior.safetensors"),
    "posterior is no safetensors": ({"posterior": "data.npz"}, "not a readable safetensors"),
    "unknown ID name": ({"id": "digts"}, "did you mean 'digits'", ".npz"),
    "unknown OOD name": ({"ood": "photo_patches"}, "did you mean 'photo-patches'"),
    "missing file": ({"ood": "none.npz"}, "no file 'none.npz'", "check the path"),
    "ID of the wrong shape": ({"id": "narrow.npz"}, "(3,)", "(5,)", "reshape"),
    "OOD of the wrong shape": ({"ood": "narrow.npz"}, "(3,)", "(5,)", "reshape"),
    "named set of the wrong shape": ({"ood": "digits"}, "(1, 8, 8)", "(5,)", "use noise"),
    "NaN pixels": ({"id": "nan.npz"}, "1 NaN", "remove or replace"),
    "NaN pixels in OOD": ({"ood": "nan.npz"}, "1 NaN", "remove or replace"),
    "no x": ({"id": "no-x.npz"}, "no array 'x'", "rename"),
    "no archive": ({"ood": "text.npz"}, "damaged or is no .npz", "np.savez"),
    "ID without labels": ({"id": "unlabelled.npz"}, "no labels", "accuracy"),
    "noise as ID": ({"id": "noise"}, "--id 'noise' has no labels"),
    "labels of other classes": ({"id": "high-labels.npz"}, "'high-labels.npz' must lie in [0, 2)"),
    "OOD is the ID set": ({"ood": "data.npz"}, "same inputs as --id 'data.npz'", "name another"),
    "two OOD sets of one name": ({"ood": ["noise", "noise"]}, "two sets called 'noise'", "rename"),
    "unknown corruption": ({"ood": "digits+blurr@3"}, "did you mean 'blur'"),
    "no bins": ({"bins": "0"}, "bins must be at least 1"),
    "full level": ({"level": "1"}, "level must lie strictly between 0 and 1"),
    "no samples": ({"samples": "0"}, "num_samples must be at least 1, got 0"),
    "negative samples": ({"samples": "-3"}, "num_samples must be at least 1, got -3"),
    "samples in words": ({"samples": "many"}, "--samples", "try --help"),
    "negative seed": ({"seed": "-1"}, "seed must be at least 0"),
    "huge seed": ({"seed": str(2**64)}, "seed must be below 2**64"),
    "no batch": ({"batch_size": "0"}, "batch_size must be at least 1"),
    "unknown score": ({"scores": "entrpy"}, "did you mean 'entropy'"),
    "score without temperature": ({"scores": "entropy@"}, "positive number after '@'"),
    "no scores": ({"scores": " , "}, "scores is empty", "'entropy'"),
    "unknown method": ({"method": "vote"}, "method must be one of monte_carlo, local, mode"),
    "unknown precision": ({"precision": "float8"}, "precision must be one of auto"),
    "unknown device": ({"device": "abacus"}, "device 'abacus' cannot be used here"),
    "gate without number": ({"gate": "id.accuracy"}, "is no condition", "id.accuracy>=0.95"),
    "gate with a word": ({"gate": "id.accuracy>=high"}, "is no condition", "id.accuracy>=0.95"),
    "gate with =>": ({"gate": "id.accuracy=>0.9"}, "did you mean 'id.accuracy'"),
    "gate on unknown metric": ({"gate": "id.acuracy>=0.9"}, "did you mean 'id.accuracy'"),
    "gate on no metric": ({"gate": "id.dataset>=0.9"}, "names no value"),
    "gate on unknown set": (
        {"gate": "ood.fra.entropy.auroc>=0.9"},
        "did you mean 'ood.far.entropy.auroc'",
    ),
    "gate on a score not asked for": ({"gate": "ood.far.energy.auroc>0"}, "names no value"),
    "out is a file": ({"out": "file"}, "cannot create the folder 'file'", "another place"),
    "out is under a file": ({"out": "file/deep/er"}, "'file/deep/er'", "another place"),
    "out has a long name": ({"out": "new/" + "x" * 300}, "too long", "another place"),
    "missing option": ({"posterior": None}, "Missing option '--posterior'", "try --help"),
    "no OOD set": ({"ood": None}, "Missing option '--ood'", "try --help"),
    "unknown option": ({"smaples": "3"}, "--smaples", "try --help"),
    "model that does not fit": ({"model": "mlp:9x1"}, "does not fit the model", "(8, 5)", "(9, 5)"),
}


@pytest.mark.parametrize("fault", OOD_FAULTS)
def test_ood_says_what_is_wrong_and_writes_nothing(fault, here, ood):
    changes, *fragments = OOD_FAULTS[fault]
    before = snapshot(here)
    check(ood(**changes), before, here, *fragments)


def test_two_files_of_one_name_are_refused(here, ood):
    (here / "other").mkdir()
    np.savez(here / "other" / "far.npz", x=np.ones((3, 5)))
    before = snapshot(here)
    check(ood(ood=["far.npz", "other/far.npz"]), before, here, "two sets called 'far'", "rename")


@pytest.mark.parametrize("kept", [0, 4, 200, -10])
def test_truncated_posteriors_are_named(kept, here, ood, run):
    whole = (here / "run" / "posterior.safetensors").read_bytes()
    (here / "cut.safetensors").write_bytes(whole[:kept])
    before = snapshot(here)
    for outcome in (ood(posterior="cut.safetensors"), run("inspect", "cut.safetensors")):
        check(outcome, before, here, "'cut.safetensors'", "truncated")


ARCHITECTURES = {
    "none": None,
    "text": "mlp:8x1",
    "incomplete": {"model": "mlp:8x1"},
    "numbers": {"model": 3, "input_shape": [5], "num_outputs": 2, "dropout": 0.1},
    "shape in words": {"model": "mlp:8x1", "input_shape": "5", "num_outputs": 2, "dropout": 0.1},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_posterior_without_a_known_architecture_is_refused(name, here, ood):
    posterior = load("run/posterior.safetensors")
    stated = {} if ARCHITECTURES[name] is None else {"architecture": ARCHITECTURES[name]}
    BernoulliPosterior(posterior.natural_param, posterior.real_state, stated).save("q.safetensors")
    before = snapshot(here)
    outcome = ood(posterior="q.safetensors")
    check(outcome, before, here, "states no architecture", "bbnn_uq.predict")


TRAIN_FAULTS = {
    "unknown data": ({"data": "digit"}, "did you mean 'digits'"),
    "test-only data": ({"data": "noise"}, "only a test split", "digits"),
    "no labels": ({"data": "unlabelled.npz"}, "no labels", "add an array y"),
    "NaN": ({"data": "nan.npz"}, "1 NaN"),
    "no epochs": ({"epochs": "0"}, "epochs must be at least 1"),
    "no batch": ({"batch-size": "0"}, "batch_size must be at least 1"),
    "NaN step": ({"lr": "nan"}, "lr must be"),
    "negative KL weight": ({"kl-weight": "-1"}, "kl_weight must be at least 0"),
    "full dropout": ({"dropout": "1"}, "dropout must lie in [0, 1)"),
    "huge seed": ({"seed": str(2**64)}, "seed must be below 2**64"),
    "unknown estimator": ({"estimator": "straight"}, "did you mean 'straight_through'"),
    "unknown model": ({"model": "resnet"}, "mlp:WIDTHxDEPTH", "package.module:factory"),
    "no layers": ({"model": "mlp:8x0"}, "at least one hidden layer"),
    "too large a model": ({"model": "mlp:9999999999999x1"}, "memory"),
    "missing prior": ({"prior": "none.safetensors"}, "does not exist"),
    "prior of another shape": (
        {"prior": "run/posterior.safetensors", "model": "mlp:4x1"},
        "prior must hold",
        "(4, 5)",
        "(8, 5)",
        "same architecture",
    ),
    "prior of another depth": (
        {"prior": "run/posterior.safetensors", "model": "mlp:8x2"},
        "prior must hold",
        "same architecture",
    ),
    "input shape in words": ({"input-shape": "small"}, "sizes joined by x", "3x32x32"),
    "input shape of other data": ({"input-shape": "1x8x8"}, "(1, 8, 8)", "(5,)"),
    "out is a file": ({"out": "file"}, "cannot create the folder", "another place"),
    "missing module": ({"model": "no_such:factory"}, "--model no_such:factory", "reachable"),
}


@pytest.mark.parametrize("fault", TRAIN_FAULTS)
def test_train_says_what_is_wrong_and_writes_nothing(fault, here, run):
    changes, *fragments = TRAIN_FAULTS[fault]
    options = {"data": "data.npz", "model": "mlp:8x1", "epochs": "1", "device": "cpu"}
    options |= {"out": "new/folder"} | changes
    before = snapshot(here)
    arguments = [item for name, value in options.items() for item in (f"--{name}", value)]
    check(run("train", *arguments), before, here, *fragments)


def test_a_failed_run_leaves_an_earlier_one_in_its_folder(here, ood):
    assert ood(quiet=True).status == 0
    before = snapshot(here)
    check(ood(samples="0"), before, here, "num_samples")
    check(ood(id="unlabelled.npz"), before, here, "no labels")


@pytest.mark.parametrize("arguments", [["demo", "--out", "file"], ["demo", "--seed", "-1"]])
def test_demo_fails_before_it_trains(arguments, here, run):
    before = snapshot(here)
    check(run(*arguments), before, here)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["tran"], "Did you mean 'train'?"),
        (["odo"], "Did you mean 'ood'?"),
        (["predct"], "Did you mean 'predict'"),
        (["ood", "--smaples", "3"], "--samples"),
        (["evaluate"], "Missing option '--predictions'"),
        (["predict", "--data", "digits"], "Missing option '--posterior'"),
        (["--verbose"], "--verbose"),
        (["inspect"], "Missing argument"),
        (["inspect", "none.safetensors"], "does not exist"),
        (["inspect", "run"], "name 'run/posterior.safetensors'"),
        (["inspect", "."], "name a file that train wrote"),
        (["train", "--data"], "--data"),
    ],
)
def test_usage_errors_are_one_line_too(arguments, fragment, here, run):
    before = snapshot(here)
    check(run(*arguments), before, here, fragment)


def test_no_command_prints_the_help_and_fails(run):
    outcome = run()
    assert outcome.status == 2
    assert "inspect" in outcome.out
    assert outcome.err == "bbnn-uq: error: no command given (try --help)\n"


def test_codes_in_a_name_do_not_reach_the_terminal(here, ood):
    before = snapshot(here)
    outcome = ood(id="a\x1b[31m\nb\u2028c")
    check(outcome, before, here, "one of digits")
    assert "\x1b" not in outcome.err


def test_a_stated_model_is_never_imported(here, ood):
    """The file says what to import; the command does so only when the user says it too."""
    (here / "trap.py").write_text("raise SystemExit('imported')")
    posterior = load("run/posterior.safetensors")
    for stated in ("trap:factory", "trap.sub:factory", "trap"):
        about = posterior.metadata["architecture"] | {"model": stated}
        metadata = posterior.metadata | {"architecture": about}
        BernoulliPosterior(posterior.natural_param, posterior.real_state, metadata).save(
            "q.safetensors"
        )
        before = snapshot(here)
        check(ood(posterior="q.safetensors"), before, here, "custom model", f"--model {stated}")


def test_an_error_inside_torch_is_one_line(here, ood, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(Engine, "run", fail)
    before = snapshot(here)
    check(ood(), before, here, "CUDA out of memory. Tried to allocate", "memory")
