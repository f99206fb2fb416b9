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
from tests.serving.runs import trained_run

pytestmark = pytest.mark.browser

# Texts with less contrast than WCAG asks for at level AA, for large texts and for others. What lies
# on an image or a gradient, is switched off or has another opacity is not judged.
FAINT = """
const light = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4 };
const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const of = (c) => 0.2126 * light(c[0]) + 0.7152 * light(c[1]) + 0.0722 * light(c[2]);
const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3]));
const colour = (text) => {
    const c = parse(text);
    // What was mixed has values from 0 to 1.
    if (text.startsWith("color(")) c.splice(0, 3, ...c.slice(0, 3).map((v) => 255 * v));
    return c.length === 3 ? [...c, 1] : c;
};
const found = [];
for (const e of document.querySelectorAll("main *, header *")) {
    const texts = [...e.childNodes].filter((n) => n.nodeType === 3);
    const own = texts.map((n) => n.data.trim()).join("");
    if (!own || !e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (e.getBoundingClientRect().right < 0) continue;
    if (e.closest("svg, canvas, [disabled], [aria-hidden=true], .q-icon, .gh-confusion")) continue;
    const layers = [];
    let judged = true;
    for (let up = e; up; up = up.parentElement) {
        const style = getComputedStyle(up);
        if (style.opacity !== "1" || style.backgroundImage !== "none") judged = false;
        const c = colour(style.backgroundColor);
        if (c[3] > 0) layers.push(c);
        if (c[3] === 1) break;
    }
    if (!judged) continue;
    const ground = layers.reverse().reduce((below, c) => over(c, below), [255, 255, 255]);
    const style = getComputedStyle(e);
    const [a, b] = [of(over(colour(style.color), ground)), of(ground)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.5 && Number(style.fontWeight) >= 700);
    if (contrast < (isLarge ? 3 : 4.5)) found.push(`${own.slice(0, 40)}: ${contrast.toFixed(2)}`);
}
return found;
"""


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
        assert chromium.execute_script(FAINT) == [], path


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
