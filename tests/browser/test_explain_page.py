"""A photo dropped and explained in a browser; hostile files and names."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
)
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from glasshouse.models.pretrained import build_net
from tests.browser.conftest import (
    WIDTHS,
    StartWorkbench,
    act,
    click,
    count,
    find,
    find_words,
    read_attribute,
    read_text,
    require_fits,
    type_into,
    wait_for,
)
from tests.browser.contrast import require_readable
from tests.serving.runs import trained_run

pytestmark = pytest.mark.browser
SECOND = ".gh-model:nth-of-type(2) label"
HOSTILE = "<img src=x onerror=alert(1)>.png"

# What a hand does that drops a file: the browser's own events, with the file in them.
DROP = """
const [target, bytes, name] = arguments;
const transfer = new DataTransfer();
transfer.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'}));
const send = (element, kind) => element.dispatchEvent(
  new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: transfer}));
send(target, 'dragenter'); send(target, 'dragover');
setTimeout(() => send(target.querySelector('.q-uploader__dnd') || target, 'drop'), 300);
"""

# However short the checks are, the page says that they are being made.
NOTICE_CHECKING = """
new MutationObserver(() => {
  window.hasSaidChecking ||= Boolean(document.querySelector('.gh-checking'));
}).observe(document, {childList: true, subtree: true});
"""


def photo() -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((600, 450)).save(buffer, "PNG")
    return buffer.getvalue()


def drop(browser: WebDriver, data: bytes, name: str) -> None:
    act(
        lambda: find(browser, ".gh-drop"),
        lambda target: browser.execute_script(DROP, target, list(data), name),
    )


def opacity_of(browser: WebDriver, css: str) -> float:
    return act(
        lambda: find(browser, css), lambda found: float(found.value_of_css_property("opacity"))
    )


def width_of(browser: WebDriver, css: str) -> int:
    find = "const image = document.querySelector(arguments[0]);"
    script = f"{find} return image && image.complete ? image.naturalWidth : 0"
    return int(browser.execute_script(script, css))


def are_whole(browser: WebDriver) -> bool:
    """Whether every image is there that is not left until somebody scrolls to it."""
    script = (
        "return [...document.querySelectorAll('img:not([loading])')].every(i => i.naturalWidth)"
    )
    return bool(browser.execute_script(script))


def texts(browser: WebDriver, css: str) -> list[str]:
    return [one.text for one in browser.find_elements(By.CSS_SELECTOR, css)]


def choose(browser: WebDriver, field: str, words: str) -> None:
    """Take an entry of a list; while it unfolds, a click may miss it."""
    # The driver takes what lies below the bar at the top for seen.
    browser.execute_script("scrollTo(0, 0)")

    def take() -> bool:
        if words in _shown_in(find(browser, field)):
            return True
        entries = browser.find_elements(By.CSS_SELECTOR, ".q-menu .q-item")
        if not entries:
            _clicked(find(browser, field))
        for entry in entries:
            if entry.text.strip() == words:
                _clicked(entry)
        return False

    wait_for(take, f"{words} to be chosen")


def _shown_in(field: WebElement) -> list[str]:
    """The lines of a field, and what stands in the input of one that can be typed into."""
    inputs = field.find_elements(By.TAG_NAME, "input")
    return [*field.text.splitlines(), *(str(one.get_attribute("value")) for one in inputs)]


def _clicked(element: WebElement) -> bool:
    try:
        element.click()
    except (ElementClickInterceptedException, ElementNotInteractableException):
        return False
    return True


def test_a_photo_is_dropped_and_explained_by_two_epochs(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    trained_run(tmp_path / "runs" / "digits")
    chromium.get(start_workbench(tmp_path / "runs") + "/explain")
    find_words(chromium, "Its worst mistakes")
    drop(chromium, photo(), HOSTILE)
    find(chromium, ".gh-tile")
    find_words(chromium, HOSTILE)
    assert not chromium.find_elements(By.CSS_SELECTOR, "img[src=x]")
    assert len(chromium.find_elements(By.CSS_SELECTOR, ".gh-five li")) == 5
    wait_for(lambda: width_of(chromium, ".gh-seen .gh-over") == 448, "the large map")
    find_words(chromium, "where 1 is the same")  # what a check says

    before = read_attribute(chromium, ".gh-seen .gh-over", "src")
    title = read_text(chromium, ".gh-tile[aria-pressed=false]")
    click(lambda: find(chromium, ".gh-tile[aria-pressed=false]"))
    wait_for(lambda: read_attribute(chromium, ".gh-seen .gh-over", "src") != before, "another map")
    assert read_text(chromium, ".gh-tile[aria-pressed=true]") == title

    opacity = opacity_of(chromium, ".gh-seen .gh-over")
    type_into(chromium, "[aria-label='Opacity of the maps'] [tabindex]", Keys.ARROW_LEFT)
    wait_for(lambda: opacity_of(chromium, ".gh-seen .gh-over") < opacity, "a fainter map")
    layer = read_attribute(chromium, ".gh-grid", "src")
    type_into(chromium, "[aria-label='Layer'] [tabindex]", Keys.ARROW_RIGHT)
    wait_for(lambda: read_attribute(chromium, ".gh-grid", "src") != layer, "the next layer")
    wait_for(lambda: width_of(chromium, ".gh-grid") > 100, "its activations")

    few = count(chromium, ".gh-tile")
    click(lambda: find(chromium, ".gh-more-maps"))
    wait_for(lambda: count(chromium, ".gh-tile") == few + 3, "the maps of many passes")

    choose(chromium, SECOND, "digits")
    wait_for(lambda: count(chromium, ".gh-answer") == 2, "two answers")
    choose(chromium, f"{SECOND} ~ label", "epoch 1")
    find_words(chromium, "digits @ epoch 1")
    choose(chromium, ".gh-class", "7")
    wait_for(lambda: texts(chromium, ".gh-why") == ["why 7"] * 2, "both answers about class 7")
    wait_for(lambda: are_whole(chromium), "every image")
    for width in WIDTHS:
        require_fits(chromium, width)
    require_readable(chromium)


def test_a_reload_keeps_the_photo_the_map_and_its_layer(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    trained_run(tmp_path / "runs" / "digits")
    address = start_workbench(tmp_path / "runs")
    chromium.get(f"{address}/explain")
    find_words(chromium, "Its worst mistakes")
    chromium.execute_script(NOTICE_CHECKING)
    drop(chromium, photo(), "holiday.png")
    find_words(chromium, "where 1 is the same")
    assert count(chromium, ".gh-checking") == 0
    assert chromium.execute_script("return window.hasSaidChecking")
    assert count(chromium, ".gh-at") == 1
    click(lambda: find(chromium, ".gh-tile"))
    wait_for(lambda: count(chromium, ".gh-at") == 0, "saliency, which has no layer")
    before = texts(chromium, ".gh-layer")
    choose_first_layer(chromium)
    wait_for(lambda: "layer=" in chromium.current_url, "the layer in the address")
    assert "method=saliency" in chromium.current_url and "photo=" in chromium.current_url
    find(chromium, ".gh-tile")
    chosen = wait_for(lambda: texts(chromium, ".gh-layer"), "the layer")
    assert chosen != before

    chromium.get(chromium.current_url)
    find_words(chromium, "holiday.png")
    wait_for(lambda: texts(chromium, ".gh-layer") == chosen, "the same layer")
    pressed = ".gh-tile[aria-pressed=true]"
    assert read_text(chromium, pressed).startswith("Saliency")
    # The photo without a map, next to it under the map.
    assert count(chromium, ".gh-twins img:not(.gh-over)") == 2
    chromium.get(f"{address}/explain?photo=guessed")
    find_words(chromium, "This photo is no longer kept")


def choose_first_layer(browser: WebDriver) -> None:
    """The earliest layer of the list, which is not the default."""

    def take() -> bool:
        if "layer=" in browser.current_url:
            return True
        entries = browser.find_elements(By.CSS_SELECTOR, ".q-menu .q-item")
        _clicked(entries[1] if len(entries) > 1 else find(browser, ".gh-layer"))
        return False

    browser.execute_script("scrollTo(0, 0)")
    wait_for(take, "a layer to be chosen")


def test_any_pretrained_network_can_be_compared_with_a_run(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    trained_run(tmp_path / "runs" / "digits")
    weights = tmp_path / "weights.safetensors"
    save_file(build_net("test_resnet", 7, {}, seed=5).state_dict(), weights)
    chromium.get(start_workbench(tmp_path / "runs") + "/explain")
    find_words(chromium, "Its worst mistakes")
    click(lambda: find(chromium, ".gh-thumb"))
    find(chromium, ".gh-tile")
    type_into(chromium, f"{SECOND} input", "test_resnet:input_size=64", Keys.ENTER)
    find_words(chromium, "are not on this machine")
    file = "[aria-label='Weights file'] input, input[aria-label='Weights file']"
    type_into(chromium, file, str(weights), Keys.TAB)
    find_words(chromium, "test_resnet:input_size=64 (weights.safetensors)")
    assert count(chromium, ".gh-answer") == 2
    wait_for(lambda: are_whole(chromium), "every image")


def test_a_broken_file_gets_a_clear_message_and_the_next_file_is_explained(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    trained_run(tmp_path / "runs" / "digits")
    chromium.get(start_workbench(tmp_path / "runs") + "/explain")
    find_words(chromium, "Its worst mistakes")
    drop(chromium, photo()[:900], HOSTILE)
    message = read_text(chromium, ".gh-message [role=alert]")
    assert message == f"{HOSTILE}: the PNG is truncated"
    drop(chromium, b"MZ\x90\x00 a program", "holiday.png")
    find_words(chromium, "not an image in a supported format")
    click(lambda: find(chromium, ".gh-thumb"))
    find(chromium, ".gh-tile")
    wait_for(lambda: are_whole(chromium), "every image")
