"""The page /docs: every endpoint with its schema and an example, made from the description.

The usual viewers of OpenAPI descriptions are large scripts from another host; this page is text.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import quote

import jinja2

Schema = Mapping[str, Any]
_METHODS = ("get", "post", "put", "patch", "delete")
# What a request needs in addition to its address, by the end of its path.
_BODIES = {
    "/predict": "--data-binary @photo.jpg -H 'Content-Type: image/jpeg'",
    "/explain": "-F images=@photo.jpg",
    "/infer": '-H \'Content-Type: application/json\' -d \'{"inputs": [{"name": "image", '
    '"datatype": "BYTES", "shape": [1], "data": ["BASE64"]}]}\'',
}


@dataclass(frozen=True)
class Field:
    """A parameter of an operation or a member of a schema; kind: its type in words."""

    name: str
    kind: str
    is_required: bool
    description: str


@dataclass(frozen=True)
class Operation:
    """One endpoint; bodies, responses: media type or status, and what it holds."""

    method: str
    path: str
    summary: str
    description: str
    parameters: tuple[Field, ...]
    bodies: tuple[tuple[str, str], ...]
    responses: tuple[tuple[str, str], ...]
    example: str


def docs_html(document: Schema, model: str) -> str:
    """The page for an OpenAPI description; model: the name to put into the examples."""
    text = resources.files(__package__) / "docs.html.jinja"
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        text.read_text(encoding="utf-8")
    )
    schemas = document.get("components", {}).get("schemas", {})
    return template.render(
        title=document["info"]["title"],
        description=document["info"].get("description", ""),
        operations=list(operations_of(document, model)),
        schemas={name: (s.get("description", ""), _members(s)) for name, s in schemas.items()},
    )


def operations_of(document: Schema, model: str) -> Iterator[Operation]:
    """Every endpoint of a description, in its order."""
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method not in item:
                continue
            found = item[method]
            body = found.get("requestBody", {}).get("content", {})
            yield Operation(
                method=method.upper(),
                path=path,
                summary=found.get("summary", ""),
                description=found.get("description", ""),
                parameters=tuple(_parameter(one) for one in found.get("parameters", ())),
                bodies=tuple((media, _kind(one.get("schema", {}))) for media, one in body.items()),
                responses=tuple(_responses(found.get("responses", {}))),
                example=_example(method, path, model),
            )


def _parameter(found: Schema) -> Field:
    schema = found.get("schema", {})
    default = f"; default {_words(schema['default'])}" if schema.get("default") is not None else ""
    return Field(
        name=found["name"],
        kind=f"{_kind(schema)}{default}",
        is_required=bool(found.get("required")),
        description=found.get("description") or schema.get("description", ""),
    )


def _members(schema: Schema) -> list[Field]:
    required = schema.get("required", ())
    return [
        Field(name, _kind(one), name in required, one.get("description", ""))
        for name, one in schema.get("properties", {}).items()
    ]


def _responses(found: Schema) -> Iterator[tuple[str, str]]:
    for status, one in found.items():
        kinds = {_kind(content.get("schema", {})) for content in one.get("content", {}).values()}
        shown = ", ".join(sorted(kinds - {"any"}))
        words = one.get("description", "").rstrip(".").replace("Successful Response", "")
        yield status, ": ".join(part for part in (words, shown) if part)


def _words(value: object) -> str:
    """A default as it is written in an address."""
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(schema: Schema) -> str:
    """The type of a schema in words; the name of one that is described elsewhere."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(_kind(one) for one in schema[key] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")


def _example(method: str, path: str, model: str) -> str:
    # Paths differ in the model and its version only; there is one of each.
    address = re.sub(r"\{[^}]*version[^}]*\}", "1", path)
    address = re.sub(r"\{[^}]*\}", quote(model), address)
    body = next((body for ending, body in _BODIES.items() if path.endswith(ending)), "")
    return f"{address} {body}".strip() if method != "get" else address
