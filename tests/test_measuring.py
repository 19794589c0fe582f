"""Results by class and curves against the number of networks, each by another way."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import classification_report, roc_auc_score

from bbnn_uq import Predictive, evaluate, measuring
from bbnn_uq.measuring import measure_classes, measure_curves

CLASSES = 4


def drawn(networks, inputs, seed, *, scale=1.0, labels=None):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(networks, inputs, CLASSES))
    if labels is not None:
        logits[:, np.arange(inputs), labels] += scale
    odds = np.exp(logits)
    return Predictive.from_samples(odds / odds.sum(axis=-1, keepdims=True))


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).choice(CLASSES - 1, size=90, p=[0.6, 0.3, 0.1])


@pytest.fixture(scope="module")
def inside(labels):
    return drawn(8, 90, 1, labels=labels)


# --- by class -----------------------------------------------------------------------------------


def test_shares_are_those_of_scikit_learn_and_intervals_those_of_scipy(inside, labels):
    found = measure_classes(inside, labels, class_names=None, confidence_level=0.9)
    top = inside.probs.argmax(axis=1)
    wanted = classification_report(
        labels, top, labels=range(CLASSES), output_dict=True, zero_division=np.nan
    )
    for number, entry in enumerate(found):
        theirs = wanted[str(number)]
        assert (entry["class"], entry["name"], entry["n"]) == (number, None, theirs["support"])
        assert entry["accuracy"].value == pytest.approx(theirs["recall"], nan_ok=True)
        assert entry["precision"].value == pytest.approx(theirs["precision"], nan_ok=True)
        right = int(((labels == number) & (top == number)).sum())
        cases = (("accuracy", (labels == number).sum()), ("precision", (top == number).sum()))
        for name, count in cases:
            if count:
                band = binomtest(right, int(count)).proportion_ci(0.9, method="wilson")
                assert (entry[name].low, entry[name].high) == pytest.approx((band.low, band.high))


def test_means_are_over_the_inputs_of_the_class(inside, labels):
    found = measure_classes(inside, labels, class_names=None, confidence_level=0.95)
    entropy = -(inside.probs * np.log(inside.probs)).sum(axis=1)
    for number in range(CLASSES - 1):
        of_class = labels == number
        assert found[number]["entropy"] == pytest.approx(entropy[of_class].mean())
        confidence = inside.probs[of_class].max(axis=1).mean()
        assert found[number]["confidence"] == pytest.approx(confidence)


def test_a_class_without_inputs_has_no_numbers_and_null_in_json(inside, labels):
    names = ["a", "b", "c", "none"]
    report = evaluate(inside, labels, scores=["entropy"], class_names=names)
    last = json.loads(report.to_json())["per_class"][-1]
    assert (last["name"], last["n"], last["confidence"], last["entropy"]) == ("none", 0, None, None)
    assert set(last["accuracy"].values()) == {None}
    assert last["precision"]["value"] == 0.0  # inputs were called so, all wrongly
    assert report.class_names == tuple(names)
    assert json.loads(report.to_json())["class_names"] == names


def test_many_classes_show_the_worst_in_report_md():
    count = 30
    labels = np.repeat(np.arange(count), 2)
    probs = np.full((60, count), 0.5 / (count - 1))
    probs[np.arange(60), np.where(labels < 5, (labels + 1) % count, labels)] = 0.5
    markdown = evaluate(Predictive.from_probs(probs), labels, scores=["entropy"]).to_markdown()
    section = markdown.split("## Classes")[1].split("##")[0]
    rows = [line.split(" | ")[0].strip("| ") for line in section.splitlines() if "[" in line]
    assert rows[:5] == ["0", "1", "2", "3", "4"]
    assert len(rows) == 20
    assert "20 of 30 classes" in section


# --- against the number of networks -------------------------------------------------------------


def test_curves_end_at_the_numbers_of_the_report(inside, labels):
    far = {"near": drawn(8, 50, 2, labels=labels[:50]), "far": drawn(8, 40, 3)}
    report = evaluate(inside, labels, ood=far, scores=["mutual_information", "entropy"])
    assert set(report.against_networks) == {"nll", "accuracy", "ece", "ood/near", "ood/far"}
    for name, curve in report.against_networks.items():
        assert curve.num_networks.tolist() == [1, 2, 4, 8]
        wanted = (
            report.ood[name[4:]]["scores"]["mutual_information"]["auroc"]
            if name.startswith("ood/")
            else report.id[name]
        )
        assert curve.mean[-1] == pytest.approx(wanted.value, abs=1e-12), name
    found = json.loads(report.to_json())["against_networks"]["nll"]
    assert found["num_networks"] == [1.0, 2.0, 4.0, 8.0]
    assert found["std"][-1] is None  # a single subset


def test_points_are_means_over_single_networks(inside, labels):
    found = measure_curves(inside, labels, {}, score="entropy", num_bins=15, seed=0)
    single = inside.samples[:, np.arange(90), labels]
    assert found["nll"].mean[0] == pytest.approx(-np.log(single).mean())
    assert found["accuracy"].mean[0] == pytest.approx((inside.samples.argmax(-1) == labels).mean())


def test_networks_that_cannot_be_told_apart_give_no_curve(inside, labels):
    report = evaluate(Predictive.from_probs(inside.probs), labels)
    assert report.against_networks == {}
    assert report.settings["curve_inputs"] == 0


def test_many_samples_are_thinned_evenly_and_alike_in_all_sets(inside, labels, monkeypatch):
    far = {"far": drawn(8, 20, 3)}  # so few that it is used whole
    monkeypatch.setattr(measuring, "CURVE_ENTRIES", 8 * 30 * CLASSES)
    report = evaluate(inside, labels, ood=far, scores=["entropy"])
    assert report.settings["curve_inputs"] == 30
    probs, some = inside.probs[::3], labels[::3]
    curves = report.against_networks
    assert curves["nll"].mean[-1] == pytest.approx(-np.log(probs[np.arange(30), some]).mean())
    scores = np.r_[inside.score("entropy")[::3], far["far"].score("entropy")]
    wanted = roc_auc_score(np.repeat([0, 1], [30, 20]), scores)
    assert curves["ood/far"].mean[-1] == pytest.approx(wanted)


def test_a_divergence_begins_at_two_networks(inside, labels):
    found = measure_curves(
        inside, labels, {"far": drawn(8, 40, 3)}, score="pairwise_kl", num_bins=15, seed=0
    )
    assert found["ood/far"].num_networks.tolist() == [2, 4, 8]


def test_errors_of_many_samples_take_fewer_groups(inside, labels, monkeypatch):
    whole = evaluate(inside, labels, scores=["entropy"]).id["nll"].mc_error
    monkeypatch.setattr(measuring, "ERROR_ENTRIES", 1)
    fewer = evaluate(inside, labels, scores=["entropy"]).id["nll"].mc_error
    left = []
    for group in range(7):  # networks 0 and 7 are one group
        kept = inside.samples[np.arange(8) % 7 != group].mean(axis=0)
        left.append(-np.log(kept[np.arange(90), labels]).mean())
    assert fewer == pytest.approx(np.sqrt(6 * np.var(left)))
    assert fewer != pytest.approx(whole)


def test_mapped_predictions_are_evaluated_as_they_are(inside, labels, tmp_path):
    np.save(tmp_path / "probs.npy", inside.probs)
    mapped = np.load(tmp_path / "probs.npy", mmap_mode="r")
    predictive = Predictive(mapped, None, None, None, 8, 0, "monte_carlo")
    report = evaluate(predictive, labels, ood={"same": predictive})
    assert report.probs is mapped
    in_memory = Predictive(inside.probs, None, None, None, 8, 0, "monte_carlo")
    assert report.to_json() == evaluate(in_memory, labels, ood={"same": in_memory}).to_json()
