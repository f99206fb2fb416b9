"""What the routes have in common: JSON responses and their OpenAPI descriptions."""

import json
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from glasshouse.serving.service.problems import MEDIA_TYPE
from glasshouse.serving.service.schemas import ProblemDocument

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "An error, as problem details (RFC 9457).",
        "content": {
            MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}
        },
    }
}
MODEL_WORDS = "name of a model; default: the first of the service"
SIMILAR_WORDS = (
    "which training images each image resembles, and whether it is unlike all of them; for "
    "services started with --similar"
)
_BINARY = {"type": "string", "format": "binary"}
IMAGES_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One image as the body, or a multipart form with one or more images; "
        "its other fields are ignored.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "minItems": 1, "items": _BINARY}},
                }
            },
            "application/octet-stream": {"schema": _BINARY},
            "image/*": {"schema": _BINARY},
        },
    }
}


def json_response(document: dict[str, Any] | list[dict[str, Any]]) -> Response:
    """A response from plain dictionaries and lists.

    It is not validated against its schema: the tests do that, and it would cost time per request.
    """
    return Response(
        json.dumps(document, ensure_ascii=False, allow_nan=False), media_type="application/json"
    )


def document_response(document: BaseModel) -> Response:
    """A response from a model of its schema."""
    return Response(
        document.model_dump_json(by_alias=True, exclude_none=True), media_type="application/json"
    )
