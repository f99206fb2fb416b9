"""The map of a run's images in a browser: its points are drawn, and an area lists their images."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.conftest import (
    WIDTHS,
    StartWorkbench,
    click,
    count,
    find,
    find_words,
    read_text,
    require_fits,
    wait_for,
)
from tests.browser.contrast import require_readable
from tests.serving.runs import trained_run

pytestmark = pytest.mark.browser

PLOT = ".gh-map-chart[data-drawn] .gh-map-plot"
WORDS = "[role='status'].gh-verdict"
POINTS = """return document.querySelector(arguments[0])._fullData
  .map((trace) => [trace.type, trace.x.length])"""


def coloured_pixels(plot: WebElement) -> int:
    """How many pixels of the plot have a colour; the names below it have fewer than the points."""
    shown = Image.open(io.BytesIO(plot.screenshot_as_png)).convert("RGB")
    return int((np.ptp(np.asarray(shown).astype(int), axis=2) > 60).sum())


def drag(browser: WebDriver, plot: WebElement, corners: list[tuple[float, float]]) -> None:
    """Press at the first place, move along the others and let go; in shares of the plot's size."""
    width, height = plot.size["width"], plot.size["height"]
    places = [(round((x - 0.5) * width), round((y - 0.5) * height)) for x, y in corners]
    actions = ActionChains(browser).move_to_element_with_offset(plot, *places[0]).click_and_hold()
    for place in places[1:]:
        actions.move_to_element_with_offset(plot, *place)
    actions.release().perform()


def wait_for_other_words(browser: WebDriver, before: str) -> None:
    wait_for(lambda: read_text(browser, WORDS) != before, "words on the selection")


def test_points_are_drawn_and_an_area_lists_its_images(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    trained_run(tmp_path / "runs" / "digits")
    chromium.get(f"{start_workbench(tmp_path / 'runs')}/data-map/digits")
    click(lambda: find_words(chromium, "Make the map"))
    plot = find(chromium, PLOT)
    find_words(chromium, "t-SNE")
    points = chromium.execute_script(POINTS, PLOT)
    whole = sum(size for _, size in points)
    assert {kind for kind, _ in points} <= {"scattergl", "scatter"} and whole > 100
    chromium.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    wait_for(lambda: coloured_pixels(find(chromium, PLOT)) > 30 * whole, "coloured points")
    assert count(chromium, ".gh-gallery li") == 0
    # A lasso around most of them, and then one around a half.
    sizes = []
    for right in (0.97, 0.5):
        # Below them are the names of the classes.
        corners = [(0.03, 0.03), (right, 0.03), (right, 0.4), (right, 0.85), (0.03, 0.85)]
        before = read_text(chromium, WORDS)
        drag(chromium, find(chromium, PLOT), corners)
        wait_for_other_words(chromium, before)
        wait_for(lambda: count(chromium, ".gh-gallery li") > 0, "images of the selection")
        sizes.append(int(read_text(chromium, WORDS).split()[0]))
        assert count(chromium, ".gh-gallery li") == min(48, sizes[-1])
    assert whole >= sizes[0] > sizes[1] > 0
    first = find(chromium, ".gh-gallery li img")
    wait_for(lambda: first.get_property("naturalWidth"), "an image")
    require_readable(chromium)
    for width in WIDTHS:
        require_fits(chromium, width)
    click(lambda: find_words(chromium, "Clear"))
    wait_for(lambda: count(chromium, ".gh-gallery li") == 0, "no selection")
    assert chromium.find_elements(By.CSS_SELECTOR, ".gh-map-chart .gh-bad:not([hidden])") == []
