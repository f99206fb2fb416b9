"""What surrounds every page: the navigation, the style and the error display."""

from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui

from glasshouse import __version__
from glasshouse.errors import GlasshouseError
from glasshouse.serving.pages.parts import empty_state, image, link, link_button, relative, text
from glasshouse.serving.workbench import Page

_HEAD = f"""
<link rel="stylesheet" href="{{assets}}/workbench.css?{__version__}">
<script src="{{assets}}/workbench.js?{__version__}"></script>
"""
# In the body, deferred: after NiceGUI's own scripts and before the one that starts the page.
_BODY = f"""
<script defer src="{{assets}}/prefix.js?{__version__}"></script>
"""


async def framed(page: Page, pages: Sequence[Page], fill: Callable[[], Awaitable[None]]) -> None:
    """Show a page inside the frame; a GlasshouseError is shown in place of the page."""
    assets = relative("/assets")
    ui.add_head_html(_HEAD.format(assets=assets))
    ui.add_body_html(_BODY.format(assets=assets))
    with ui.element("header").classes("gh-top"):
        _navigation(page, pages)
    with ui.element("main").classes("gh-main").props("id=main tabindex=-1"):
        try:
            await fill()
        except GlasshouseError as error:
            words = str(error)[:1].upper() + str(error)[1:]
            is_first = all(each.tag != "h1" for each in ui.context.client.elements.values())
            title = "Cannot show this page"
            with empty_state(title, words, icon="report_problem", is_page=is_first):
                link_button("All runs", "/", icon="view_list")


def _navigation(page: Page, pages: Sequence[Page]) -> None:
    link("Skip to content", "#main").classes("gh-skip")
    with link("", "/").classes("gh-brand").props('aria-label="Glasshouse, all runs"'):
        image("/assets/favicon.svg", "").props("width=22 height=22 loading=eager")
        text("Glasshouse")
    with ui.element("nav").classes("gh-nav").props('aria-label="Pages"'):
        for other in pages:
            if other.label:
                _navigation_link(other, is_here=other is page)
    (
        ui.button(icon="contrast", color=None)
        .props('flat round dense aria-label="Toggle dark mode"')
        .classes("gh-theme")
        .on("click", js_handler="() => glasshouse.toggleTheme()")
    )


def _navigation_link(page: Page, *, is_here: bool) -> None:
    with link("", page.path).props("aria-current=page" if is_here else ""):
        ui.icon(page.icon).props("aria-hidden=true")
        text(page.label)
