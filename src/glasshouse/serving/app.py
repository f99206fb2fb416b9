"""The workbench as one FastAPI application: its pages, its files, and who may ask for them."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request
from nicegui import ui
from starlette.staticfiles import StaticFiles

from glasshouse.serving.file_routes import file_routes
from glasshouse.serving.guard import OwnHostsOnly
from glasshouse.serving.pages import compare, data, run, runs, train
from glasshouse.serving.pages.explain import page as explain
from glasshouse.serving.pages.frame import framed
from glasshouse.serving.workbench import Page, Workbench

# In the order of the navigation. A page's file says what it is; here it is only named.
PAGES: tuple[Page, ...] = (
    runs.PAGE,
    compare.PAGE,
    run.PAGE,
    train.PAGE,
    data.PAGE,
    explain.PAGE,
)

# A machine that trains may be slow to answer.
_PATIENCE_SECONDS = 30.0
_ASSETS = Path(__file__).parent / "assets"
# A viewer that lost its connection gets so many messages again; each may hold a whole chart.
_KEPT_MESSAGES = 20
# For so long a viewer may be out of reach; the rarer signs of life follow from it.
_RECONNECT_SECONDS = 15.0


def create_app(workbench: Workbench, pages: tuple[Page, ...] = PAGES) -> FastAPI:
    """The application; NiceGUI knows one in each process."""
    app = FastAPI(title="Glasshouse", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(OwnHostsOnly)
    app.mount("/assets", StaticFiles(directory=_ASSETS), name="assets")
    app.include_router(file_routes(workbench))
    for page in pages:
        if page.routes is not None:
            app.include_router(page.routes(workbench))
        title = f"{page.title} · Glasshouse"
        shown = ui.page(page.path, title=title, response_timeout=_PATIENCE_SECONDS)
        shown(_shown(page, workbench, pages))
    ui.run_with(
        app,
        title="Glasshouse",
        favicon=_ASSETS / "favicon.svg",
        dark=None,
        language="en-US",
        tailwind=False,
        binding_refresh_interval=None,
        message_history_length=_KEPT_MESSAGES,
        reconnect_timeout=_RECONNECT_SECONDS,
        show_welcome_message=False,
    )
    return app


def _shown(
    page: Page, workbench: Workbench, pages: tuple[Page, ...]
) -> Callable[[Request], Awaitable[None]]:
    async def show(request: Request) -> None:
        await framed(page, pages, lambda: page.build(workbench, request))

    return show
