"""The list of runs in a browser, mostly with the keyboard only."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.conftest import (
    WIDTHS,
    StartWorkbench,
    act,
    click,
    console_errors,
    count,
    find,
    find_words,
    prefer,
    require_fits,
    set_width,
    type_into,
    wait_for,
)
from tests.runs.test_listing import write_run
from tests.serving.runs import trained_run

pytestmark = pytest.mark.browser


def names(browser: WebDriver) -> list[str]:
    # In one go: the table may be drawn anew between two questions.
    script = "return [...document.querySelectorAll('a.gh-run')].map((a) => a.textContent)"
    found: list[str] = browser.execute_script(script)
    return found


def sort_by_name(browser: WebDriver) -> None:
    def head() -> WebElement:
        heads = browser.find_elements(By.CSS_SELECTOR, "th.sortable[tabindex='0']")
        return next(th for th in heads if th.text.startswith("Run"))

    act(head, lambda found: found.send_keys(Keys.ENTER))


def test_runs_are_filtered_sorted_and_compared_by_keyboard(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    for name in ("beta", "alpha", "gamma", "<b>bold</b>"):
        write_run(tmp_path / "runs" / name.replace("/", "_"))
    chromium.get(start_workbench(tmp_path / "runs"))
    find_words(chromium, "beta")
    assert "<b>bold<_b>" in names(chromium)
    assert not chromium.find_elements(By.CSS_SELECTOR, "td b")
    sort_by_name(chromium)
    wait_for(lambda: names(chromium) == sorted(names(chromium)), "ascending names")
    sort_by_name(chromium)
    wait_for(lambda: names(chromium) == sorted(names(chromium), reverse=True), "descending names")
    type_into(chromium, "body", "/")
    chromium.switch_to.active_element.send_keys("alp")
    wait_for(lambda: names(chromium) == ["alpha"], "the match")
    chromium.switch_to.active_element.send_keys(Keys.CONTROL, "a")
    chromium.switch_to.active_element.send_keys(Keys.DELETE)
    wait_for(lambda: len(names(chromium)) == 4, "all of them again")
    for name in ("alpha", "<b>bold<_b>"):
        type_into(chromium, f"[role='checkbox'][aria-label='Select {name}']", Keys.SPACE)
    click(lambda: find_words(chromium, "Compare 2"))
    wait_for(lambda: "/compare?run=" in chromium.current_url, "the comparison")
    find_words(chromium, "Fewer than two of these runs are finished")


def test_two_trained_runs_are_compared_image_by_image(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        trained_run(tmp_path / "runs" / name)
    address = start_workbench(tmp_path / "runs")
    for width in WIDTHS:
        set_width(chromium, width)
        chromium.get(address + "/compare?run=first&run=second")
        wait_for(lambda: count(chromium, ".gh-three canvas") == 3, "three charts of curves")
        find_words(chromium, "paired tests on the same test images")
        find_words(chromium, "adjusted p")
        find(chromium, ".gh-verdict")
        require_fits(chromium, width)


def contrast(browser: WebDriver, css: str) -> int:
    """The range of grey values of an element as it is drawn, while the pointer is over it."""

    def drawn(element: WebElement) -> bytes:
        ActionChains(browser).move_to_element(element).perform()
        picture: bytes = element.screenshot_as_png
        return picture

    drawn_png = act(lambda: find(browser, css), drawn)
    grey = np.asarray(Image.open(io.BytesIO(drawn_png)).convert("L"), dtype=int)
    return int(grey.max() - grey.min())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_row_under_the_pointer_keeps_its_text(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path, theme: str
) -> None:
    for name in ("alpha", "beta"):
        write_run(tmp_path / "runs" / name)
    prefer(chromium, theme)
    chromium.get(start_workbench(tmp_path / "runs"))
    for css in ("a.gh-run", "tbody .gh-status", "tbody td:last-child"):
        assert contrast(chromium, css) > 90, css
    click(lambda: find(chromium, "tbody [role='checkbox']"))
    find(chromium, "tbody tr.selected")
    assert contrast(chromium, "tr.selected a.gh-run") > 90


def test_no_column_is_cut_off_by_a_long_name(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    write_run(tmp_path / "runs" / "a-name-of-a-run-that-says-very-much-of-what-was-tried-in-it-1")
    address = start_workbench(tmp_path / "runs")
    table = ".gh-qtable .q-table__middle"
    script = "const e = arguments[0]; return e.scrollWidth - e.clientWidth"
    for width in WIDTHS:
        set_width(chromium, width)
        chromium.get(address)
        assert act(lambda: find(chromium, table), lambda e: chromium.execute_script(script, e)) == 0
        require_fits(chromium, width)


def test_the_runs_of_a_comparison_are_reached_by_arrow_keys(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        trained_run(tmp_path / "runs" / name)
    chromium.get(start_workbench(tmp_path / "runs") + "/compare?run=first&run=second")
    type_into(chromium, "[role='grid'] [tabindex='0']", Keys.ARROW_DOWN)
    chromium.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for(lambda: chromium.current_url.endswith("/run/second"), "the page of the second run")


def test_on_a_phone_no_table_but_the_confusion_matrix_scrolls_sideways(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        trained_run(tmp_path / "runs" / name)
    address = start_workbench(tmp_path / "runs")
    set_width(chromium, 390)
    wide = """return [...document.querySelectorAll(".gh-scroll")].filter((each) =>
        each.scrollWidth > each.clientWidth && !each.querySelector(".gh-confusion")).length"""
    for page, last in (("/run/first", ".gh-lines"), ("/compare?run=first&run=second", ".gh-note")):
        chromium.get(address + page)
        find(chromium, last)
        assert chromium.execute_script(wide) == 0, page


def test_a_wide_table_has_a_shadow_where_it_can_be_scrolled(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    trained_run(tmp_path / "runs" / "first")
    set_width(chromium, 320)
    chromium.get(start_workbench(tmp_path / "runs") + "/run/first")
    find(chromium, ".gh-scroll")

    def edges(position: str) -> tuple[int, int]:
        """How dark the left and the right edge of the table are, scrolled to a position."""
        script = "arguments[0].scrollLeft = arguments[1] === 'end' ? 9999 : 0"

        def drawn(element: WebElement) -> bytes:
            chromium.execute_script(script, element, position)
            png: bytes = element.screenshot_as_png
            return png

        png = act(lambda: find(chromium, ".gh-scroll"), drawn)
        grey = np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=int)
        # The lightest pixel of a column is its background, whatever the text covers; the shadow
        # leaves out a pixel all around.
        light = grey[2:-2].max(axis=0)
        return 255 - int(light[2]), 255 - int(light[-3])

    left, right = edges("start")
    assert right > left + 15
    left, right = edges("end")
    assert left > right + 15


def test_an_unknown_address_leads_back_to_the_runs(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    chromium.get(start_workbench(tmp_path / "runs") + "/nowhere/at/all")
    find_words(chromium, "Page not found")
    assert all("404" in message for message in console_errors(chromium))
    click(lambda: find_words(chromium, "All runs"))
    find_words(chromium, "No runs yet")
