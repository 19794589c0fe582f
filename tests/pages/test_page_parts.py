"""What the page is made of: texts of numbers, figures as SVG, pictures, sentences, and its base."""

import base64
import hashlib
import math
import re
import xml.etree.ElementTree as ElementTree
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
from jinja2 import UndefinedError
from page_cases import Parsed
from PIL import Image

from bbnn_uq import plots
from bbnn_uq.metrics import Interval
from bbnn_uq.monte_carlo import Measurement
from bbnn_uq.pages import render
from bbnn_uq.pages.pictures import MOST_PIXELS, picture_uris
from bbnn_uq.pages.rendering import data_value, decimals, interval_text, number_text, shown_name
from bbnn_uq.pages.sentences import enough_networks, gap_meaning, mode_meaning, nll_meaning
from bbnn_uq.pages.svg import inline_svg

# --- the base of every page --------------------------------------------------------------------


def test_the_base_is_well_formed():
    page = Parsed(render("base.html"))
    assert page.all("meta")[0]["charset"] == "utf-8"
    assert page.all("html") == [{"lang": "en"}]


def test_the_only_script_is_the_one_that_the_policy_allows_by_its_hash():
    page = render("base.html")
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"


def test_a_template_that_lacks_a_value_is_an_error():
    with pytest.raises(UndefinedError):
        render("report.html")


def luminance(colour):
    """Relative luminance of WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_letters_and_lines_stand_out_in_both_themes(theme):
    (rule,) = re.findall(rf':root\[data-theme="{theme}"\] {{(.*?)}}', render("base.html"), re.S)
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", rule))
    for surface in ("page", "surface", "sunken"):
        for ink in ("ink", "muted", "accent", "good"):
            assert contrast(colours[ink], colours[surface]) >= 4.5, (ink, surface)
    for ink in ("ink", "muted", "warning"):
        assert contrast(colours[ink], colours["warning-surface"]) >= 4.5, ink
    for i in range(10):  # graphics need 3
        assert contrast(colours[f"series-{i}"], colours["surface"]) >= 3, i


def test_contrast_is_that_of_the_standard():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


# --- texts of numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.1 + 0.2, -3.0, 5e-324, math.inf, -math.inf, 7])
def test_the_sorting_value_reads_back_as_the_very_number(value):
    assert float(data_value(value)) == value


def test_numbers_and_intervals_of_any_kind():
    assert number_text(np.float64(-0.5), 1) == "−0.5"
    assert number_text(math.inf) == "∞"
    assert number_text(-math.inf) == "−∞"
    assert number_text(None) == "–"
    assert interval_text(Interval(0.0, -0.1, 0.1), 1, signed=True) == "[−0.1, +0.1]"
    assert interval_text({"low": None, "high": 1.0}, 1) == "[–, 1.0]"


@pytest.mark.parametrize(
    ("interval", "wanted"),
    [
        (Interval(0.5, 0.4, 0.6), 4),
        (Interval(-0.00123, -0.002, 0.0), 4),
        (Interval(0.00012, 0.0, 0.0003), 5),
        (Interval(0.0, 0.0, 0.0), 4),
        (Interval(1e-12, 0.0, 2e-12), 6),
        (Interval(math.inf, 0.1, math.inf), 4),
        ({"value": None, "low": None, "high": None}, 4),
    ],
)
def test_small_numbers_get_more_decimals(interval, wanted):
    assert decimals(interval) == wanted


def test_long_names_are_cut_and_control_characters_are_spaces():
    assert shown_name("x" * 81) == "x" * 79 + "…"
    assert shown_name("\x00a\u2066\n\tb\u200f ") == "a b"
    assert shown_name(12) == "12"


# --- figures -----------------------------------------------------------------------------------


def drawn(key="one", label="what it shows", **sets):
    sets = sets or {"id": [0.1, 0.2, 0.3], "ood": [0.5, 0.9]}
    return inline_svg(
        lambda ax: plots.ood_histograms(sets, ax, score="entropy"), key=key, label=label
    )


def test_svg_is_well_formed_themed_and_the_same_each_time():
    with mpl.rc_context():
        before = dict(mpl.rcParams)
        svg = drawn()
        assert dict(mpl.rcParams) == before
    assert svg == drawn()
    ElementTree.fromstring(svg)
    assert not re.search(r"#0[0-9a-f]{5}\b", svg)  # neither ink, grid and surface nor a series
    for themed in ("currentColor", "var(--series-0)", "var(--series-1)", "var(--muted)"):
        assert themed in svg
    assert "entropy (nats)</text>" in svg
    assert "font-family" not in svg
    assert not re.search(r"\d\.\d{3}", svg)
    assert "<style" not in svg
    assert "metadata" not in svg


def test_ids_of_two_figures_differ_and_every_reference_is_met():
    both = drawn("one") + drawn("two")
    ids = re.findall(r'\bid="([^"]*)"', both)
    assert len(ids) == len(set(ids)) > 0
    used = re.findall(r"url\(#([^)]*)\)", both) + re.findall(r'href="#([^"]*)"', both)
    assert used
    assert set(used) <= set(ids)
    first, second = (set(re.findall(r'\bid="([^"]*)"', drawn(key))) for key in ("one", "two"))
    assert not first & second


def test_names_in_a_figure_are_text_whatever_they_hold():
    name = "<script>run()</script> & \"'$x^$ 😀 #0173b2"
    tree = ElementTree.fromstring(drawn(label=name, **{name: [0.1, 0.2]}))
    assert tree.get("aria-label") == name
    assert f"{name} (2)" in [element.text for element in tree.iter("text")]
    assert not list(tree.iter("script"))


def test_a_long_curve_is_drawn_with_fewer_points_that_stay_close():
    x = np.linspace(0, 1, 50_000)
    svg = inline_svg(lambda ax: ax.plot(x, x**2, color="#0173b2"), key="line", label="a parabola")
    assert len(svg) < 20_000
    longest = max(re.findall(r' d="([^"]*)"', svg), key=len)
    points = np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", longest), dtype=float)
    assert 10 < len(points) < 1000
    (left, bottom), (right, top) = points[0], points[-1]
    along, up = (points[:, 0] - left) / (right - left), (points[:, 1] - bottom) / (top - bottom)
    np.testing.assert_allclose(up, along**2, atol=0.01)


# --- pictures ----------------------------------------------------------------------------------


def decoded(uri):
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(body))))


GREY = np.arange(20.0).reshape(4, 5) / 19
COLOUR = np.random.default_rng(0).random((4, 6, 3))


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        ([GREY], [GREY * 255]),
        ([GREY[None]], [GREY * 255]),
        ([GREY[:, :, None].astype(np.float32)], [GREY * 255]),
        ([COLOUR], [COLOUR * 255]),
        ([np.moveaxis(COLOUR, 2, 0)], [COLOUR * 255]),
        ([(GREY * 100).astype(np.uint8)], [np.floor(GREY * 100)]),
        ([GREY - 0.5], [GREY * 255]),  # from the lowest to the highest
        ([GREY * 200, GREY * 100], [GREY * 255, GREY * 127.5]),  # on one scale
        ([GREY / 4], [GREY / 4 * 255]),  # within [0, 1] that is the scale
        ([np.full((4, 4), 7.0)], [np.full((4, 4), 255.0)]),
        ([np.full((4, 4), -7.0)], [np.zeros((4, 4))]),
        ([np.full((4, 4), np.nan)], [np.zeros((4, 4))]),
        ([np.ones((4, 4), bool)], [np.full((4, 4), 255.0)]),
    ],
)
def test_pictures_hold_the_values(inputs, wanted):
    kept = [each.copy() for each in inputs]
    for uri, values, before, after in zip(picture_uris(inputs), wanted, kept, inputs, strict=True):
        np.testing.assert_allclose(decoded(uri), values, atol=0.51)
        np.testing.assert_array_equal(before, after)


def test_large_pictures_are_scaled_down_to_their_means():
    values = np.zeros((4 * MOST_PIXELS, 2 * MOST_PIXELS))
    values[::2] = 1.0
    shown = decoded(picture_uris([values])[0])
    assert shown.shape == (MOST_PIXELS, MOST_PIXELS // 2)
    np.testing.assert_allclose(shown, 127.5, atol=1)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(64),
        np.zeros((2, 40)),
        np.zeros((5, 8, 8)),
        np.zeros((8, 8, 2)),
        np.zeros((1, 1, 8, 8)),
        np.zeros((8, 8), complex),
        np.zeros((8, 8), "<U3"),
    ],
)
def test_what_is_no_picture_is_none(array):
    assert picture_uris([array]) is None
    assert picture_uris([np.zeros((8, 8)), array]) is None
    assert picture_uris([]) is None


# --- sentences ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "says"),
    [(0.0, "at most 0 %"), (0.0049, "Yes"), (0.0052, "More would help"), (None, "cannot be said"),
     (math.nan, "cannot be said")],
)  # fmt: skip
def test_networks_are_enough_below_half_the_error_over_inputs(error, says):
    # 1.959964 standard errors of 0.01 to either side.
    number = Measurement(0.5, 0.5 - 0.01959964, 0.5 + 0.01959964, mc_error=error)
    text = enough_networks([("accuracy", number)], count=8, confidence_level=0.95)
    assert says in text
    if error == 0.0052:
        assert "accuracy (52 %)" in text


def test_an_interval_without_a_width_says_nothing_of_networks():
    number = Measurement(1.0, 1.0, 1.0, mc_error=0.1)
    text = enough_networks([("accuracy", number)], count=8, confidence_level=0.95)
    assert "cannot be said" in text


@pytest.mark.parametrize(
    ("top", "right", "says"), [(0.9, 0.5, "over"), (0.6, 0.95, "under"), (0.8, 0.8, "Neither")]
)
def test_confidence_is_told_from_accuracy_only_beyond_its_error(top, right, says):
    probs = np.tile([top, 1 - top], (100, 1))
    labels = (np.arange(100) >= 100 * right).astype(int)
    text = gap_meaning(probs, labels)
    assert says in text
    assert f"mean confidence {100 * top:.1f} %, accuracy {100 * right:.1f} %." in text


def test_the_mode_is_worse_better_or_open():
    assert "lowers the NLL by 0.2000" in mode_meaning({"nll": Interval(-0.2, -0.3, -0.1)})
    assert "raises the NLL by 0.2000" in mode_meaning({"nll": Interval(0.2, 0.1, 0.3)})
    assert "leave open" in mode_meaning({"nll": Interval(-0.2, -0.3, 0.1)})
    assert "no difference" in mode_meaning({"nll": Interval(math.nan, math.nan, math.nan)})
    assert nll_meaning(Interval(math.inf, 1.0, math.inf)).startswith("Infinite")
