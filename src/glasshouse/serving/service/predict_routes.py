"""POST /predict: the most probable classes of images."""

from typing import Annotated, Any, ClassVar

import numpy as np
from fastapi import APIRouter, Query, Request
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from glasshouse.models.classifier import Classifier
from glasshouse.models.conformity import SetMethod, SetRule
from glasshouse.models.predict import most_probable, predicted_classes
from glasshouse.models.prediction_sets import SetRequest, prediction_sets, rule_of, set_json
from glasshouse.serving.service.lean_route import LeanRoute
from glasshouse.serving.service.responses import (
    IMAGES_BODY,
    MODEL_WORDS,
    PROBLEMS,
    SIMILAR_WORDS,
    json_response,
)
from glasshouse.serving.service.schemas import Name, PredictionsDocument
from glasshouse.serving.service.served_models import require_comparison
from glasshouse.serving.service.service import Service, score_images
from glasshouse.serving.service.uploads import image_work, read_uploads


class PredictOptions(BaseModel):
    """The query of a request."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    top: Annotated[int, Field(ge=1, le=1000, description="classes to return per image")] = 5
    coverage: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="share of prediction sets with the true class, such as 0.95",
        ),
    ] = None
    sets: Annotated[
        SetMethod | None, Field(description="kind of prediction sets; default: lac")
    ] = None
    class_conditional: Annotated[
        bool, Field(description="the coverage holds for the images of each class")
    ] = False
    similar: Annotated[bool, Field(description=SIMILAR_WORDS)] = False
    model: Annotated[Name | None, Field(description=MODEL_WORDS)] = None


def predict_routes(service: Service) -> APIRouter:
    """POST /predict."""
    router = APIRouter(tags=["predict"], route_class=LeanRoute)

    @router.post(
        "/predict",
        response_model=None,
        responses={200: {"model": PredictionsDocument}, **PROBLEMS},
        openapi_extra=IMAGES_BODY,
        summary="Classify one or more images",
    )
    async def predict(request: Request, options: Annotated[PredictOptions, Query()]) -> Response:
        served = service.models.find(options.model)
        limits, classifier = service.limits, served.classifier
        asked = SetRequest(options.coverage, options.sets, options.class_conditional)
        rule = rule_of(classifier.conformity, classifier.thresholds, asked)
        if options.similar:
            require_comparison(served)
        with service.capacity.enter() as slot:
            uploads = await read_uploads(request, slot, limits)
            preprocessing = classifier.preprocessing
            works = [image_work(upload, preprocessing, limits) for upload in uploads]
            answers = await score_images(
                service, served, request, slot, works, is_compared=options.similar
            )
        found = [
            {
                "image": upload.name,
                **_answer(classifier, answer.probabilities, options.top, rule),
                **({} if answer.resemblance is None else answer.resemblance.as_json()),
                **({"warnings": upload.warnings} if upload.warnings else {}),
            }
            for upload, answer in zip(uploads, answers, strict=True)
        ]
        return json_response({"model": served.name, "predictions": found})

    return router


def _answer(
    classifier: Classifier, shares: NDArray[np.float64], top: int, rule: SetRule | None
) -> dict[str, Any]:
    """The most probable classes and the prediction set.

    First the predicted labels where an image may have several.
    """
    names, thresholds = classifier.class_names, classifier.thresholds
    best: dict[str, Any] = {"top": most_probable(shares, names, top)}
    if rule is not None:
        return {**best, "prediction_set": set_json(prediction_sets(shares[None], names, rule), 0)}
    if thresholds is None:
        return best
    return {"labels": predicted_classes(shares, names, top, thresholds), **best}
