"""The check of a folder in a browser: findings, pairs of duplicates, samples of a class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import (
    WIDTHS,
    StartWorkbench,
    click,
    count,
    find,
    find_words,
    require_fits,
    type_into,
    wait_for,
)
from tests.browser.contrast import require_readable
from tests.workflow.use.test_source_check import write_folder

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=alert(1)>"


def test_a_folder_is_entered_checked_and_browsed(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    source = write_folder(tmp_path / "set", ("cat", HOSTILE))
    pixels = np.asarray(Image.open(source / "cat" / "000.png"))
    Image.fromarray(pixels).save(source / HOSTILE / "copy.png")
    (source / "cat" / "broken.png").write_bytes(b"nothing")

    chromium.get(start_workbench(tmp_path / "runs") + "/data")
    type_into(chromium, ".gh-source input", str(source), Keys.ENTER)
    find_words(chromium, "contradicting labels")
    wait_for(lambda: images_of_first_pair(chromium) == 2, "a pair of duplicates")
    wait_for(lambda: whole_images(chromium), "every image in sight")
    find_words(chromium, "broken.png")
    find_words(chromium, HOSTILE)
    assert not chromium.find_elements(By.CSS_SELECTOR, "img[src=x]")

    before = count(chromium, ".gh-samples img")
    click(lambda: find(chromium, ".q-btn-group button:last-child"))
    wait_for(lambda: 0 < count(chromium, ".gh-samples img") < before, "the fewer samples of test")
    for width in WIDTHS:
        require_fits(chromium, width)
    require_readable(chromium)


def images_of_first_pair(browser: WebDriver) -> int:
    script = "return (document.querySelector('.gh-sides li')?.querySelectorAll('img') ?? []).length"
    return int(browser.execute_script(script))


def whole_images(browser: WebDriver) -> bool:
    """Whether every image that was loaded is one, and some were."""
    script = (
        "const all = [...document.querySelectorAll('main img')].filter(i => i.complete);"
        "return all.length > 4 && all.every(i => i.naturalWidth > 0)"
    )
    return bool(browser.execute_script(script))
