"""The page Data: what the check of a source finds, with the images."""

from collections.abc import Callable

from fastapi import APIRouter, Response

from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.lazy_page import lazy_page
from glasshouse.serving.workbench import Page, Workbench

_image_of: Callable[..., tuple[bytes, str] | None] = deferred(
    "glasshouse.serving.check_cache", "image_of"
)


def _routes(workbench: Workbench) -> APIRouter:
    router = APIRouter()

    @router.get("/data/{key}/{row}")
    def source_image(key: str, row: int) -> Response:
        """An image of a check, by its key and row: no part of the address names a file."""
        found = _image_of(workbench, key, row)
        if found is None:
            return Response("This image is no longer kept: check the source again.", 404)
        data, media_type = found
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(data, media_type=media_type, headers=headers)

    return router


PAGE = Page(
    "/data",
    "Data",
    lazy_page("glasshouse.serving.pages.data_view"),
    label="Data",
    icon="fact_check",
    routes=_routes,
    makes_changes=True,
)
