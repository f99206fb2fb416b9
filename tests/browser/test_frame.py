"""Every page in a browser: keyboard, widths, dark mode, no other hosts."""

from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.keys import Keys

from glasshouse.serving.app import PAGES
from tests.browser.conftest import (
    WIDTHS,
    StartWorkbench,
    click,
    find,
    find_words,
    prefer,
    require_fits,
    set_width,
    wait_for,
)
from tests.browser.contrast import faint_texts
from tests.serving.runs import trained_run

pytestmark = pytest.mark.browser


def test_an_empty_workbench_at_every_width_in_light_and_dark(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    address = start_workbench(tmp_path / "runs")
    for page in PAGES:
        if not page.label:
            continue
        for width in WIDTHS:
            set_width(chromium, width)
            chromium.get(address + page.path)
            find(chromium, "main h1")
            require_fits(chromium, width)
    before = ground(chromium)
    click(lambda: find(chromium, ".gh-theme"))
    wait_for(lambda: ground(chromium) != before, "other colours")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_of_trained_runs_fits_and_can_be_read(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path, theme: str
) -> None:
    for name in ("first", "second"):
        trained_run(tmp_path / "runs" / name)
    prefer(chromium, theme)
    address = start_workbench(tmp_path / "runs")
    for path, last in (
        ("/", "a.gh-run"),
        ("/run/first", ".gh-lines"),
        ("/compare?run=first&run=second", ".gh-note"),
        ("/train?like=first", ".gh-fold"),
        ("/explain?run=first", "main h1"),
    ):
        chromium.get(address + path)
        find(chromium, last)
        for width in reversed(WIDTHS):
            require_fits(chromium, width)
        assert faint_texts(chromium) == [], path


def ground(browser: WebDriver) -> str:
    script = "return getComputedStyle(document.body).backgroundColor"
    return str(browser.execute_script(script))


def test_the_keyboard_reaches_the_pages(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    chromium.get(start_workbench(tmp_path / "runs"))
    find_words(chromium, "No runs yet")
    chromium.switch_to.active_element.send_keys(Keys.TAB)
    assert "Skip" in chromium.switch_to.active_element.text
    chromium.switch_to.active_element.send_keys(Keys.TAB)
    assert (chromium.switch_to.active_element.get_attribute("href") or "").endswith("/")
    ring = "return getComputedStyle(document.activeElement).boxShadow"
    for _ in range(10):
        chromium.switch_to.active_element.send_keys(Keys.TAB)
        if chromium.switch_to.active_element.tag_name == "button":
            break
    # Quasar takes the outline from its buttons.
    assert chromium.execute_script(ring) != "none"
