"""What a report says first, and what it warns of."""

from dataclasses import replace

import numpy as np
import pytest

from bbnn_uq import Predictive, evaluate, metrics
from bbnn_uq.verdict import average_name

GENERATOR = np.random.default_rng(0)
LABELS = np.arange(400) % 2


def drawn(inputs=400, *, networks=6, separation=2.0, spread=0.5, labels=None, **metadata):
    """Networks whose logit of class 1 is ±separation by the label, and noise."""
    sign = np.zeros(inputs) if labels is None else 2.0 * labels - 1.0
    own = GENERATOR.normal(size=inputs)
    logits = separation * sign + own + spread * GENERATOR.normal(size=(networks, inputs))
    share = 1 / (1 + np.exp(-logits))
    return Predictive.from_samples(np.stack([1 - share, share], axis=-1), metadata=metadata)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("bbnn_uq.report.NUM_RESAMPLES", 200)


@pytest.fixture(scope="module")
def inside():
    return drawn(labels=LABELS, dataset="inside")


@pytest.fixture(scope="module")
def outside():
    return drawn(300, separation=0.0)


def warned(predictive, labels=LABELS, **options):
    options = {"scores": ["entropy"]} | options
    return "\n".join(evaluate(predictive, labels, **options).warnings)


def test_verdict_gives_the_first_score_as_named_and_the_best(inside, outside):
    report = evaluate(
        inside, LABELS, ood={"far": outside}, scores=["variation_ratio", "entropy", "margin"]
    )
    found = report.verdict()
    assert {name: found[name] for name in ("accuracy", "nll", "ece")} == {
        name: report.id[name] for name in ("accuracy", "nll", "ece")
    }
    (far,) = found["ood"]
    aurocs = {name: entry["auroc"] for name, entry in report.ood["far"]["scores"].items()}
    best = max(aurocs, key=lambda name: aurocs[name].value)
    assert best != "variation_ratio"
    assert far == {
        "name": "far",
        "n": 300,
        "score": "variation_ratio",
        "auroc": aurocs["variation_ratio"],
        "best_score": best,
        "best_auroc": aurocs[best],
        "num_scores": 3,
    }
    assert found["warnings"] == list(report.warnings)
    assert "optimistic" in report.to_markdown()


def test_a_sound_report_has_no_warnings(outside):
    labels = np.arange(4000) % 2
    share = np.where(labels == 1, 0.7, 0.2)  # confident on the wrong side: the ECE is no chance
    several = np.clip(share + 0.1 * GENERATOR.normal(size=(64, 4000)), 0.01, 0.99)
    sound = Predictive.from_samples(np.stack([1 - several, several], axis=-1))
    assert evaluate(sound, labels, scores=["entropy"]).warnings == ()


# --- networks -----------------------------------------------------------------------------------


def test_a_collapsed_posterior_is_named(inside):
    for collapsed in (True, False):
        facts = {"posterior": {"bits_per_weight": 0.0004, "collapsed": collapsed}}
        found = warned(replace(inside, metadata=facts))
        assert ("collapsed (0.0004 bits per weight)" in found) == collapsed


def test_networks_on_averaged_statistics_are_named(inside, outside):
    count = inside.num_samples
    facts = {"networks_on_averages": count - 1}
    expected = f"{count - 1} of {count} networks use averaged BatchNorm statistics"
    assert expected in warned(inside, ood={"far": replace(outside, metadata=facts)})
    assert "averaged BatchNorm" not in warned(inside, ood={"far": outside})


def test_networks_that_agree_are_named():
    same = Predictive.from_samples(np.repeat(drawn(labels=LABELS, networks=1).samples, 3, axis=0))
    assert "largest mutual information is 0 nats" in warned(same)
    far = drawn(300, networks=3)
    assert "hardly disagree" not in warned(same, ood={"far": far})


def test_what_is_no_average_is_named(inside):
    assert "one network" in warned(drawn(labels=LABELS, networks=1))
    assert "Only averaged probabilities" in warned(Predictive.from_probs(inside.probs))


def test_too_few_networks_are_named_by_the_ratio_of_the_two_errors(inside, outside):
    few = drawn(labels=LABELS, networks=3, spread=3.0)
    report = evaluate(few, LABELS, scores=["entropy"])
    assert "over networks exceeds" not in warned(inside)
    found = "".join(report.warnings)
    for name, shown in (("accuracy", "accuracy"), ("nll", "NLL"), ("ece", "ECE")):
        number = report.id[name]
        exceeds = number.mc_error > (number.high - number.low) / (2 * 1.959964)
        assert (shown in found.partition("over networks exceeds")[2]) == exceeds
    assert report.id["nll"].mc_error > (report.id["nll"].high - report.id["nll"].low) / 3.92


# --- sets ---------------------------------------------------------------------------------------


def test_small_sets_are_named_with_their_size(inside):
    assert "Fewer than" not in warned(inside, ood={"far": drawn(100)})
    found = warned(inside, ood={"far\n\x1b[31m": drawn(99)})
    assert "Fewer than 100 inputs in 'far [31m' (99)" in found
    assert "the ID set (50)" in warned(drawn(50, labels=LABELS[:50]), LABELS[:50])


def test_sets_that_may_be_the_same_are_named(inside, outside):
    assert "has the name of the ID set" in warned(inside, ood={"inside": outside})
    printed = [replace(p, metadata={"fingerprint": "ab"}) for p in (inside, outside, outside)]
    found = warned(printed[0], ood={"a": printed[1]})
    assert "OOD set 'a' has the same fingerprint as the ID set" in found
    found = warned(inside, ood={"a": printed[1], "b": printed[2]})
    assert "OOD set 'b' has the same fingerprint as 'a'" in found
    other = replace(outside, metadata={"fingerprint": "cd"})
    assert "fingerprint" not in warned(printed[0], ood={"a": other, "b": outside, "c": outside})


def test_fingerprints_are_in_the_report(inside, outside):
    known = replace(inside, metadata={"fingerprint": "ab"})
    report = evaluate(known, LABELS, ood={"a": outside}, scores=["entropy"]).to_dict()
    assert report["id"]["fingerprint"] == "ab"
    assert "fingerprint" not in report["ood"]["a"]


# --- numbers ------------------------------------------------------------------------------------


def test_an_ece_that_chance_would_give_is_named_at_about_its_level():
    """Perfectly calibrated models are nearly always warned of, by the definition 95 of 100."""
    confidence = GENERATOR.uniform(0.5, 1.0, 300)
    probs = np.stack([confidence, 1 - confidence], axis=-1)
    predictive = Predictive.from_probs(probs)
    told = 0
    for _ in range(60):
        labels = (GENERATOR.uniform(size=300) > confidence).astype(int)
        curve = metrics.reliability_curve(probs, labels)
        told += "cannot be told from 0" in _number_warnings(predictive, labels, curve)
    assert 0.95 * 60 - 4 * np.sqrt(60 * 0.95 * 0.05) <= told < 60
    wrong = (GENERATOR.uniform(size=300) > confidence - 0.2).astype(int)
    assert "cannot be told" not in warned(predictive, wrong)


def _number_warnings(predictive, labels, curve):
    from bbnn_uq.metrics import Interval
    from bbnn_uq.verdict import find_warnings

    ece = metrics.ece(predictive.probs, labels)
    numbers = {name: Interval(ece, 0.0, 1.0) for name in ("accuracy", "nll", "ece")}
    return "".join(
        find_warnings(
            predictive, {}, id={"dataset": "id", "n": 300, **numbers}, ood={}, posterior=None,
            per_class=[], reliability=curve, confidence_level=0.95,
        )
    )  # fmt: skip


def test_a_score_that_is_worse_than_chance_is_named(inside):
    sure = drawn(300, separation=9.0, labels=LABELS[:300])
    report = evaluate(inside, LABELS, ood={"sure": sure}, scores=["entropy"])
    value = report.ood["sure"]["scores"]["entropy"]["auroc"].value
    assert f"entropy ranks 'sure' below the ID set (AUROC {value:.3f})" in "".join(report.warnings)


def test_an_infinite_nll_and_empty_classes_are_named():
    probs = np.array([[1.0, 0.0, 0.0]] * 100)
    names = ["a", "b<script>", "c"]
    found = warned(Predictive.from_probs(probs), np.repeat([0, 2], 50), class_names=names)
    assert "NLL is infinite" in found
    assert "No test input is of class 'b<script>'" in found
    assert "of class 1." in warned(Predictive.from_probs(probs), np.repeat([0, 2], 50))


@pytest.mark.parametrize(
    ("count", "method", "name"),
    [
        (1, "mode", "mode"),
        (32, "monte_carlo", "mean of 32 networks"),
        (1, "monte_carlo", "one network"),
        (1, "foreign", "predictions"),
        (2000, "foreign", "mean of 2,000 networks"),
    ],
)
def test_what_was_evaluated_is_named(count, method, name):
    assert average_name({"num_samples": count, "method": method}) == name
