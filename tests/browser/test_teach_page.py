"""Images dropped into classes, a network trained on them, and tried on a photo and the webcam."""

import json
from functools import partial
from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from glasshouse.data.digits import read_digits
from tests.browser.conftest import (
    FAKE_WEBCAM,
    WIDTHS,
    StartWorkbench,
    act,
    click,
    count,
    find,
    find_words,
    read_text,
    require_fits,
    type_into,
    wait_for,
)
from tests.browser.contrast import require_readable
from tests.browser.test_explain_page import photo
from tests.serving.test_explainer import png

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=alert(1)>"

DROP_FILES = """
const [target, files] = arguments;
const transfer = new DataTransfer();
for (const [name, bytes] of files)
  transfer.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'}));
const send = (element, kind) => element.dispatchEvent(
  new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: transfer}));
send(target, 'dragenter'); send(target, 'dragover');
setTimeout(() => send(target.querySelector('.q-uploader__dnd') || target, 'drop'), 300);
"""


def card(name: str) -> str:
    return f"section[aria-label={json.dumps(f'Class {name}')}]"


def drop_files(browser: WebDriver, css: str, files: list[tuple[str, bytes]]) -> None:
    sent = [[name, list(data)] for name, data in files]
    act(
        lambda: find(browser, css),
        lambda target: browser.execute_script(DROP_FILES, target, sent),
    )


def add_class(browser: WebDriver, name: str) -> None:
    type_into(browser, ".gh-add-class input", name, Keys.ENTER)
    find(browser, card(name))


def digits_of(name: str, number: int) -> list[tuple[str, bytes]]:
    """Scanned digits, enlarged from 8x8 pixels."""
    images = read_digits()
    chosen = images.pixels[images.labels == images.class_names.index(name)][:number]
    large = chosen.repeat(6, axis=2).repeat(6, axis=3).transpose(0, 2, 3, 1)
    return [(f"digit {name} {k}.png", png(each)) for k, each in enumerate(large)]


def has_images(browser: WebDriver, name: str, number: int) -> bool:
    return count(browser, f"{card(name)} li img") == number


def is_best(browser: WebDriver, name: str) -> bool:
    return read_text(browser, ".gh-shares .gh-explained").startswith(name)


def resembles(browser: WebDriver, name: str) -> bool:
    """Whether the page shows five training images, of which most have this label."""
    found = browser.find_elements(By.CSS_SELECTOR, ".gh-trial .gh-near li")
    labels = [each.find_element(By.CSS_SELECTOR, ".gh-near-label").text for each in found]
    images = browser.find_elements(By.CSS_SELECTOR, ".gh-trial .gh-near img[src^='data:image']")
    return len(images) == 5 and labels.count(name) >= 3


def test_two_classes_are_dropped_trained_and_tried_on_another_image(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    address = start_workbench(runs)
    chromium.get(f"{address}/teach")
    find_words(chromium, "Two classes or more are needed.")
    held_out = {}
    for name in ("0", "1"):
        *files, held_out[name] = digits_of(name, 25)
        add_class(chromium, name)
        drop_files(chromium, f"{card(name)} .gh-drop", files)
        wait_for(partial(has_images, chromium, name, 24), f"images of {name}")
    drop_files(chromium, f"{card('1')} .gh-drop", [(HOSTILE, b"MZ\x90 a program")])
    find_words(chromium, "not an image in a supported format")
    assert not chromium.find_elements(By.CSS_SELECTOR, "img[src=x]")

    click(lambda: find(chromium, ".gh-lesson .gh-go"))
    find(chromium, ".gh-trained", seconds=300)
    for name, file in held_out.items():
        drop_files(chromium, ".gh-try-drop", [file])
        find_words(chromium, file[0])
        wait_for(partial(is_best, chromium, name), f"the right answer for {name}")
        wait_for(partial(resembles, chromium, name), f"five images, mostly of {name}")
    for width in WIDTHS:
        require_fits(chromium, width)
    require_readable(chromium)

    # All of it is ordinary: folders of classes, a run, and a photo that Explain knows.
    folder = runs / "taught" / "set-1"
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1"]
    assert (runs / "set-1-1" / "report.html").is_file()
    click(lambda: find(chromium, ".gh-trial .gh-choices a"))
    find(chromium, ".gh-tile")
    find_words(chromium, held_out["1"][0])
    chromium.get(f"{address}/teach?set=set-1")
    find_words(chromium, "set-1-1 is trained.")


def test_classes_are_renamed_and_removed_in_the_browser(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    chromium.get(start_workbench(tmp_path / "runs") + "/teach")
    add_class(chromium, "cat")
    drop_files(chromium, f"{card('cat')} .gh-drop", [("a.png", photo())])
    find(chromium, f"{card('cat')} li img")
    drop_files(chromium, f"{card('cat')} .gh-drop", [("b.png", photo())])
    find_words(chromium, "it is in 'cat' already")
    field = f"{card('cat')} .gh-class-name input"
    type_into(chromium, field, Keys.CONTROL, "a", Keys.NULL, "../dog", Keys.ENTER)
    find(chromium, card("dog"))
    type_into(chromium, ".gh-add-class input", "DOG", Keys.ENTER)
    find_words(chromium, "There is a class 'DOG' already")
    click(lambda: find(chromium, f"{card('dog')} .gh-remove"))
    wait_for(lambda: count(chromium, ".gh-taught li") == 0, "no image")
    drop_files(chromium, f"{card('dog')} .gh-drop", [("a.png", photo())])
    find(chromium, f"{card('dog')} li img")
    click(lambda: find(chromium, "[aria-label='Remove class dog']"))
    click(lambda: find(chromium, ".q-dialog .gh-danger"))
    wait_for(lambda: count(chromium, card("dog")) == 0, "no class")


def test_a_name_typed_before_the_server_has_answered_is_a_class_of_its_own(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    chromium.get(start_workbench(tmp_path / "runs") + "/teach")
    find_words(chromium, "Two classes or more are needed.")
    field = find(chromium, ".gh-add-class input")
    field.send_keys("cat", Keys.ENTER, "dog", Keys.ENTER, "ow")
    for name in ("cat", "dog"):
        find(chromium, card(name))
    assert chromium.switch_to.active_element == field
    field.send_keys("l")
    assert field.get_attribute("value") == "owl"
    click(lambda: find(chromium, ".gh-add-class button"))
    find(chromium, card("owl"))
    assert sorted(path.name for path in (tmp_path / "runs/taught/set-1").iterdir()) == [
        "cat",
        "dog",
        "owl",
    ]


@pytest.mark.parametrize("chromium", [FAKE_WEBCAM], indirect=True)
def test_the_webcam_records_into_a_class_and_gives_live_probabilities(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    chromium.get(start_workbench(tmp_path / "runs") + "/teach")
    add_class(chromium, "webcam")
    button = f"{card('webcam')} .gh-record"
    hold = "arguments[0].dispatchEvent(new PointerEvent('pointerdown', {bubbles: true}))"
    act(lambda: find(chromium, button), lambda found: chromium.execute_script(hold, found))
    wait_for(lambda: count(chromium, f"{card('webcam')} li img") >= 8, "recorded frames")
    chromium.execute_script("dispatchEvent(new PointerEvent('pointerup'))")

    add_class(chromium, "noise")
    drop_files(chromium, f"{card('noise')} .gh-drop", digits_of("0", 12))
    wait_for(lambda: count(chromium, f"{card('noise')} li img") == 12, "the other class")
    click(lambda: find(chromium, ".gh-lesson .gh-go"))
    find(chromium, ".gh-trained", seconds=300)
    wait_for(
        lambda: read_text(chromium, ".gh-shares .gh-explained").startswith("webcam"),
        "the live probabilities",
    )
    click(lambda: find_words(chromium, "Turn the webcam off"))
    find_words(chromium, "Turn the webcam on")


def test_a_browser_without_a_webcam_says_so(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    chromium.get(start_workbench(tmp_path / "runs") + "/teach")
    click(lambda: find_words(chromium, "Turn the webcam on"))
    problem = wait_for(lambda: read_text(chromium, ".gh-trial .gh-problem"), "what is missing")
    assert "webcam" in problem
