import base64
import json
from typing import Any

import numpy as np
import pytest

from glasshouse.data.decode import decode
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import predict_logits
from glasshouse.models.preprocessing import preprocess
from glasshouse.serving.service import input_tensors
from glasshouse.serving.service.access import AccessRules
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.service import Service
from tests.serving.service.conftest import CLASS_NAMES, Caller, png

PATH = "/v2/models/tiny/infer"


def body(datatype: str, shape: list[int], data: object, name: str = "pixels") -> dict[str, object]:
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}


def test_server_and_model_metadata(ask: Caller) -> None:
    about = ask("GET", "/v2").json()
    assert about["name"] == "glasshouse" and "binary_tensor_data" in about["extensions"]
    assert ask("GET", "/v2/health/live").json() == {"live": True}
    assert ask("GET", "/v2/health/ready").json() == {"ready": True}
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/1"):
        about = ask("GET", path).json()
        shown = [(each["name"], each["datatype"], each["shape"]) for each in about["inputs"]]
        assert shown == [("images", "BYTES", [-1]), ("pixels", "UINT8", [-1, 3, 16, 16])]
        assert about["versions"] == ["1"]
        assert about["outputs"][2]["shape"] == [-1, 4]
        assert ask("GET", f"{path}/ready").json() == {"name": "tiny", "ready": True}
    assert ask("GET", "/v2/models/other").status_code == 404
    assert ask("GET", "/v2/models/tiny/versions/2").status_code == 404


def test_files_and_pixels_give_the_offline_logits(ask: Caller, classifier: Classifier) -> None:
    files = [png(seed) for seed in range(3)]
    pixels = np.stack([preprocess(decode(f), classifier.preprocessing) for f in files])
    expected = predict_logits(classifier.net, classifier.preprocessing, pixels).numpy()
    texts = [base64.b64encode(f).decode() for f in files]
    asked = [
        body("BYTES", [3], texts, "images"),
        body("BYTES", [3, 1], texts, "images"),
        body("UINT8", [3, 3, 16, 16], pixels.ravel().tolist()),
        body("UINT8", [3, 3, 16, 16], pixels.tolist()),
        body("FP32", [3, 3, 16, 16], pixels.astype(float).tolist()),
    ]
    for document in asked:
        answer = ask("POST", PATH, json=document | {"id": "42"})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["id"], found["model_name"], found["model_version"]) == ("42", "tiny", "1")
        outputs = {each["name"]: each for each in found["outputs"]}
        logits = np.reshape(outputs["logits"]["data"], outputs["logits"]["shape"])
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
        assert outputs["class"]["data"] == [CLASS_NAMES[k] for k in expected.argmax(1)]
        np.testing.assert_allclose(
            np.reshape(outputs["probabilities"]["data"], (3, 4)).sum(1), 1, atol=1e-5
        )


def test_only_the_requested_outputs_are_returned(ask: Caller) -> None:
    text = base64.b64encode(png(0)).decode()
    asked = body("BYTES", [1], [text], "images") | {"outputs": [{"name": "class"}]}
    found = ask("POST", "/v2/models/tiny/versions/1/infer", json=asked).json()
    assert [each["name"] for each in found["outputs"]] == ["class"]


FLAT = [0] * 768


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        (body("INT64", [1], [1]), "expected the shape [-1, 3, 16, 16], got [1]"),
        (body("INT128", [1], [1]), "datatype"),
        (body("UINT8", [1, 16, 16, 3], FLAT), "transpose(0, 3, 1, 2)"),
        (body("UINT8", [3, 16, 16], FLAT), "add a dimension for the batch"),
        (body("UINT8", [1, 3, 9, 9], FLAT), "resize to 16x16"),
        (body("FP32", [1, 3, 16, 16], [*FLAT[1:], -1.5]), "before normalisation"),
        (body("BOOL", [1, 3, 16, 16], [*FLAT[1:], 2]), "true or false"),
        (body("BOOL", [1, 3, 16, 16], [*FLAT[1:], 0.5]), "true or false"),
        (body("UINT8", [1, 3, 16, 16], None), "neither data nor binary_data_size"),
        (body("UINT8", [1, 3, 16, 15], FLAT), "shape"),
        (body("UINT8", [0, 3, 16, 16], []), "1 to at most 8 images, got 0"),
        (body("UINT8", [-1, 3, 16, 16], FLAT), "1 to at most 8 images, got -1"),
        (body("UINT8", [2, 3, 16, 16], FLAT), "needs 1536 values, got 768"),
        (body("UINT8", [9, 3, 16, 16], FLAT), "at most 8"),
        (body("UINT8", [1, 3, 16, 16], [*FLAT[1:], 256]), "0 to 255"),
        (body("UINT8", [1, 3, 16, 16], [*FLAT[1:], 10**400]), "0 to 255"),
        (body("UINT8", [1, 3, 16, 16], [*FLAT[1:], 0.5]), "whole numbers"),
        (body("FP32", [1, 3, 16, 16], [*FLAT[1:], "1"]), "numbers"),
        (body("FP32", [1, 3, 16, 16], [*FLAT[1:], [0]]), "not nested evenly"),
        (body("BYTES", [1], [5], "images"), "base64"),
        (body("BYTES", [1], ["???"], "images"), "base64"),
        (body("BYTES", [1], ["aGVsbG8="], "images"), "not an image"),
    ],
)
def test_a_tensor_that_does_not_fit_is_a_problem(
    ask: Caller, document: dict[str, object], words: str
) -> None:
    # httpx would refuse a number that large.
    answer = ask("POST", PATH, content=json.dumps(document))
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"] and words in answer.json()["error"]


@pytest.mark.parametrize("text", ["", "[", "null", '{"inputs": NaN}', "[" * 5000, '"\\ud800"'])
def test_a_body_that_is_not_a_request_is_a_problem(ask: Caller, text: str) -> None:
    assert ask("POST", PATH, content=text.encode()).status_code == 422


def test_nan_and_infinity_are_rejected(ask: Caller) -> None:
    document = json.dumps(body("FP32", [1, 3, 16, 16], [*FLAT[1:], float("nan")]))
    assert ask("POST", PATH, content=document).status_code == 422


def in_binary(header: dict[str, object], data: bytes, more: bytes = b"") -> dict[str, Any]:
    """The content and headers of a request with binary data; more: instead of its length."""
    text = json.dumps(header).encode()
    length = more.decode() or str(len(text))
    return {"content": text + data, "headers": {"Inference-Header-Content-Length": length}}


def tensor(datatype: str, shape: list[int], **parameters: object) -> dict[str, object]:
    """The header of a request for a tensor in binary form."""
    described = {"name": "x", "datatype": datatype, "shape": shape, "parameters": parameters}
    return {"inputs": [described]}


SHAPE = [1, 3, 16, 16]
BLACK = bytes(768)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (in_binary(tensor("UINT8", SHAPE, binary_data_size=767), BLACK[1:]), "got 767"),
        (in_binary(tensor("UINT8", SHAPE, binary_data_size=768), BLACK[1:]), "767 bytes follow"),
        (in_binary(tensor("UINT8", SHAPE, binary_data_size=True), b"x"), "1 bytes follow"),
        (in_binary(tensor("UINT8", SHAPE), BLACK), "no tensor has binary_data_size"),
        (in_binary(tensor("FP32", SHAPE, binary_data_size=767), BLACK[1:]), "whole number of FP32"),
        (in_binary(tensor("BYTES", [1], binary_data_size=5), b"\x09\0\0\0a"), "within an element"),
        (in_binary(tensor("BYTES", [1], binary_data_size=3), b"\x09\0\0"), "within an element"),
        (in_binary(tensor("BYTES", [2], binary_data_size=4), bytes(4)), "needs 2 values, got 1"),
        (in_binary(tensor("BYTES", [1], binary_data_size=4), bytes(4)), "the file is empty"),
        (in_binary(tensor("BYTES", [1], binary_data_size=4000), bytes(4000)), "got more"),
        (
            in_binary(tensor("BYTES", [1], binary_data_size=12), b"\x08\0\0\0AAAAAA=\n"),
            "not an image",
        ),
        (in_binary(tensor("UINT8", SHAPE, shared_memory_region="a"), b""), "shared memory"),
        (in_binary(tensor("UINT8", SHAPE), BLACK, b"99999"), "Inference-Header-Content-Length"),
        (in_binary(tensor("UINT8", SHAPE), BLACK, b"-1"), "Inference-Header-Content-Length"),
        (in_binary(tensor("UINT8", SHAPE), BLACK, b"0"), "without JSON"),
        (in_binary(tensor("UINT8", SHAPE), BLACK, b"9" * 5000), "Inference-Header"),
    ],
)
def test_binary_data_that_does_not_fit_is_a_problem(
    ask: Caller, asked: dict[str, Any], words: str
) -> None:
    answer = ask("POST", PATH, **asked)
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/v2/nothing", {}, 404),
        ("GET", "/v2/models/other", {}, 404),
        ("POST", "/v2/models/other/infer", {}, 404),
        ("DELETE", "/v2", {}, 405),
        ("GET", PATH, {}, 405),
        ("POST", PATH, {"content": b" " * (2 << 20)}, 413),
        ("POST", PATH, {"content": b"{}", "headers": {"content-encoding": "br"}}, 415),
        ("POST", PATH, {"content": b"{}"}, 422),
    ],
)
def test_every_error_under_v2_has_the_member_that_clients_read(
    ask: Caller, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    answer = ask(method, path, **more)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"] == answer.json()["detail"] != ""


def test_refusals_before_any_route_have_that_member_too(service: Service) -> None:
    rules = AccessRules(api_key="s3cret", hosts=frozenset({"127.0.0.1"}))
    ask = Caller(create_api(service, rules))
    for headers, status in (({}, 401), ({"host": "evil.example"}, 421)):
        answer = ask("GET", "/v2/models/tiny", headers=headers)
        assert answer.status_code == status and answer.json()["error"]
    assert "error" not in ask("GET", "/metrics").json()


def test_no_more_elements_are_made_than_the_shape_has(
    ask: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(input_tensors, "Upload", lambda *given: made.append(given))
    many = tensor("BYTES", [1], binary_data_size=400_000)
    assert ask("POST", PATH, **in_binary(many, bytes(400_000))).status_code == 422
    assert ask("POST", PATH, json=body("BYTES", [1], [""] * 100_000)).status_code == 422
    assert made == []


def test_files_in_base64_of_lines_are_read(ask: Caller) -> None:
    answers = []
    for data in (png(0), base64.encodebytes(png(0))):
        element = len(data).to_bytes(4, "little") + data
        asked = in_binary(tensor("BYTES", [1], binary_data_size=len(element)), element)
        answers.append(ask("POST", PATH, **asked).json()["outputs"])
    assert answers[0] == answers[1]
