"""The page with the map of a run's images."""

from collections.abc import Callable

from fastapi import APIRouter, HTTPException, Response

from glasshouse.errors import GlasshouseError
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.lazy_page import lazy_page
from glasshouse.serving.workbench import Page, Workbench

_MAPS = "glasshouse.serving.run_maps"
_points: Callable[..., bytes] = deferred(_MAPS, "map_points")
_image: Callable[..., tuple[bytes, str]] = deferred(_MAPS, "map_image")
# Addresses name the version of a map: what one leads to does not change.
_CACHED = {"Cache-Control": "private, max-age=3600"}


def _routes(workbench: Workbench) -> APIRouter:
    router = APIRouter()

    # Plain functions, so that FastAPI runs them in threads: they load torch and images.
    @router.get("/map-points/{name:path}")
    def points(name: str) -> Response:
        """The points of a map, for the script of its page."""
        try:
            found = _points(workbench, name)
        except GlasshouseError as error:
            raise HTTPException(404, str(error)) from error
        return Response(found, media_type="application/octet-stream", headers=_CACHED)

    @router.get("/map-image/{position}/{name:path}")
    def image(position: int, name: str) -> Response:
        """An image of a map, by its position there: no part of the address names a file."""
        try:
            data, media_type = _image(workbench, name, position)
        except (GlasshouseError, IndexError) as error:
            raise HTTPException(404, str(error)) from error
        return Response(data, media_type=media_type, headers=_CACHED)

    return router


PAGE = Page(
    "/data-map/{name:path}",
    "Map",
    lazy_page("glasshouse.serving.pages.map_view"),
    routes=_routes,
)
