"""The images and arrays of an explained photo, by its key and by plain numbers."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response

from glasshouse.serving.deferred import deferred
from glasshouse.serving.workbench import Workbench

if TYPE_CHECKING:
    from glasshouse.serving.map_images import DrawnFile

_file_of_answer: "Callable[..., DrawnFile | None]" = deferred(
    "glasshouse.serving.map_images", "file_of_answer"
)
_FORGOTTEN = "This file is no longer available: explain the image again."


def routes(workbench: Workbench) -> APIRouter:
    """What the page Explain displays and offers for download; no request names a file on disk."""
    router = APIRouter(prefix="/explain/answers/{key}")

    @router.get("/{kind}")
    @router.get("/{kind}/{place}")
    def one_file(key: str, kind: str, place: int = 0, colours: str = "") -> Response:
        found = _file_of_answer(workbench, key, kind, place=place, colours=colours)
        if not found:
            return Response(_FORGOTTEN, status_code=404)
        headers = {"Cache-Control": "private, max-age=3600"}
        if found.name:
            headers["Content-Disposition"] = f'attachment; filename="{found.name}"'
        return Response(found.data, media_type=found.media_type, headers=headers)

    return router
