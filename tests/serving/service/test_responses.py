"""Responses, and how requests are described."""

import math

import pytest

from glasshouse.serving.service.responses import document_response, json_response
from glasshouse.serving.service.schemas import ClassShare, Health, TensorMetadata
from tests.serving.service.conftest import Caller


def test_documents_are_utf_8_and_have_no_number_that_json_lacks() -> None:
    assert bytes(json_response({"a": "\N{SNOWMAN}"}).body) == '{"a": "\N{SNOWMAN}"}'.encode()
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON compliant"):
            json_response({"a": value})


def test_members_without_a_value_are_left_out() -> None:
    found = document_response(TensorMetadata(name="a", datatype="FP32", shape=[-1]))
    assert bytes(found.body) == b'{"name":"a","datatype":"FP32","shape":[-1]}'
    assert bytes(document_response(Health(status="ok", models=[])).body)[:9] == b'{"status"'
    share = ClassShare(class_name="cat", probability=1.0)
    assert bytes(document_response(share).body) == b'{"class":"cat","probability":1.0}'


def test_which_requests_need_a_body(ask: Caller) -> None:
    paths = ask("GET", "/openapi.json").json()["paths"]
    bodies = {
        path: operation["requestBody"]
        for path, item in paths.items()
        for operation in item.values()
        if "requestBody" in operation
    }
    assert {path for path, body in bodies.items() if body["required"]} == {
        "/predict", "/explain", "/v2/models/{model_name}/infer",
        "/v2/models/{model_name}/versions/{version}/infer",
    }  # fmt: skip
    assert {path for path, body in bodies.items() if not body["required"]} == {
        "/v2/repository/index", "/v2/repository/models/{model_name}/load",
        "/v2/repository/models/{model_name}/unload",
    }  # fmt: skip
    for path in ("/predict", "/explain"):
        form = bodies[path]["content"]["multipart/form-data"]["schema"]
        assert form["required"] == ["images"]
        assert form["properties"]["images"]["minItems"] == 1
