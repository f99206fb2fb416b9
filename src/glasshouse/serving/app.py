"""The workbench as one FastAPI application: its pages, its files and its guard."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from nicegui import app as page_app, ui
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from glasshouse.serving.body_limits import LimitedBodies
from glasshouse.serving.file_routes import file_routes
from glasshouse.serving.guard import OwnHostsOnly
from glasshouse.serving.pages import compare, data, data_map, run, runs, train, unknown
from glasshouse.serving.pages.explain import page as explain
from glasshouse.serving.pages.frame import framed
from glasshouse.serving.pages.teach import page as teach
from glasshouse.serving.reach import Reach
from glasshouse.serving.relative import RelativeAddresses
from glasshouse.serving.sign_in import TokenRequired
from glasshouse.serving.workbench import Page, Workbench

# In the order of the navigation; each page describes itself in its own file.
PAGES: tuple[Page, ...] = (
    runs.PAGE,
    compare.PAGE,
    run.PAGE,
    data_map.PAGE,
    train.PAGE,
    teach.PAGE,
    data.PAGE,
    explain.PAGE,
)

# Generous, because a training run may slow this machine down.
_RESPONSE_SECONDS = 30.0
_ASSETS = Path(__file__).parent / "assets"
_FAVICON = _ASSETS / "favicon.svg"
# Messages that are sent again after a lost connection; few, as each may hold a whole chart.
_KEPT_MESSAGES = 20
# NiceGUI derives the interval of its pings from this: a longer one wakes the server less often.
_RECONNECT_SECONDS = 15.0


def create_app(workbench: Workbench, reach: Reach | None = None) -> FastAPI:
    """The application, for browsers on this machine if nothing else is said.

    NiceGUI allows one per process.
    """
    reach = reach or Reach()
    pages = tuple(page for page in PAGES if not (workbench.read_only and page.makes_changes))
    app = FastAPI(title="Glasshouse", docs_url=None, redoc_url=None, openapi_url=None)
    protect(app, reach)
    app.add_exception_handler(404, _not_found)  # type: ignore[arg-type]
    app.mount("/assets", StaticFiles(directory=_ASSETS), name="assets")
    app.include_router(file_routes(workbench))
    # NiceGUI adds its own route only when it starts, behind the page for unknown addresses.
    app.add_route("/favicon.ico", lambda request: FileResponse(_FAVICON))
    # Routes are tried in order: the last page takes every address that no other has taken.
    for page in (*pages, unknown.PAGE):
        if page.routes is not None:
            app.include_router(page.routes(workbench))
        title = f"{page.title} · Glasshouse"
        route = ui.page(page.path, title=title, response_timeout=_RESPONSE_SECONDS)
        route(_handler(page, workbench, pages))
    transports = page_app.config.socket_io_js_transports
    transports[:] = ["websocket", "polling"] if reach.websockets else ["polling"]
    ui.run_with(
        app,
        title="Glasshouse",
        favicon=_FAVICON,
        dark=None,
        language="en-US",
        tailwind=False,
        binding_refresh_interval=None,
        message_history_length=_KEPT_MESSAGES,
        reconnect_timeout=_RECONNECT_SECONDS,
        show_welcome_message=False,
    )
    return app


def protect(app: Starlette, reach: Reach) -> None:
    """Add what a request has to pass: host and origin, prefix, token, size."""
    # The last is the first that a request meets: strangers do not get to send a body.
    app.add_middleware(LimitedBodies)
    if reach.token is not None:
        app.add_middleware(TokenRequired, reach)
    app.add_middleware(RelativeAddresses, reach.root_paths)
    app.add_middleware(OwnHostsOnly, reach)


async def _not_found(request: Request, error: HTTPException) -> ASGIApp:
    """The page for unknown addresses where a person looks, one line for anything else."""
    if "text/html" in request.headers.get("accept", ""):
        # The application of the pages knows no files, so that its last page takes the address.
        return page_app
    return await http_exception_handler(request, error)


def _handler(
    page: Page, workbench: Workbench, pages: tuple[Page, ...]
) -> Callable[[Request], Awaitable[None]]:
    async def show(request: Request) -> None:
        await framed(page, pages, lambda: page.build(workbench, request))

    return show
