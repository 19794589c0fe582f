"""The page of a report: that it holds the report's numbers, whatever the report has or lacks."""

import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from page_cases import HOSTILE, ID_ALONE, Parsed, make_report, page_of

from bbnn_uq import Predictive, evaluate
from bbnn_uq.metrics import Interval
from bbnn_uq.pages.pictures import picture_uris
from bbnn_uq.pages.rendering import number_text


@pytest.fixture(scope="module")
def report():
    return make_report()


@pytest.fixture(scope="module")
def page(report):
    return page_of(report)


def numbers(value):
    """Every value of an interval in a report."""
    if isinstance(value, dict):
        for each in value.values():
            yield from numbers(each)
    elif isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif hasattr(value, "low"):
        yield value.value


def test_every_number_of_the_report_is_in_a_table(report, page):
    sorted_by = {float(v) for v in re.findall(r'data-value="([^"]+)"', page)}
    wanted = [*numbers(report.id), *numbers(report.ood), *numbers(report.mode)]
    assert len(wanted) > 60
    assert set(wanted) <= sorted_by
    for entry in report.per_class:
        parts = (entry["accuracy"].value, entry["precision"].value, entry["confidence"])
        assert {*parts, entry["entropy"]} <= sorted_by


def test_the_verdict_states_the_first_score_and_the_best_and_that_it_was_picked(report, page):
    text = " ".join("".join(Parsed(page).text).split())
    verdict = report.verdict()
    for metric in ("accuracy", "ece", "nll"):
        assert number_text(verdict[metric].value) in text
    for entry in verdict["ood"]:
        assert f"AUROC against {entry['name']}" in text
        assert number_text(entry["auroc"].value, 3) in text
        if entry["best_score"] != entry["score"]:
            assert f"Best of 3: {entry['best_score']}" in text
            assert "picked on these very inputs" in text
    for warning in report.warnings:
        assert warning in text


def test_the_page_is_well_formed_with_unique_ids_and_headings_in_order(page):
    parsed = Parsed(page)
    ids = [attributes["id"] for _, attributes in parsed.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["href"] for a in parsed.all("a")]
    assert links
    assert {link[1:] for link in links} <= set(ids)
    levels = [int(tag[1]) for tag, _ in parsed.seen if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image["alt"] for image in parsed.all("img"))
    assert all(svg["aria-label"] for svg in parsed.all("svg"))
    assert all(head["scope"] in ("row", "col") for head in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table"))


def test_the_page_asks_for_nothing(page, hostile_page):
    for text in (page, hostile_page):
        for tag, attributes in Parsed(text).seen:
            for name in ("src", "href", "action", "data", "poster", "srcset"):
                if name in attributes:
                    assert attributes[name].startswith(("#", "data:")), (tag, attributes)
            assert not [name for name in attributes if name.startswith("on")]
        assert "@import" not in text
        assert re.findall(r"url\((?!#)", text) == []


def test_the_same_report_gives_the_same_page(report, page):
    assert page_of(report) == page


def test_names_are_escaped_and_on_one_line(hostile_page):
    parsed = Parsed(hostile_page)
    assert len(parsed.all("script")) == 1
    text = " ".join("".join(parsed.text).split())
    assert HOSTILE[0] in text
    assert "\"><img src=x onerror='window.ran = 2'> ../../ evil {{ 7 * 7 }} ]]>" in text
    assert "<b>cat</b>" in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00]", hostile_page)
    shown = HOSTILE[2][:79] + "…"  # cut where it names a section or a row
    assert f"<bdi>{shown}</bdi>" in hostile_page


def test_examples_are_shown_with_class_names_confidence_and_mistakes(report):
    named = ("cat", "dog", "fox")
    parsed = Parsed(page_of(report, class_names=named, **ID_ALONE))
    wanted = []
    for some in report.examples.values():
        for i, index in enumerate(some.index):
            text = f"Input {index}, predicted {named[some.predicted[i]]}"
            text += f" with confidence {some.confidence[i]:.2f}"
            if some.labels is not None:
                text += f", true class {named[some.labels[i]]}"
            wanted.append(text)
    pictures = [uri for some in report.examples.values() for uri in picture_uris(some.inputs)]
    assert [image["alt"] for image in parsed.all("img")] == wanted
    assert [image["src"] for image in parsed.all("img")] == pictures
    assert len(set(pictures)) > 24
    assert len(wanted) == 3 * 24
    mistakes = int((report.examples["id"].labels != report.examples["id"].predicted).sum())
    assert 0 < mistakes < 24
    assert len([a for a in parsed.all("li") if a.get("class") == "wrong"]) == mistakes


@pytest.mark.parametrize("known", [True, False])
def test_inputs_that_are_no_pictures_are_rows_of_a_table(report, known):
    some = report.examples["id"]
    inputs = tuple(np.arange(8.0) + 10 * i for i in range(len(some)))
    examples = {"id": replace(some, inputs=inputs if known else None)}
    page = page_of(report, examples=examples, **ID_ALONE)
    parsed = Parsed(page)
    assert parsed.all("img") == []
    captions = [a["aria-label"] for a in parsed.all("div") if a.get("role") == "region"]
    assert "digits: inputs with the highest entropy" in captions
    assert ("10, 11, 12, 13, 14, 15, … (8 values)" in page) == known
    for index in some.index:
        assert f'data-value="{index}"' in page


def test_a_report_of_averaged_probabilities_alone_has_a_page():
    report = evaluate(Predictive.from_probs([[0.9, 0.1], [1.0, 0.0], [0.3, 0.7]]), [0, 1, 1])
    assert math.isinf(report.id["nll"].value)
    page = page_of(report)
    text = "".join(Parsed(page).text)
    assert "∞" in text
    for absent in ("ood", "networks"):
        assert f'id="{absent}"' not in page
        assert f'href="#{absent}"' not in page


def test_classes_without_inputs_and_many_classes_have_a_place(report):
    empty = report.per_class[0] | {"n": 0, "accuracy": Interval(*[math.nan] * 3)}
    page = page_of(report, per_class=[empty] * 30, **ID_ALONE)
    assert "All 30 classes" in page
    assert page.count('<td class="number" data-value=""><span class="value">–</span>') == 30
    assert page.count('<th scope="row" data-value="0">0</th>') == 30
    named = page_of(report, per_class=[empty | {"name": "0"}, empty | {"name": "cat"}], **ID_ALONE)
    assert '<th scope="row" data-value="0">0</th>' in named  # not 0 twice
    assert '<th scope="row" data-value="0">0 <bdi>cat</bdi></th>' in named
    Parsed(page)


def test_a_page_of_many_scores_stays_small(report):
    """Ten scores and one set of 4,000 inputs; the bound for four such sets is 6 MB."""
    generator = np.random.default_rng(0)
    names = [f"entropy@{t}" for t in range(2, 12)]
    size = 4000
    inside = {name: generator.normal(size=size) for name in names}
    outside = {name: generator.normal(0.2 * i, 1.0, size) for i, name in enumerate(names)}
    measured = report.ood["far"]["scores"]["entropy"]
    page = page_of(
        report,
        ood={"far": {"n": size, "scores": dict.fromkeys(names, measured)}},
        scores={"id": inside, "ood/far": outside},
    )
    assert page.count("<svg") >= 10
    assert len(page.encode()) < 6e6 / 4


def test_a_report_is_saved_with_its_page(report, page, tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda _, path, **__: path.write_bytes(b""))
    report.save(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    assert (tmp_path / "risk_coverage.png").exists()
