"""The files that pages point to: reports, images and maps of runs, and nothing else."""

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, HTTPException, Response

from glasshouse.errors import GlasshouseError
from glasshouse.runs import folder as runs
from glasshouse.serving.deferred import deferred
from glasshouse.serving.run_lookup import run_folder
from glasshouse.serving.workbench import Workbench

# Images of a finished run do not change; the browser asks again after an hour.
_CACHED = {"Cache-Control": "private, max-age=3600"}
# A report carries its styles and images inside; it may load nothing and run no script.
_REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
)
_IMAGES = "glasshouse.serving.run_images"
_test_image_png: Callable[..., bytes] = deferred(_IMAGES, "test_image_png")
_class_map_png: Callable[..., bytes] = deferred(_IMAGES, "class_map_png")


def file_routes(workbench: Workbench) -> APIRouter:
    """GET the report and other pages of a run, images of its test split, and maps; else 404."""
    router = APIRouter()

    @router.get("/report/{name:path}")
    def report(name: str) -> Response:
        return _page_response(workbench, name, runs.REPORT, "report")

    @router.get("/shortcuts/{name:path}")
    def shortcuts(name: str) -> Response:
        return _page_response(workbench, name, runs.SHORTCUTS_PAGE, "page on shortcuts")

    @router.get("/groups/{name:path}")
    def groups(name: str) -> Response:
        return _page_response(workbench, name, runs.GROUPS_PAGE, "page on groups")

    # Plain functions, so that FastAPI runs them in threads: they load torch and compute.
    @router.get("/image/{position}/{name:path}")
    def test_image(position: int, name: str) -> Response:
        return _png_response(lambda: _test_image_png(workbench, name, position))

    @router.get("/map/{position}/{name:path}")
    def class_map(position: int, name: str, of: Literal["predicted", "true"]) -> Response:
        return _png_response(lambda: _class_map_png(workbench, name, position, of))

    return router


def _page_response(workbench: Workbench, name: str, file: str, what: str) -> Response:
    """A self-contained page of a run folder."""
    try:
        path = run_folder(workbench, name) / file
    except GlasshouseError as error:
        raise HTTPException(404, str(error)) from error
    if not path.is_file():
        raise HTTPException(404, f"{name} has no {what} yet")
    headers = {"Content-Security-Policy": _REPORT_POLICY}
    return Response(path.read_bytes(), media_type="text/html", headers=headers)


def _png_response(make: Callable[[], bytes]) -> Response:
    try:
        return Response(make(), media_type="image/png", headers=_CACHED)
    except (GlasshouseError, IndexError) as error:
        raise HTTPException(404, str(error)) from error
