"""The page of a comparison as a browser shows it: quiet, sortable, and nothing of a name runs."""

from itertools import pairwise

import numpy as np
import pytest
from page_cases import HOSTILE, samples_like

from bbnn_uq import Predictive, evaluate, pages, report
from bbnn_uq.comparison import compare, measures


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    labels = samples_like(1, 60, sharpness=4.0).mean(axis=0).argmax(axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_figures", lambda *_, **__: None)
        patch.setattr(pages, "report_page", lambda **_: "")
        patch.setattr(report, "NUM_RESAMPLES", 20)
        patch.setattr(measures, "NUM_RESAMPLES", 20)
        for seed in range(3):
            ood = {
                name: Predictive.from_probs(samples_like(seed + 9, 40, sharpness=1.0).mean(axis=0))
                for name in HOSTILE
            }
            inside = Predictive.from_probs(samples_like(seed, 60, sharpness=2.0).mean(axis=0))
            inside.metadata["dataset"] = HOSTILE[0]
            scores = ["entropy", "margin", "confidence"]
            evaluate(inside, np.roll(labels, seed == 2), ood=ood, scores=scores).save(
                folder / str(seed)
            )
        names = {name: folder / str(seed) for seed, name in enumerate(HOSTILE)}
        compare(names).save(folder / "out")
    return folder / "out" / "comparison.html"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_is_quiet_and_no_wider_than_its_window(browser, page, width, scheme):
    browser.open(page, width=width, scheme=scheme)
    assert browser.messages() == []
    assert all(url == page.as_uri() or url.startswith("data:") for url in browser.requested())
    assert browser.run("return window.ran") is None
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")


def test_names_are_text_and_headings_in_order(browser, page):
    browser.open(page)
    assert browser.run("return document.scripts.length") == 1
    assert browser.run("return document.querySelectorAll('main img, main script').length") == 0
    text = browser.run("return document.querySelector('main').innerText")
    assert "<script>window.ran = 1</script>" in text
    assert "Not on the same inputs" in text
    assert "\u202e" not in text
    levels = browser.run(
        "return [...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])"
    )
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tree = browser.command("Accessibility.getFullAXTree")["nodes"]
    for role in ("image", "table"):
        found = [node for node in tree if node.get("role", {}).get("value") == role]
        assert found
        assert all(node["name"]["value"] for node in found)


def test_tables_are_sorted_by_value_though_the_best_is_marked(browser, page):
    browser.open(page)
    table = browser.driver.find_element("css selector", "#id table")
    assert "★" in table.text
    order = "return [...arguments[0].tBodies[0].rows].map(row => +row.cells[2].dataset.value)"
    button = table.find_elements("css selector", "thead button")[2]
    button.click()
    values = browser.run(order, table)
    assert len(values) == 3
    assert values == sorted(values)
    button.click()
    assert browser.run(order, table) == values[::-1]
