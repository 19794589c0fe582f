"""evaluate: predictions in files from anywhere; their figures, and what is wrong with them."""

import json

import numpy as np
import pytest
from cli_cases import snapshot
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

pytestmark = pytest.mark.usefixtures("undrawn")


def probs_of(seed, shape, sharpness=3.0):
    z = sharpness * np.random.default_rng(seed).normal(size=shape)
    odds = np.exp(z - z.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Predictions that anything with NumPy could have written."""
    monkeypatch.chdir(tmp_path)
    probs = probs_of(0, (80, 3))
    labels = np.where(np.arange(80) % 4 > 0, probs.argmax(axis=1), np.arange(80) % 3)
    np.savez("id.npz", probs=probs, labels=labels)
    np.savez("far.npz", probs=probs_of(1, (50, 3), 1.0))
    np.savez("samples.npz", samples=probs_of(2, (6, 80, 3)), labels=labels)
    np.savez("far-samples.npz", samples=probs_of(3, (6, 50, 3)))
    (tmp_path / "folder").mkdir()
    return probs, labels


def report_of(folder="report"):
    with open(f"{folder}/report.json", encoding="utf-8") as file:
        return json.load(file)


def entropy(probs):
    return -(probs * np.log(probs)).sum(axis=-1)


def test_figures_agree_with_scikit_learn(files, evaluate):
    probs, labels = files
    assert evaluate(ood_predictions="far.npz", quiet=True).status == 0
    report = report_of()
    assert report["id"]["dataset"] == "id"
    assert report["id"]["accuracy"]["value"] == accuracy_score(labels, probs.argmax(axis=1))
    assert report["id"]["nll"]["value"] == pytest.approx(log_loss(labels, probs))
    with np.load("far.npz") as file:
        far = file["probs"]
    both = np.concatenate([entropy(probs), entropy(far)])
    auroc = roc_auc_score(np.repeat([0, 1], [80, 50]), both)
    scores = report["ood"]["far"]["scores"]
    assert scores["entropy"]["auroc"]["value"] == pytest.approx(auroc, abs=1e-12)
    assert list(scores) == ["entropy", "confidence"]  # of averaged probabilities no more is known
    assert report["posterior"] is None
    assert (report["inference"]["method"], report["inference"]["seed"]) == ("foreign", None)


def test_samples_give_scores_that_compare_networks(files, evaluate):
    options = {"predictions": "samples.npz", "ood_predictions": "far-samples.npz"}
    assert evaluate(**options, quiet=True).status == 0
    report = report_of()
    assert list(report["ood"]["far-samples"]["scores"]) == [
        "entropy", "mutual_information", "mutual_information@3", "confidence",
    ]  # fmt: skip
    assert report["inference"]["num_samples"] == 6
    with np.load("samples.npz") as one, np.load("far-samples.npz") as other:
        information = [
            entropy(s.mean(axis=0)) - entropy(s).mean(axis=0)
            for s in (one["samples"], other["samples"])
        ]
    auroc = roc_auc_score(np.repeat([0, 1], [80, 50]), np.concatenate(information))
    found = report["ood"]["far-samples"]["scores"]["mutual_information"]["auroc"]
    assert found["value"] == pytest.approx(auroc, abs=1e-12)
    assert found["mc_error"] > 0


def test_predict_and_evaluate_give_what_ood_gives(here, predict, evaluate, ood):
    assert ood(samples="8", out="direct", quiet=True).status == 0
    assert predict(samples="8", quiet=True).status == 0
    assert predict(samples="8", data="far.npz", out="files/far.npz", quiet=True).status == 0
    scores = "entropy,mutual_information@3"
    options = {"predictions": "predicted.npz", "ood_predictions": "files/far.npz"}
    assert evaluate(**options, scores=scores, quiet=True).status == 0
    direct, through_files = report_of("direct"), report_of()
    for key in ("id", "ood", "posterior", "per_class", "settings"):
        assert through_files[key] == direct[key], key
    assert direct["id"]["accuracy"]["mc_error"] is not None
    assert len(direct["id"]["fingerprint"]) == len(direct["ood"]["far"]["fingerprint"]) == 16


def test_ood_sets_are_optional(files, evaluate):
    assert evaluate(quiet=True).status == 0
    assert report_of()["ood"] == {}


def test_compressed_and_narrow_arrays_are_read(files, evaluate):
    probs, labels = files
    narrow = probs.astype(np.float32)
    np.savez_compressed("narrow.npz", probs=narrow, labels=labels.astype(np.uint8))
    assert evaluate(predictions="narrow.npz", quiet=True).status == 0
    assert report_of()["id"]["nll"]["value"] == pytest.approx(log_loss(labels, probs), rel=1e-5)


def test_inputs_and_names_reach_the_report(files, evaluate, monkeypatch):
    probs, labels = files
    x = np.random.default_rng(4).random((80, 1, 4, 4)).astype(np.float32)
    np.savez("seen.npz", probs=probs, labels=labels, x=x, class_names=np.array(["a", "b", "c"]))
    seen = {}
    monkeypatch.setattr("bbnn_uq.pages.report_page", lambda **parts: str(seen.update(parts)))
    assert evaluate(predictions="seen.npz", quiet=True).status == 0
    report = report_of()
    assert [entry["name"] for entry in report["per_class"]] == ["a", "b", "c"]
    examples = seen["examples"]["id"]
    np.testing.assert_array_equal(examples.inputs[0], x[examples.index[0]])
    assert len(report["id"]["fingerprint"]) == 16


def test_gates_bins_and_level(files, evaluate):
    gates = ["id.accuracy>=0.1", "ood.far.entropy.auroc>1"]
    outcome = evaluate(ood_predictions="far.npz", gate=gates, bins="5", level="0.5")
    assert outcome.status == 1
    assert [line.split(":")[0] for line in outcome.err.splitlines()] == [
        "gate passed",
        "gate FAILED",
    ]
    settings = report_of()["settings"]
    assert (settings["num_bins"], settings["confidence_level"]) == (5, 0.5)


def test_json_is_the_report(files, evaluate):
    outcome = evaluate(ood_predictions="far.npz", json=True)
    assert json.loads(outcome.out) == report_of()
    assert outcome.err == ""


def saved(name, **arrays):
    np.savez(name, **arrays)
    return {"predictions": name}


P, Y = probs_of(0, (80, 3)), np.arange(80) % 3

FAULTS = {
    "missing file": (lambda: {"predictions": "none.npz"}, "no file 'none.npz'", "check the path"),
    "missing OOD file": (lambda: {"ood_predictions": "none.npz"}, "no file 'none.npz'"),
    "a folder": (lambda: {"predictions": "folder"}, "'folder' is a folder", ".npz"),
    "no archive": (lambda: {"predictions": "text.npz"}, "'text.npz' cannot be read as .npz"),
    "a single array": (lambda: {"predictions": "one.npy"}, "a single array", "np.savez"),
    "logits": (lambda: saved("f.npz", probs=np.log(P) * 3, labels=Y), "'f.npz'", "not logits"),
    "logits by name": (
        lambda: saved("f.npz", logits=P, labels=Y),
        "no array 'probs' or 'samples', it holds ['labels', 'logits']",
        "softmax(logits)",
    ),
    "data": (lambda: saved("f.npz", x=P, y=Y), "looks like data", "bbnn-uq predict"),
    "no labels": (lambda: saved("f.npz", probs=P), "'f.npz': it has no array 'labels'", "add"),
    "y for labels": (lambda: saved("f.npz", probs=P, y=Y), "array 'y'", "rename it to 'labels'"),
    "one label missing": (
        lambda: saved("f.npz", probs=P, labels=Y[1:]),
        "'f.npz': labels must have shape (80,)",
    ),
    "labels of other classes": (
        lambda: saved("f.npz", probs=P, labels=Y + 1),
        "'f.npz': labels must lie in [0, 3)",
    ),
    "labels in words": (
        lambda: saved("f.npz", probs=P, labels=np.array(["a"] * 80)),
        "'f.npz': labels must",
    ),
    "probs of one axis": (lambda: saved("f.npz", probs=P[0], labels=Y), "shape (N, C)", "(3,)"),
    "samples of two axes": (lambda: saved("f.npz", samples=P, labels=Y), "(S, N, C)"),
    "rows that do not sum to 1": (lambda: saved("f.npz", probs=P / 2, labels=Y), "sum to 1"),
    "NaN": (lambda: saved("f.npz", probs=P * np.nan, labels=Y), "240 NaN"),
    "objects": (
        lambda: saved("f.npz", probs=np.array([P, None], dtype=object), labels=Y),
        "'f.npz' cannot be read as .npz",
        "Python objects, which are never loaded",
    ),
    "probs beside other samples": (
        lambda: saved("f.npz", probs=P, samples=probs_of(1, (2, 80, 3)), labels=Y),
        "probs is not the mean of samples",
    ),
    "x of another length": (
        lambda: saved("f.npz", probs=P, labels=Y, x=P[1:]),
        "'f.npz': x has shape (79, 3)",
    ),
    "too few names": (
        lambda: saved("f.npz", probs=P, labels=Y, class_names=np.array(["a"])),
        "class_names has shape (1,)",
        "save 3 strings",
    ),
    "OOD of other classes": (
        lambda: {"ood_predictions": saved("f.npz", probs=probs_of(0, (9, 4)))["predictions"]},
        "ood['f'] has 4 classes",
    ),
    "OOD of other networks": (
        lambda: {"predictions": "samples.npz", "ood_predictions": "far.npz"},
        "ood['far'] has num_samples 1",
    ),
    "OOD is the ID file": (
        lambda: {"ood_predictions": "folder/../id.npz"},
        "is the file of --predictions",
        "another file",
    ),
    "two OOD files of one name": (
        lambda: {"ood_predictions": ["far.npz", "folder/far.npz"]},
        "two files called 'far'",
        "rename",
    ),
    "unknown score": (lambda: {"scores": "entrpy"}, "did you mean 'entropy'"),
    "a score that needs networks": (
        lambda: {"scores": "mutual_information"},
        "needs the probabilities of each network",
    ),
    "gate on no value": (lambda: {"gate": "id.acuracy>0"}, "did you mean 'id.accuracy'"),
    "gate on a score not there": (
        lambda: {"ood_predictions": "far.npz", "gate": "ood.far.energy.auroc>0"},
        "'energy' is not computed",
    ),
    "no bins": (lambda: {"bins": "0"}, "bins must be at least 1"),
    "level in percent": (lambda: {"level": "95"}, "must lie strictly between 0 and 1"),
    "out is a file": (lambda: {"out": "id.npz"}, "cannot create the folder 'id.npz'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_evaluate_says_what_is_wrong_and_writes_nothing(fault, files, tmp_path, evaluate):
    (tmp_path / "text.npz").write_text("no archive")
    np.save("one.npy", P)
    np.savez("folder/far.npz", probs=P)
    make, *fragments = FAULTS[fault]
    changes = make()
    before = snapshot(tmp_path)
    outcome = evaluate(**changes)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("bbnn-uq: error: ")
    assert outcome.err.count("\n") == 1
    for fragment in fragments:
        assert fragment in outcome.err, outcome.err
    assert snapshot(tmp_path) == before


def test_predictions_of_real_targets_are_refused(files, tmp_path, evaluate):
    from bbnn_uq import RegressionPredictive

    values = np.ones(3)
    RegressionPredictive(values, values, values, 4, 0, "monte_carlo").save("real.npz")
    outcome = evaluate(predictions="real.npz")
    assert outcome.status == 2
    assert "'real.npz': it holds predictions of real targets" in outcome.err
