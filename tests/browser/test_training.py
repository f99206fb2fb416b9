"""A whole training run in a browser: started, watched to its end, and inspected."""

from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from glasshouse.runs.listing import list_run
from tests.browser.conftest import (
    StartWorkbench,
    click,
    find,
    find_words,
    read_attribute,
    read_text,
    set_width,
    type_into,
    wait_for,
)
from tests.serving.runs import trained_run

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def _one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def fill(browser: WebDriver, label: str, words: str) -> None:
    all_of_it = (Keys.CONTROL, "a", Keys.NULL)
    type_into(browser, f"[aria-label='{label}']", *all_of_it, words, Keys.TAB)


def press(browser: WebDriver, words: str) -> None:
    """Click the button with exactly these words, which the log may contain as well."""
    path = (
        f"//button[normalize-space(.)='{words}' or normalize-space(.//*[@class='block'])='{words}']"
    )

    def button() -> WebElement | None:
        found = browser.find_elements(By.XPATH, path)
        return next((one for one in found if one.is_displayed()), None)

    def wanted() -> WebElement:
        found: WebElement = wait_for(button, f"the button {words}")
        return found

    click(wanted)


def status_of(browser: WebDriver) -> str:
    return read_text(browser, "main .gh-status")


def test_a_training_run_is_started_watched_stopped_resumed_and_inspected(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    chromium.get(start_workbench(runs) + "/train")
    fill(chromium, "Epochs", "40")
    click(lambda: find_words(chromium, "More settings"))
    fill(chromium, "Batch size", "16")
    fill(chromium, "Run name", "watched")
    press(chromium, "Start training")
    wait_for(lambda: chromium.current_url.endswith("/run/watched"), "the page of the run")
    wait_for(lambda: status_of(chromium) == "training", "the training to start")
    find(chromium, ".gh-curves canvas")
    wait_for(lambda: figure(chromium, "Time left").endswith((" s", " min")), "the time left")
    wait_for(lambda: figure(chromium, "Validation accuracy").endswith("%"), "an epoch's end")
    press(chromium, "Stop")
    wait_for(lambda: status_of(chromium) == "stopped", "the training to stop")
    reached = list_run(runs, runs / "watched").epochs
    assert 0 < reached < 40
    press(chromium, "Resume")
    wait_for(lambda: status_of(chromium) != "stopped", "the training to resume")
    wait_for(lambda: status_of(chromium) == "finished", "the end", 600)
    assert list_run(runs, runs / "watched").epochs == 40
    look_into_a_cell(chromium)
    wait_for(lambda: loaded_images(chromium, ".gh-mistakes .gh-heat") > 0, "maps of mistakes")
    chromium.get(chromium.current_url.replace("/run/watched", "/"))
    assert read_text(chromium, "a.gh-run") == "watched"


def figure(browser: WebDriver, name: str) -> str:
    path = f"//dt[normalize-space(text())='{name}']/following-sibling::dd"
    return browser.find_element(By.XPATH, path).text


def look_into_a_cell(browser: WebDriver) -> None:
    """Open a cell of the confusion matrix by keyboard, see its images, and close it again."""
    cell = "td[data-cell='4-4']"
    find(browser, cell)
    count = int(read_text(browser, cell))
    type_into(browser, cell, Keys.ENTER)
    wait_for(lambda: loaded_images(browser, ".gh-card .gh-pixels") > 0, "images of a cell")
    assert len(browser.find_elements(By.CSS_SELECTOR, ".gh-card .gh-pixels")) == count
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait_for(lambda: not browser.find_elements(By.CSS_SELECTOR, ".gh-card"), "the dialog to close")


@pytest.mark.slow
def test_the_confusion_matrix_is_one_stop_of_the_tab_key(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    trained_run(tmp_path / "runs" / "done")
    chromium.get(start_workbench(tmp_path / "runs") + "/run/done")
    find(chromium, "[role='grid'] [data-cell]")
    stops = "return document.querySelectorAll('[role=grid] [tabindex=\"0\"]').length"
    assert chromium.execute_script(stops) == 1
    type_into(chromium, "[role='grid'] [tabindex='0']", Keys.ARROW_DOWN)
    for key, there in (
        (Keys.ARROW_RIGHT, "1 correct"), (Keys.ARROW_DOWN, "2 classified as 1"),
        (Keys.END, "2 classified as 9"), (Keys.ARROW_RIGHT, "2 classified as 9"),
        (Keys.HOME, "2 classified as 0"), (Keys.ARROW_UP, "1 classified as 0"),
    ):  # fmt: skip
        chromium.switch_to.active_element.send_keys(key)
        label = chromium.switch_to.active_element.get_attribute("aria-label") or ""
        assert label.startswith(f"{there}: "), (key, label)
        assert chromium.execute_script(stops) == 1
    type_into(chromium, "[role='grid'] [data-cell]", Keys.ENTER)
    find(chromium, ".gh-card")


def test_a_folder_is_chosen_by_browsing(
    chromium: WebDriver,
    start_workbench: StartWorkbench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("pets/cats", "pets/dogs"):
        (tmp_path / "work" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    chromium.get(start_workbench(tmp_path / "runs") + "/train")
    press(chromium, "Browse")
    click(lambda: find_words(chromium, "pets"))
    find_words(chromium, "2 subfolders, 0 files")
    press(chromium, "Use this folder")
    wanted = str((tmp_path / "work" / "pets").resolve())
    wait_for(lambda: read_attribute(chromium, "[aria-label='Source']", "value") == wanted, wanted)


def test_a_wrong_value_in_a_folded_field_is_shown_where_it_is(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    chromium.get(start_workbench(tmp_path / "runs") + "/train")
    click(lambda: find_words(chromium, "More settings"))
    fill(chromium, "Batch size", Keys.DELETE)
    click(lambda: find_words(chromium, "More settings"))
    press(chromium, "Start training")
    find_words(chromium, "but the field is empty")
    label = "return document.activeElement.getAttribute('aria-label')"
    wait_for(lambda: chromium.execute_script(label) == "Batch size", "the focus in the field")


def loaded_images(browser: WebDriver, css: str) -> int:
    """How many images are loaded; those further down are fetched when they come into view."""
    browser.execute_script(
        "const e = document.querySelector(arguments[0]); if (e) e.scrollIntoView();", css
    )
    images = browser.find_elements(By.CSS_SELECTOR, css)
    return sum(browser.execute_script("return arguments[0].naturalWidth", one) > 0
               for one in images)  # fmt: skip


@pytest.mark.slow
def test_augmentation_and_learning_rate_are_previewed_before_training(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    set_width(chromium, 390)
    chromium.get(start_workbench(tmp_path / "runs") + "/train")
    press(chromium, "Show images")
    find(chromium, ".gh-preview img")
    wait_for(lambda: loaded_images(chromium, ".gh-preview img") == 20, "all images")
    last = ".gh-preview img:last-child"
    before = read_attribute(chromium, last, "src")
    click(lambda: find_words(chromium, "random changes to the training images"))
    fill(chromium, "Rotation range", "90")
    wait_for(lambda: read_attribute(chromium, last, "src") != before, "rotated images")
    press(chromium, "Run test")
    use = ".gh-found .gh-main"
    find(chromium, use, 120)
    rate = read_text(chromium, use).rpartition(" ")[2]
    click(lambda: find(chromium, use))
    wait_for(
        lambda: read_attribute(chromium, "[aria-label='Learning rate']", "value") == rate,
        "the rate in its field",
    )


def test_an_unknown_source_is_reported_in_its_panel(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    chromium.get(start_workbench(tmp_path / "runs") + "/train")
    fill(chromium, "Source", "digist")
    press(chromium, "Show images")
    find_words(chromium, "digits'")
