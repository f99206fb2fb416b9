"""The documentation site, opened from its folder without a server."""

from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By

from tests.architecture.site import build_site
from tests.browser.conftest import (
    WIDTHS,
    click,
    find,
    prefer,
    read_text,
    require_fits,
    set_width,
    type_into,
    wait_for,
)
from tests.browser.test_reports import broken_images

pytestmark = pytest.mark.browser

# Lines of code that one would have to scroll to read, apart from the columns of outputs.
_CUT_LINES = """
  const all = document.querySelectorAll("article pre code");
  const cut = [...all].filter((code) => code.scrollWidth > code.clientWidth);
  return cut.filter((code) => !code.closest(".output")).map((code) => code.innerText);
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A space in the path, as in the folders of many users.
    return build_site(tmp_path_factory.mktemp("a site"))


def test_the_search_works_from_disk(chromium: WebDriver, site: Path) -> None:
    chromium.get((site / "serving.html").as_uri())
    type_into(chromium, "input.md-search__input", "deletion insertion")
    found = "li.md-search-result__item a[href*='explanations.html'][href*='#which-maps-to-trust']"
    click(lambda: find(chromium, found))
    wait_for(lambda: chromium.current_url.startswith((site / "explanations.html").as_uri()), "it")
    assert "Petsiuk" in read_text(chromium, "article")


def test_every_page_fits_every_width_and_all_its_images_load(
    chromium: WebDriver, site: Path
) -> None:
    for page in sorted(site.glob("*.html")):
        if page.name == "404.html":  # served from any folder: its addresses are absolute
            continue
        chromium.get(page.as_uri())
        for theme in ("light", "dark"):
            prefer(chromium, theme)
            for width in WIDTHS:
                set_width(chromium, width)
                find(chromium, "h1")
                require_fits(chromium, width)
                assert chromium.execute_script(_CUT_LINES) == [], (page.name, width)
        if chromium.find_elements(By.CSS_SELECTOR, "article img"):
            wait_for(lambda: broken_images(chromium) == 0, f"the images of {page.name}")
