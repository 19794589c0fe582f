"""Tidy tables of reports and predictives, and what a notebook shows of them."""

import math
import re
import xml.etree.ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy as scipy_entropy

from bbnn_uq import Predictive, RegressionPredictive, evaluate

EVIL = "\"><script>alert('x')</script>\n& \u202eright\u202c `<b>` 'q' é" + "n" * 300


@pytest.fixture(scope="module")
def predictive():
    samples = np.random.default_rng(0).dirichlet(np.ones(3), size=(5, 40))
    return Predictive.from_samples(samples, metadata={"dataset": "inside"})


@pytest.fixture(scope="module")
def labels():
    return np.arange(40) % 3


@pytest.fixture(scope="module")
def report(predictive, labels):
    far = {name: Predictive.from_samples(predictive.samples[:, :25]) for name in ("near", "far")}
    mode = Predictive.from_probs(predictive.samples[0])
    return evaluate(predictive, labels, ood=far, mode=mode)


@pytest.fixture(scope="module")
def regression():
    mean = np.array([[1.0, 2.0], [3.0, -4.0], [5.0, 6.0]])
    return RegressionPredictive(mean, mean**2, 2 * mean**2, 8, 0, "monte_carlo")


# --- reports ------------------------------------------------------------------------------------


def test_each_number_of_report_json_is_one_row(report):
    numbers = report.to_dict()
    frame = report.to_frame()
    assert list(frame.columns) == [
        "dataset", "kind", "score", "metric", "value", "low", "high", "mc_error", "n"
    ]  # fmt: skip
    wanted = {}
    parts = {"id": numbers["id"], "mode": numbers["mode"]}
    parts["mean_minus_mode"] = numbers["mode"]["mean_minus_mode"]
    for kind, part in parts.items():
        for metric, number in part.items():
            if isinstance(number, dict) and "value" in number:
                wanted["inside", kind, None, metric] = (number, 40)
    for name, entry in numbers["ood"].items():
        for score, of_score in entry["scores"].items():
            for metric, number in of_score.items():
                wanted[name, "ood", score, metric] = (number, 25)
    assert len(frame) == len(wanted)
    for row in frame.itertuples():
        score = None if pd.isna(row.score) else row.score
        number, count = wanted.pop((row.dataset, row.kind, score, row.metric))
        assert row.n == count
        for name in ("value", "low", "high", "mc_error"):
            known = number.get(name)
            assert getattr(row, name) == pytest.approx(
                math.nan if known is None else known, nan_ok=True, abs=0
            )
    assert not wanted


def test_numbers_are_numbers_for_pandas(report):
    frame = report.to_frame()
    assert all(frame[name].dtype == float for name in ("value", "low", "high", "mc_error"))
    best = frame[frame.metric == "auroc"].groupby("score").value.mean()
    assert best["entropy"] == pytest.approx(
        np.mean([report.ood[name]["scores"]["entropy"]["auroc"].value for name in report.ood])
    )


# --- predictives --------------------------------------------------------------------------------


def test_one_row_for_each_input_with_natural_signs(predictive, labels):
    frame = predictive.to_frame(labels)
    probs, samples = predictive.probs, predictive.samples
    ordered = np.sort(probs, axis=1)
    wanted = {
        "input": np.arange(40),
        "predicted": probs.argmax(axis=1),
        "label": labels,
        "correct": probs.argmax(axis=1) == labels,
        "entropy": scipy_entropy(probs, axis=1),
        "mutual_information": scipy_entropy(probs, axis=1)
        - scipy_entropy(samples, axis=2).mean(axis=0),
        "confidence": probs.max(axis=1),
        "margin": ordered[:, -1] - ordered[:, -2],
    }
    for name, values in wanted.items():
        np.testing.assert_allclose(frame[name], values, atol=1e-12)
    assert set(frame.columns) == {*wanted, *predictive.available_scores()}
    without = predictive.to_frame()
    assert set(frame.columns) - set(without.columns) == {"label", "correct"}


def test_softened_scores_are_columns_too(predictive):
    from bbnn_uq.scores import Softened

    softer = Softened(np.full((40, 3), 1 / 3), np.zeros(40), None, None)
    both = replace(predictive, softened={3.0: softer, 0.5: softer})
    frame = replace(both, pairwise_kl=None).to_frame()
    assert {"entropy@3", "confidence@3", "entropy@0.5"} <= set(frame.columns)
    assert "variation_ratio@3" not in frame.columns
    np.testing.assert_allclose(frame["confidence@3"], 1 / 3)
    np.testing.assert_allclose(frame["entropy@0.5"], np.log(3))


def test_labels_of_another_length_are_refused(predictive):
    with pytest.raises(ValueError, match=r"labels must have shape \(40,\)"):
        predictive.to_frame([0, 1])


def test_each_target_of_a_vector_is_a_row(regression):
    targets = np.zeros((3, 2))
    frame = regression.to_frame(targets)
    assert frame[["input", "dimension"]].values.tolist() == [
        [0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]
    ]  # fmt: skip
    fourth = frame.iloc[3]
    assert (fourth["mean"], fourth.error, fourth.epistemic_std) == (-4.0, -4.0, 16.0)
    assert fourth["std"] == pytest.approx(math.hypot(16, 32))
    assert "target" not in regression.to_frame().columns
    with pytest.raises(ValueError, match=r"targets must have the shape of mean, \(3, 2\), got"):
        regression.to_frame(targets[:, 0])


# --- notebooks ----------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Names of elements, their attributes and the texts of a piece of HTML."""

    def __init__(self, text):
        super().__init__()
        self.names, self.attributes, self.styles, self.texts = set(), set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.styles.update(value for name, value in attrs if name == "style")

    def handle_data(self, data):
        self.texts.append(data)


def check_html(text):
    """Well-formed, made of nothing but tables and lists, and without a colour of its own."""
    xml.etree.ElementTree.fromstring(text)
    found = Elements(text)
    assert found.names <= {
        "div", "table", "caption", "strong", "thead", "tbody", "tr", "th", "td", "ul", "li"
    }  # fmt: skip
    assert found.attributes <= {"style", "scope"}
    assert not re.search(r"#|background|(?<!-)color: (?!inherit)", " ".join(found.styles))
    assert all(text.isprintable() for text in found.texts)
    return found.texts


def test_a_report_shows_its_numbers_and_warnings(report):
    texts = check_html(report._repr_html_())
    for name in ("accuracy", "nll", "ece"):
        assert f"{report.id[name].value:.4f}" in texts
    verdict = report.verdict()
    for each in verdict["ood"]:
        assert f"{each['name']} (25)" in texts
        assert f"{each['best_auroc'].value:.4f}" in texts
    assert "NLL (nats)" in texts
    assert any("optimistic" in text for text in texts)
    assert set(verdict["warnings"]) <= set(texts)


def test_names_that_look_like_html_are_text(predictive, labels):
    evil = replace(predictive, metadata={"dataset": EVIL})
    report = evaluate(evil, labels, ood={EVIL: evil}, scores=["entropy"], class_names=[EVIL] * 3)
    for shown in (report, evil):
        texts = check_html(shown._repr_html_())
        assert any("<script>alert('x')</script> &" in text for text in texts)


def test_a_predictive_shows_how_its_scores_are_distributed(predictive):
    texts = check_html(predictive._repr_html_())
    assert texts[0] == "Predictive, 40 inputs, 3 classes, 5 networks, inside"
    row = texts.index("confidence")
    confidence = predictive.probs.max(axis=1)
    wanted = [confidence.mean(), *np.quantile(confidence, [0.05, 0.5, 0.95])]
    assert [float(text) for text in texts[row + 1 : row + 5]] == pytest.approx(wanted, rel=1e-3)


def test_a_regression_predictive_shows_its_spread(regression):
    texts = check_html(regression._repr_html_())
    assert texts[0] == "RegressionPredictive, 3 inputs, 2 targets, 8 networks"
    assert float(texts[texts.index("epistemic_std") + 3]) == pytest.approx(12.5)  # the median
    scalar = replace(regression, **{k: getattr(regression, k)[:, 0] for k in regression._REQUIRED})
    assert check_html(replace(scalar, method="mode")._repr_html_())[0].endswith("3 inputs, mode")
