"""POST /explain: why the net says what it says, as maps."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import matplotlib
import numpy as np
from fastapi import APIRouter, Query, Request
from numpy.typing import NDArray
from PIL import Image
from pydantic import StringConstraints
from starlette.responses import Response

from glasshouse.data.decode import Pixels
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.methods import PAGE_METHODS, MethodName, require_methods
from glasshouse.explanation.nouns import Explanation, shown, target_name
from glasshouse.explanation.trust.checks import check_all, sheet_methods
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import logits_of, most_probable, softmax
from glasshouse.serving.service.capacity import Slot
from glasshouse.serving.service.responses import IMAGES_BODY, PROBLEMS, json_response
from glasshouse.serving.service.schemas import Explanations
from glasshouse.serving.service.service import Service, within_deadline
from glasshouse.serving.service.uploads import Upload, pixels_of, read_uploads

# Longer ones are no names, and would take long to be compared with those that are.
Name = Annotated[str, StringConstraints(max_length=200)]
Form = Literal["overlay", "values", "both"]
_OPACITY = 0.55


@dataclass(frozen=True)
class Question:
    """What is asked of each image; form: how its maps are given."""

    methods: tuple[str, ...]
    class_name: str | None
    layer: str | None
    form: Form
    is_checked: bool


def explain_routes(service: Service) -> APIRouter:
    """The route that explains."""
    router = APIRouter(tags=["explain"])

    @router.post(
        "/explain",
        response_model=None,
        responses={200: {"model": Explanations}, **PROBLEMS},
        openapi_extra=IMAGES_BODY,
        summary="Maps of what speaks for a class in one or several images",
    )
    async def explain(
        request: Request,
        method: Annotated[
            list[Name], Query(description="a method's name, or all; may be repeated", max_length=16)
        ] = list(PAGE_METHODS),  # noqa: B006 - FastAPI copies it
        class_name: Annotated[
            Name | None,
            Query(alias="class", description="a class by name or number; else the predicted one"),
        ] = None,
        layer: Annotated[
            Name | None, Query(description="where class activation maps are drawn; else chosen")
        ] = None,
        form: Annotated[Form, Query(description="overlay: PNG in base64; values: numbers")] = (
            "overlay"
        ),
        checks: Annotated[bool, Query(description="say whether each map may be trusted")] = False,
    ) -> Response:
        names = tuple(name for name in method if name != "all")
        require_methods(names)
        question = Question(tuple(method), class_name, layer, form, checks)
        with service.explain_capacity.enter() as slot:
            found = await _answers(service, slot, request, question)
        return json_response({"model": service.name, "explanations": found})

    return router


async def _answers(
    service: Service, slot: Slot, request: Request, question: Question
) -> list[dict[str, Any]]:
    limits, classifier = service.limits, service.classifier
    uploads = await read_uploads(request, slot, limits, limits.explain_images)
    slot.grow(images=len(uploads) - 1)
    found = []
    async with within_deadline(limits.explain_deadline, service.explain_capacity):
        for upload in uploads:
            pixels = await service.reader.submit(
                partial(pixels_of, upload, classifier.preprocessing, limits)
            )
            work = partial(explained, classifier, upload, pixels, question)
            found.append(await service.explainer.submit(work))
    return found


def explained(
    classifier: Classifier, upload: Upload, pixels: Pixels, question: Question
) -> dict[str, Any]:
    """One image's part of the answer; raises UsageError for an unknown method, class or layer."""
    page = explain_page(
        classifier,
        pixels[None],
        methods=_methods(classifier, pixels, question.methods, question.layer),
        target_class=question.class_name,
        layer=question.layer,
    )
    if question.is_checked:
        page = replace(page, explanations=check_all(classifier, page.explanations))
    return {
        "image": upload.name,
        "predicted": _predicted(classifier, pixels),
        "explained": target_name(page.explanations[0], 0),
        "maps": [_map(each, question.form) for each in page.explanations],
    }


def overlay_png(explanation: Explanation, index: int = 0) -> bytes:
    """The map over the grey image, as a PNG file of the net's image size."""
    values = shown(explanation)[index].astype(np.float64)
    limit = float(np.percentile(np.abs(values), 99.5)) or float(np.abs(values).max()) or 1.0
    is_signed = bool((values < 0).any())
    share = (values / limit + 1) / 2 if is_signed else values / limit
    colours = matplotlib.colormaps["RdBu_r" if is_signed else "inferno"]
    coloured: NDArray[np.float64] = np.asarray(colours(share.clip(0, 1)))[..., :3] * 255
    grey = explanation.images[index].astype(np.float64).mean(0)[..., None]
    mixed = _OPACITY * coloured + (1 - _OPACITY) * grey
    buffer = io.BytesIO()
    Image.fromarray(np.rint(mixed).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _methods(
    classifier: Classifier, pixels: Pixels, asked: Sequence[str], layer: str | None
) -> tuple[MethodName, ...]:
    names = [name for name in asked if name != "all"]
    every = sheet_methods(classifier, pixels[None], layer) if "all" in asked else ()
    return require_methods([*every, *names])


def _predicted(classifier: Classifier, pixels: Pixels) -> dict[str, Any]:
    """As /predict says it: the maps' own logits know nothing of a mirror image."""
    logits = logits_of(classifier, pixels[None])[0].astype(np.float64)
    return most_probable(softmax(logits / classifier.temperature), classifier.class_names, 1)[0]


def _map(explanation: Explanation, form: Form) -> dict[str, Any]:
    document: dict[str, Any] = {
        "method": explanation.method,
        "layer": explanation.layer,
        "notes": list(explanation.notes),
        "warnings": list(explanation.warnings),
        "checks": [
            {"name": each.name, "verdict": each.verdict, "words": each.words}
            for each in explanation.checks
        ],
    }
    if form in ("values", "both"):
        document["values"] = np.asarray(explanation.maps[0], dtype=np.float64).tolist()
    if form in ("overlay", "both"):
        document["overlay_png"] = base64.b64encode(overlay_png(explanation)).decode()
    return document
