"""Whether the texts of a page can be read, in light and in dark."""

from functools import partial

from selenium.webdriver.chrome.webdriver import WebDriver

from tests.browser.conftest import prefer, wait_for

# Texts with less contrast than WCAG asks for at level AA, for large texts and for others. What lies
# on an image or a gradient, is switched off or has another opacity is not judged.
_FAINT = """
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


def faint_texts(browser: WebDriver) -> list[str]:
    """The texts of the page with too little contrast, each with its contrast."""
    found: list[str] = browser.execute_script(_FAINT)
    return found


def require_readable(browser: WebDriver) -> None:
    """In light and in dark, no text of the page has too little contrast."""
    is_shown = "return document.documentElement.dataset.theme === arguments[0]"
    for theme in ("light", "dark"):
        prefer(browser, theme)
        wait_for(partial(browser.execute_script, is_shown, theme), f"the page in {theme}")
        assert faint_texts(browser) == [], f"{browser.current_url} in {theme}"
