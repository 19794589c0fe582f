"""The page as a browser shows it: sorting, themes, widths, pictures, and that nothing else runs."""

import base64
from itertools import pairwise

import pytest

ORDER = "return [...arguments[0].tBodies[0].rows].map(row => row.cells[{}].dataset.value)"
BACKGROUND = "return getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def page(hostile_page, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(hostile_page, encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_page_is_quiet_complete_and_no_wider_than_its_window(browser, page, width, scheme):
    browser.open(page, width=width, scheme=scheme)
    assert browser.messages() == []
    asked_for = browser.requested()
    assert page.as_uri() in asked_for
    assert all(url == page.as_uri() or url.startswith("data:") for url in asked_for)
    assert browser.run("return window.ran") is None
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    widths = browser.run("return [...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 4 * 24
    assert set(widths) == {8}


def test_names_are_text_and_nothing_of_them_is_an_element(browser, page):
    browser.open(page)
    assert browser.run("return document.scripts.length") == 1
    assert browser.run("return document.querySelectorAll('main b, main script').length") == 0
    text = browser.run("return document.querySelector('main').innerText")
    assert "<script>window.ran = 1</script>" in text
    assert "{{ 7 * 7 }} ]]>" in text
    assert "<b>cat</b>" in text
    assert "\u202e" not in text


def test_headings_are_in_order_and_figures_are_named(browser, page):
    browser.open(page)
    levels = browser.run(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map(each => +each.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tree = browser.command("Accessibility.getFullAXTree")["nodes"]
    pictures = [node for node in tree if node.get("role", {}).get("value") == "image"]
    assert len(pictures) > 90
    assert all(node["name"]["value"] for node in pictures)
    tables = [node for node in tree if node.get("role", {}).get("value") == "table"]
    assert tables
    assert all(node["name"]["value"] for node in tables)


def test_a_table_is_sorted_as_numbers_by_mouse_and_by_keyboard(browser, page):
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    table = browser.driver.find_element("css selector", "#classes table")
    # What would be wrong as text: 9 and 100, numbers below 0 and in exponents, nothing at all.
    browser.run(
        "arguments[1].forEach((values, row) => values.forEach((value, i) => {"
        "  arguments[0].tBodies[0].rows[row].cells[i + 1].dataset.value = value; }))",
        table,
        [["100", "-2.5"], ["", "1e-7"], ["9", "-30"]],
    )
    buttons = table.find_elements("css selector", "thead button")
    assert len(buttons) == 6
    headers = table.find_elements("css selector", "thead th")

    def sorts():
        return [header.get_attribute("aria-sort") for header in headers]

    assert sorts() == [None] * 6
    buttons[1].click()
    assert browser.run(ORDER.format(1), table) == ["9", "100", ""]
    assert sorts() == [None, "ascending", None, None, None, None]
    buttons[1].click()
    assert browser.run(ORDER.format(1), table) == ["100", "9", ""]
    assert sorts()[1] == "descending"
    buttons[2].send_keys(Keys.ENTER)
    assert browser.run(ORDER.format(2), table) == ["-30", "-2.5", "1e-7"]
    assert sorts() == [None, None, "ascending", None, None, None]
    buttons[2].send_keys(Keys.SPACE)
    assert browser.run(ORDER.format(2), table) == ["1e-7", "-2.5", "-30"]
    assert browser.messages() == []


def test_a_column_of_words_is_sorted_as_words(browser, page):
    browser.open(page)
    table = browser.driver.find_element("css selector", "#metrics table")
    table.find_element("css selector", "thead button").click()
    names = browser.run("return [...arguments[0].tBodies[0].rows].map(r => r.cells[0].innerText)",
                        table)  # fmt: skip
    assert names == sorted(names, key=str.lower)
    assert len(names) > 5


def test_theme_follows_the_system_and_the_switch_and_is_remembered(browser, page):
    browser.open(page, scheme="light")
    light = browser.run(BACKGROUND)
    browser.open(page, scheme="dark")
    dark = browser.run(BACKGROUND)
    assert light != dark
    button = browser.driver.find_element("id", "theme")
    assert button.is_displayed()
    assert button.text == "Light theme"
    button.click()
    assert browser.run(BACKGROUND) == light
    assert button.text == "Dark theme"
    browser.open(page, scheme="dark")
    assert browser.run(BACKGROUND) == light
    browser.driver.find_element("id", "theme").click()
    assert browser.run(BACKGROUND) == dark
    browser.run("localStorage.clear()")
    assert browser.messages() == []


def test_the_skip_link_is_the_first_stop_and_leads_to_the_content(browser, page):
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    browser.driver.find_element("css selector", "body").send_keys(Keys.TAB)
    link = browser.driver.switch_to.active_element
    assert link.get_attribute("class") == "skip"
    assert link.rect["x"] >= 0
    assert browser.run("return document.querySelector(arguments[0].hash).tagName", link) == "MAIN"


def test_print_is_light_with_everything_open_and_no_switch(browser, page):
    browser.open(page, scheme="light")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    closed = "return document.querySelectorAll('details:not([open])').length"
    assert browser.run("return document.querySelectorAll('details').length") > 0
    assert browser.run(closed) == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run(closed) > 0
    browser.open(page, scheme="dark", media="print", width=718)
    assert browser.run(BACKGROUND) == "rgb(255, 255, 255)"
    assert not browser.driver.find_element("id", "theme").is_displayed()
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    pdf = base64.b64decode(browser.command("Page.printToPDF")["data"])
    assert pdf.startswith(b"%PDF")


def test_without_scripts_everything_but_the_switch_is_there(browser, page):
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        button = browser.driver.find_element("id", "theme")
        assert not button.is_displayed()
        heads = browser.driver.find_elements("css selector", "#classes thead th")
        assert [head.text for head in heads][:2] == ["class", "inputs"]
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)
