"""predict: a file that everything can be had of, and what is printed of it."""

import json

import numpy as np
import pytest
import torch
from cli_cases import snapshot
from sklearn.metrics import accuracy_score, log_loss

import bbnn_uq
from bbnn_uq import Predictive, RegressionPredictive
from bbnn_uq.inference import parts
from bbnn_uq.inference.engine import Engine

pytestmark = pytest.mark.usefixtures("undrawn")

NETS = """
import torch

def plain(input_shape):
    return torch.nn.Sequential(torch.nn.Linear(input_shape[0], 1, bias=False))
"""


def test_the_file_holds_what_python_predicts(here, predict):
    assert predict(quiet=True).status == 0
    posterior = bbnn_uq.load("run/posterior.safetensors")
    model = bbnn_uq.models.build("mlp:8x1", (5,), 2, dropout=0.1)
    with np.load("data.npz") as file:
        x, y = file["x"], file["y"]
    whole = bbnn_uq.predict(
        model, posterior, x, num_samples=4, device="cpu", num_groups=7,
        score_temperatures=(1.0, 3.0),
    )  # fmt: skip
    read = Predictive.load("predicted.npz")
    for key, values in whole.to_arrays().items():
        np.testing.assert_allclose(read.to_arrays()[key], values, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(read.score("energy@3"), whole.score("energy@3"))
    assert read.metadata["dataset"] == "data"
    assert (read.num_samples, read.seed, read.method) == (4, 0, "monte_carlo")
    with np.load("predicted.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["labels"], y)
        assert file["probs"].dtype == np.float64


def test_nothing_else_is_written(here, predict):
    before = snapshot(here)
    assert predict(out="deep/er.npz", quiet=True).status == 0
    assert set(snapshot(here)) - set(before) == {"deep", "deep/er.npz"}


def test_json_is_a_summary_with_independent_metrics(here, predict):
    outcome = predict(json=True)
    summary = json.loads(outcome.out)
    with np.load("predicted.npz") as file:
        probs, labels = file["probs"], file["labels"]
    assert (summary["dataset"], summary["n"], summary["num_classes"]) == ("data", 60, 2)
    assert summary["accuracy"] == accuracy_score(labels, probs.argmax(axis=1))
    assert summary["nll"] == pytest.approx(log_loss(labels, probs))
    entropy = -(probs * np.log(probs)).sum(axis=1)
    assert summary["scores"]["entropy"]["median"] == pytest.approx(np.median(entropy))
    assert list(summary["scores"]) == ["entropy", "mutual_information@3"]


def test_it_prints_a_table_that_fits(here, predict, monkeypatch):
    for columns in ("80", "40"):
        monkeypatch.setenv("COLUMNS", columns)
        outcome = predict()
        *table, last = outcome.out.splitlines()
        assert max(len(line) for line in table) <= int(columns)
        assert last == "Wrote predictions to predicted.npz"
    assert "60 inputs" in outcome.out.replace("\n", " ")
    assert predict(quiet=True).out == ""


def test_the_mode_is_one_network(here, predict):
    assert predict(method="mode", json=True).status == 0
    read = Predictive.load("predicted.npz")
    assert (read.method, read.num_samples) == ("mode", 1)


def test_parts_make_no_difference(here, predict, monkeypatch):
    assert predict(samples="8", quiet=True).status == 0
    monkeypatch.setattr(parts, "PART_BYTES", 2**13)
    sizes = []
    original = Engine.run

    def run(self, *arguments, **options):
        for part in original(self, *arguments, **options):
            sizes.append(len(part.probs))
            yield part

    monkeypatch.setattr(Engine, "run", run)
    assert predict(samples="8", out="parts.npz", quiet=True).status == 0
    assert len(sizes) > 2
    assert sum(sizes) == 60
    one, many = (Predictive.load(name).to_arrays() for name in ("predicted.npz", "parts.npz"))
    assert any(key.startswith("groups/") for key in one)
    for key, values in one.items():
        np.testing.assert_allclose(many[key], values, rtol=1e-12, atol=1e-12, err_msg=key)


def test_labels_of_other_classes_stay_out_of_the_file(here, predict):
    outcome = predict(data="high-labels.npz", json=True)
    assert outcome.status == 0
    assert "accuracy" not in json.loads(outcome.out)
    with np.load("predicted.npz") as file:
        assert "labels" not in file.files


def test_class_names_go_into_the_file(here, predict):
    with np.load("data.npz") as file:
        np.savez("named.npz", x=file["x"], y=file["y"], class_names=np.array(["low", "high"]))
    assert predict(data="named.npz", quiet=True).status == 0
    with np.load("predicted.npz", allow_pickle=False) as file:
        assert file["class_names"].tolist() == ["low", "high"]


@pytest.fixture
def real(here):
    """A posterior of real targets, saved from Python: its file states no architecture."""
    (here / "lab_real.py").write_text(NETS)
    with np.load("data.npz") as file:
        x = file["x"]
    model = torch.nn.Sequential(torch.nn.Linear(5, 1, bias=False))
    posterior = bbnn_uq.fit(
        model, (x, x[:, 0]), epochs=2, likelihood="gaussian", normalise=True, device="cpu"
    )
    posterior.save("real.safetensors")
    return model, posterior, x


def test_real_targets(real, here, predict):
    model, posterior, x = real
    options = {"posterior": "real.safetensors", "model": "lab_real:plain", "scores": None}
    outcome = predict(**options, json=True)
    assert outcome.status == 0, outcome.err
    whole = bbnn_uq.predict(model, posterior, x, num_samples=4, device="cpu")
    read = RegressionPredictive.load("predicted.npz")
    np.testing.assert_allclose(read.mean, whole.mean)
    np.testing.assert_allclose(read.std, whole.std)
    scores = json.loads(outcome.out)["scores"]
    assert scores["std"]["median"] == pytest.approx(np.median(whole.std))
    assert "epistemic_std" in predict(**options).out


def test_scores_of_classes_are_refused_for_real_targets(real, here, predict):
    options = {"posterior": "real.safetensors", "model": "lab_real:plain"}
    before = snapshot(here)
    outcome = predict(**options, scores="entropy@3")
    assert outcome.status == 2
    assert "--scores are of classes, and the posterior predicts real targets" in outcome.err
    assert snapshot(here) == before


def test_ood_of_real_targets_points_to_predict(real, here, ood):
    outcome = ood(posterior="real.safetensors", model="lab_real:plain")
    assert outcome.status == 2
    assert "use bbnn-uq predict" in outcome.err


FAULTS = {
    "out is a folder": ({"out": "run"}, "'run' is a folder; name a file, 'run/predictions.npz'"),
    "out has another suffix": ({"out": "p.csv"}, "--out 'p.csv' must end in .npz"),
    "out is under a file": ({"out": "file/p.npz"}, "cannot create the folder 'file'"),
    "unknown data": ({"data": "digts"}, "did you mean 'digits'"),
    "data of another shape": ({"data": "narrow.npz"}, "(3,)", "(5,)"),
    "NaN": ({"data": "nan.npz"}, "data 'nan'", "1 NaN"),
    "unknown score": ({"scores": "entropi"}, "did you mean 'entropy'"),
    "no samples": ({"samples": "0"}, "num_samples must be at least 1"),
    "unknown method": ({"method": "modes"}, "did you mean 'mode'"),
    "posterior is a folder": ({"posterior": "run"}, "name 'run/posterior.safetensors'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_predict_says_what_is_wrong_and_writes_nothing(fault, here, predict):
    changes, *fragments = FAULTS[fault]
    before = snapshot(here)
    outcome = predict(**changes)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("bbnn-uq: error: ")
    assert outcome.err.count("\n") == 1
    for fragment in fragments:
        assert fragment in outcome.err, outcome.err
    assert snapshot(here) == before


def test_an_interrupt_leaves_nothing(here, predict, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "run", stop)
    before = snapshot(here)
    outcome = predict(out="new/p.npz")
    assert (outcome.status, outcome.err) == (130, "bbnn-uq: interrupted\n")
    assert snapshot(here) == before
