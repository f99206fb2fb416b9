"""POST /predict: the most probable classes of images."""

from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from numpy.typing import NDArray
from starlette.responses import Response

from glasshouse.models.classifier import Classifier
from glasshouse.models.conformity import SetMethod, SetRule
from glasshouse.models.predict import most_probable, predicted_classes
from glasshouse.models.prediction_sets import SetRequest, prediction_sets, rule_of, set_json
from glasshouse.serving.service.responses import IMAGES_BODY, MODEL_WORDS, PROBLEMS, json_response
from glasshouse.serving.service.schemas import Name, PredictionsDocument
from glasshouse.serving.service.service import Service, score_images
from glasshouse.serving.service.uploads import pixels_of, read_uploads


def predict_routes(service: Service) -> APIRouter:
    """POST /predict."""
    router = APIRouter(tags=["predict"])

    @router.post(
        "/predict",
        response_model=None,
        responses={200: {"model": PredictionsDocument}, **PROBLEMS},
        openapi_extra=IMAGES_BODY,
        summary="Classify one or more images",
    )
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=1000, description="classes to return per image")] = 5,
        coverage: Annotated[
            float | None,
            Query(gt=0, lt=1, description="share of prediction sets with the true class; 0.95"),
        ] = None,
        sets: Annotated[
            SetMethod | None, Query(description="kind of prediction sets; default: lac")
        ] = None,
        class_conditional: Annotated[
            bool, Query(description="the coverage holds for the images of each class")
        ] = False,
        model: Annotated[Name | None, Query(description=MODEL_WORDS)] = None,
    ) -> Response:
        served = service.models.find(model)
        limits, classifier = service.limits, served.classifier
        asked = SetRequest(coverage, sets, class_conditional)
        rule = rule_of(classifier.conformity, classifier.thresholds, asked)
        with service.capacity.enter() as slot:
            uploads = await read_uploads(request, slot, limits)
            preprocessing = classifier.preprocessing
            works = [partial(pixels_of, upload, preprocessing, limits) for upload in uploads]
            answers = await score_images(service, served, request, slot, works)
        found = [
            {
                "image": upload.name,
                **_answer(classifier, answer.probabilities, top, rule),
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
