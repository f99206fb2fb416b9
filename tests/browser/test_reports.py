"""The pages that a run writes, opened from disk without a server."""

from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By

from glasshouse.runs import folder as runs
from tests.browser.conftest import WIDTHS, find, prefer, require_fits, set_width, wait_for
from tests.serving.runs import train_small

pytestmark = pytest.mark.browser

SCROLLING = """return [...document.querySelectorAll(`${arguments[0]} .table`)]
  .filter(table => table.scrollWidth > table.clientWidth).length"""


def test_a_report_opens_without_a_server_at_every_width(
    chromium: WebDriver, tmp_path: Path
) -> None:
    folder = train_small(tmp_path / "run", has_report=True)
    for theme in ("light", "dark"):
        prefer(chromium, theme)
        for width in WIDTHS:
            set_width(chromium, width)
            chromium.get((folder / runs.REPORT).as_uri())
            find(chromium, "h1")
            wait_for(lambda: broken_images(chromium) == 0, "every image")
            require_fits(chromium, width)
            assert chromium.execute_script(SCROLLING, "#confidence") == 0, width
    for link in chromium.find_elements(By.CSS_SELECTOR, "a[href]"):
        address = str(link.get_attribute("href"))
        assert address.startswith("file:"), address


def broken_images(browser: WebDriver) -> int:
    script = (
        "const all = [...document.images];"
        "return all.length ? all.filter(i => !i.complete || !i.naturalWidth).length : -1"
    )
    return int(browser.execute_script(script))
