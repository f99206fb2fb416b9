"""The page of a source: what the check finds, with the images."""

from fastapi import APIRouter, Response

from glasshouse.serving.pages.lazy_page import later
from glasshouse.serving.workbench import Page, Workbench


def _routes(workbench: Workbench) -> APIRouter:
    router = APIRouter()

    @router.get("/data/{key}/{row}")
    def one_image(key: str, row: int) -> Response:
        """An image of a check, by its key and row: no name ever chooses a file."""
        # They need what takes seconds to import.
        from glasshouse.report.encoding import image_file
        from glasshouse.serving.check_cache import examinations_of

        found = examinations_of(workbench).with_key(key)
        pixels = None if found is None else found.image(row)
        if pixels is None:
            return Response("There is no such image any more; check again.", status_code=404)
        data, media_type = image_file(pixels)
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(data, media_type=media_type, headers=headers)

    return router


PAGE = Page(
    "/data",
    "Data",
    later("glasshouse.serving.pages.data_view"),
    label="Data",
    icon="fact_check",
    routes=_routes,
)
