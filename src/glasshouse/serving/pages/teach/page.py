"""The page Teach: images dropped into classes, a network trained on them, and tried at once."""

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from fastapi import APIRouter, Response
from PIL import Image

from glasshouse.data.decode import decode
from glasshouse.data.fitting import fit_to_size
from glasshouse.errors import GlasshouseError
from glasshouse.serving.pages.teach.view import fill
from glasshouse.serving.taught_sets import file_of, set_folder
from glasshouse.serving.workbench import Page, Workbench

_THUMB = 112


def _routes(workbench: Workbench) -> APIRouter:
    router = APIRouter()

    # A plain function, so that FastAPI runs it in a thread.
    @router.get("/teach/images/{name}/{class_name}/{file}")
    def thumbnail(name: str, class_name: str, file: str) -> Response:
        """A small version of an image; the names are compared with those that there are."""
        try:
            path = file_of(set_folder(workbench, name), class_name, file)
            if path is None:
                return Response("There is no such image.", 404)
            data = _thumbnail(path, path.stat().st_mtime_ns)
        except (GlasshouseError, OSError) as error:
            return Response(str(error), 404)
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(data, media_type="image/png", headers=headers)

    return router


@lru_cache(maxsize=1024)
def _thumbnail(path: Path, changed: int) -> bytes:
    small = fit_to_size(decode(path), _THUMB, _THUMB)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(small.transpose(1, 2, 0))).save(buffer, "PNG")
    return buffer.getvalue()


PAGE = Page(
    "/teach", "Teach", fill, label="Teach", icon="school", routes=_routes, makes_changes=True
)
