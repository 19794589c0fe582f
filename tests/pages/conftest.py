"""A page with hostile names, and a browser to open it in."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from page_cases import HOSTILE, make_report, page_of

OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


@pytest.fixture(scope="session")
def hostile_report():
    return make_report(HOSTILE, class_names=["<b>cat</b>", "dog & 'co'", "\u202efox\n\x00"])


@pytest.fixture(scope="session")
def hostile_page(hostile_report):
    return page_of(hostile_report)


@pytest.fixture(scope="session")
def browser():
    """Chromium; what it requests and logs is recorded."""
    for program in ("/usr/bin/chromium", "/usr/bin/chromedriver"):
        if not Path(program).exists():
            pytest.skip(f"{program} is not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    profile = tempfile.mkdtemp(prefix="chromium-")
    for option in [*OPTIONS, f"--user-data-dir={profile}", "--window-size=1280,900"]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService("/usr/bin/chromedriver")
    driver = webdriver.Chrome(options=options, service=service)
    yield Browser(driver)
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


class Browser:
    """What tests ask of a page."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path, *, width=1280, scheme="light", media="screen"):
        """Open a file, and forget what was logged before."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900,
                     deviceScaleFactor=1, mobile=False)  # fmt: skip
        # Without smooth scrolling, so that what is clicked stands still.
        values = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in values.items()]
        self.command("Emulation.setEmulatedMedia", media=media, features=features)
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(Path(path).as_uri())

    def command(self, name, **arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def messages(self):
        return self.driver.get_log("browser")

    def requested(self):
        """Addresses that were asked for since the page was opened."""
        events = [json.loads(entry["message"])["message"] for entry in
                  self.driver.get_log("performance")]  # fmt: skip
        sent = [each for each in events if each["method"] == "Network.requestWillBeSent"]
        return [each["params"]["request"]["url"] for each in sent]
