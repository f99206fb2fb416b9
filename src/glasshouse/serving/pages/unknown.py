"""The page for addresses that lead nowhere."""

from fastapi import Request
from nicegui import ui

from glasshouse.serving.pages.parts import box, empty_state, link_button
from glasshouse.serving.workbench import Page, Workbench


async def build_unknown(workbench: Workbench, request: Request) -> None:
    """Say that there is no such page, with the way back."""
    ui.status_code(404)
    address = str(request.path_params["address"])
    shown = address if len(address) <= 80 else f"{address[:80]} …"
    with (
        empty_state(
            "Page not found", f"There is no page /{shown}.", icon="explore_off", is_page=True
        ),
        box("gh-row"),
    ):
        link_button("All runs", "/", icon="view_list", main=True)
        if not workbench.read_only:
            link_button("Train", "/train", icon="play_circle")


PAGE = Page("/{address:path}", "Page not found", build_unknown)
