"""POST /explain: maps that explain a prediction."""

import base64
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from PIL import Image
from starlette.responses import Response

from glasshouse.data.decode import Pixels
from glasshouse.explanation.draw.canvas import to_png
from glasshouse.explanation.draw.overlay import DEFAULT, as_rgb, colour_scale, overlaid
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.methods import ALL, PAGE_METHODS, require_methods
from glasshouse.explanation.nouns import Explanation, ExplanationPage
from glasshouse.explanation.page_sets import sets_of_page
from glasshouse.explanation.pipeline import MapRequest, explain_each_label
from glasshouse.explanation.store import explanation_json
from glasshouse.models.predict import (
    logits_of,
    most_probable,
    predicted_classes,
    to_probabilities,
)
from glasshouse.models.prediction_sets import set_json
from glasshouse.serving.service.capacity import Slot
from glasshouse.serving.service.responses import (
    IMAGES_BODY,
    MODEL_WORDS,
    PROBLEMS,
    SIMILAR_WORDS,
    json_response,
)
from glasshouse.serving.service.schemas import Explanations, Name
from glasshouse.serving.service.served_models import ServedModel, require_comparison
from glasshouse.serving.service.service import Service, while_awaited
from glasshouse.serving.service.uploads import Upload, pixels_of, read_uploads

Form = Literal["overlay", "values", "both"]


@dataclass(frozen=True)
class ExplainQuery:
    """What is asked about each image.

    form: how its maps are returned. similar: whether it is compared with the images of the model's
    run, which the model can then do.
    """

    model: ServedModel
    maps: MapRequest
    form: Form
    similar: bool = False


def explain_routes(service: Service) -> APIRouter:
    """The route POST /explain."""
    router = APIRouter(tags=["explain"])

    @router.post(
        "/explain",
        response_model=None,
        responses={200: {"model": Explanations}, **PROBLEMS},
        openapi_extra=IMAGES_BODY,
        summary="Maps that explain the predicted or another class, for one or several images",
    )
    async def explain(  # noqa: PLR0913 - the options of a query
        request: Request,
        method: Annotated[
            list[Name],
            Query(description="a method, or all; may be repeated", max_length=16),
        ] = list(PAGE_METHODS),  # noqa: B006 - FastAPI copies it
        class_name: Annotated[
            Name | None,
            Query(
                alias="class",
                description="class by name or number; default: the predicted one",
            ),
        ] = None,
        layer: Annotated[
            Name | None, Query(description="layer of the class activation maps; default: chosen")
        ] = None,
        form: Annotated[Form, Query(description="overlay: PNG in base64; values: numbers")] = (
            "overlay"
        ),
        checks: Annotated[bool, Query(description="check whether each map can be trusted")] = False,
        similar: Annotated[bool, Query(description=SIMILAR_WORDS)] = False,
        model: Annotated[Name | None, Query(description=MODEL_WORDS)] = None,
    ) -> Response:
        served = service.models.find(model)
        if similar:
            require_comparison(served)
        require_methods([name for name in method if name != ALL])
        maps = MapRequest(
            methods=tuple(method), target_class=class_name, layer=layer, is_checked=checks
        )
        with service.explain_capacity.enter() as slot:
            query = ExplainQuery(served, maps, form, similar)
            found = await _answers(service, slot, request, query)
        return json_response({"model": served.name, "explanations": found})

    return router


async def _answers(
    service: Service, slot: Slot, request: Request, query: ExplainQuery
) -> list[dict[str, Any]]:
    limits, classifier = service.limits, query.model.classifier
    uploads = await read_uploads(request, slot, limits, limits.explain_images)
    slot.grow(images=len(uploads))
    found = []
    async with while_awaited(request, limits.explain_deadline, service.explain_capacity):
        for upload in uploads:
            pixels = await service.reader.submit(
                partial(pixels_of, upload, classifier.preprocessing, limits.max_pixels)
            )
            work = partial(explained, upload, pixels, query)
            found.append(await service.explainer.submit(work))
    return found


def explained(upload: Upload, pixels: Pixels, query: ExplainQuery) -> dict[str, Any]:
    """The result of one image; raises UsageError for an unknown method, class or layer."""
    classifier = query.model.classifier
    pages = explain_each_label(classifier, pixels, query.maps)
    page = pages[0]
    return {
        "image": upload.name,
        **_predicted(page),
        **_set_of(page),
        **(_resembled(query.model, pixels, upload.name) if query.similar else {}),
        "maps": [_map(each, query.form) for page in pages for each in page.explanations],
        **({"warnings": upload.warnings} if upload.warnings else {}),
    }


def overlay_png(explanation: Explanation) -> bytes:
    """The map over the grey image, as a PNG file of the network's input size."""
    values, image = shown(explanation)[0], as_rgb(explanation.images[0])
    scale = colour_scale(explanation, values, DEFAULT)
    return to_png(Image.fromarray(overlaid(image, values, scale)))


def _predicted(page: ExplanationPage) -> dict[str, Any]:
    """The predicted class; where an image may have several labels, also those predicted."""
    shares = to_probabilities(page.logits[0], page.temperature, page.thresholds)
    best = {"predicted": most_probable(shares, page.class_names, 1)[0]}
    if page.thresholds is None:
        return best
    return {"labels": predicted_classes(shares, page.class_names, 0, page.thresholds), **best}


def _set_of(page: ExplanationPage) -> dict[str, Any]:
    sets = sets_of_page(page)
    return {} if sets is None else {"prediction_set": set_json(sets, 0)}


def _resembled(model: ServedModel, pixels: Pixels, name: str) -> dict[str, Any]:
    """What the image resembles: by the logits that predict it, also where maps have others."""
    logits = logits_of(model.classifier, pixels[None], ids=[name])
    (found,) = require_comparison(model).compare(pixels[None], logits)
    return found.as_json()


def _map(explanation: Explanation, form: Form) -> dict[str, Any]:
    document = explanation_json(explanation)
    if form in ("values", "both"):
        document["values"] = np.asarray(explanation.maps[0], dtype=np.float64).tolist()
    if form in ("overlay", "both"):
        document["overlay_png"] = base64.b64encode(overlay_png(explanation)).decode()
    return document
