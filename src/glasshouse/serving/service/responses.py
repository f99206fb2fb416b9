"""What the routes have in common: JSON answers, and how their documents are described."""

import json
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from glasshouse.serving.service.problems import MEDIA_TYPE
from glasshouse.serving.service.schemas import ProblemDocument

# Beside the usual answer of every route.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem (RFC 9457).",
        "content": {
            MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}
        },
    }
}
_BINARY = {"type": "string", "format": "binary"}
IMAGES_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One image as the body, or a form of one or several.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "minItems": 1, "items": _BINARY}},
                    "additionalProperties": False,
                }
            },
            "application/octet-stream": {"schema": _BINARY},
            "image/*": {"schema": _BINARY},
        },
    }
}


def json_answer(document: dict[str, Any]) -> Response:
    """A document that is known to be of its kind; checking each again would cost time."""
    return Response(
        json.dumps(document, ensure_ascii=False, allow_nan=False), media_type="application/json"
    )


def document_answer(document: BaseModel) -> Response:
    """A small document."""
    return Response(
        document.model_dump_json(by_alias=True, exclude_none=True), media_type="application/json"
    )
