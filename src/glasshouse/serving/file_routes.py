"""The files that pages point to: reports, images and maps of runs, never anything else."""

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from fastapi import APIRouter, HTTPException, Response
from numpy.typing import NDArray

from glasshouse.errors import GlasshouseError
from glasshouse.runs import folder as runs
from glasshouse.serving import run_cache as looking
from glasshouse.serving.workbench import Workbench

T = TypeVar("T")
# An image of a finished run does not change; the browser asks again after an hour.
_KEEP = {"Cache-Control": "private, max-age=3600"}


def file_routes(workbench: Workbench) -> APIRouter:
    """GET /report/RUN, /image/POSITION/RUN and /map/POSITION/RUN; 404 for anything else."""
    router = APIRouter()

    @router.get("/report/{name:path}")
    def report(name: str) -> Response:
        path = _found(lambda: looking.run_folder(workbench, name)) / runs.REPORT
        if not path.is_file():
            raise HTTPException(404, f"{name} has no report yet")
        # Its own scripts and images are inside it; nothing else may load.
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        return Response(
            path.read_bytes(), media_type="text/html", headers={"Content-Security-Policy": policy}
        )

    @router.get("/image/{position}/{name:path}")
    def image(position: int, name: str) -> Response:
        return _found(lambda: _image(workbench, name, position))

    @router.get("/map/{position}/{name:path}")
    def map_of(position: int, name: str, of: Literal["predicted", "true"]) -> Response:
        return _found(lambda: _map(workbench, name, position, of))

    return router


def _found(look: Callable[[], T]) -> T:
    try:
        return look()
    except (GlasshouseError, IndexError) as error:
        raise HTTPException(404, str(error)) from error


def _image(workbench: Workbench, name: str, position: int) -> Response:
    """One image of the test split, by its position in the run's predictions."""
    folder = looking.run_folder(workbench, name)
    data = image_png(_at(workbench, folder, position))
    return Response(data, media_type="image/png", headers=_KEEP)


def _map(workbench: Workbench, name: str, position: int, of: str) -> Response:
    """What speaks for the predicted or for the true class in one test image."""
    folder = looking.run_folder(workbench, name)
    changed = (folder / runs.MODEL).stat().st_mtime_ns if (folder / runs.MODEL).is_file() else 0
    data = _map_png(workbench, folder, changed, (position, of))
    return Response(data, media_type="image/png", headers=_KEEP)


@lru_cache(maxsize=512)
def _map_png(workbench: Workbench, folder: Path, changed: int, what: tuple[int, str]) -> bytes:
    from glasshouse.explanation.explain import explain
    from glasshouse.explanation.nouns import shown

    position, of = what
    predictions, classifier = looking.answers(folder), looking.classifier_of(folder)
    image = _at(workbench, folder, position)
    label = predictions.labels[position] if of == "true" else predictions.logits[position].argmax()
    with looking.busy:
        (found,) = explain(classifier, image[None], methods=("grad-cam",), target_class=int(label))
    return heat_png(shown(found)[0])


def heat_png(heat: NDArray[np.floating[Any]]) -> bytes:
    """A map ``(h, w)`` as an image to lay over another: what is stronger hides more of it."""
    import matplotlib

    strength = np.clip(heat, 0, None)
    strength = strength / (strength.max() or 1.0)
    colours = matplotlib.colormaps["inferno"](0.25 + 0.75 * strength, bytes=True)
    colours[..., 3] = np.rint(225 * strength**0.75).astype(np.uint8)
    return _encoded(colours)


def image_png(image: NDArray[np.uint8]) -> bytes:
    """An image ``(3, h, w)`` as PNG."""
    return _encoded(np.ascontiguousarray(image.transpose(1, 2, 0)))


def _encoded(rows_first: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rows_first).save(buffer, "PNG")
    return buffer.getvalue()


def _at(workbench: Workbench, folder: Path, position: int) -> NDArray[np.uint8]:
    predictions = looking.answers(folder)
    if not 0 <= position < len(predictions):
        raise IndexError(f"there are {len(predictions)} test images, counted from 0")
    images = looking.test_images(workbench, folder)
    return looking.image_with_id(images, str(predictions.ids[position]))
