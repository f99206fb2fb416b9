import base64
import json

import numpy as np
import pytest

from glasshouse.data.decode import decode
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import predict_logits
from glasshouse.models.preprocessing import preprocess
from tests.serving.service.conftest import CLASS_NAMES, Caller, png

PATH = "/v2/models/tiny/infer"


def body(datatype: str, shape: list[int], data: object, name: str = "pixels") -> dict[str, object]:
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}


def test_server_and_model_metadata(ask: Caller) -> None:
    assert ask("GET", "/v2").json()["name"] == "glasshouse"
    assert ask("GET", "/v2/health/live").json() == {"live": True}
    assert ask("GET", "/v2/health/ready").json() == {"ready": True}
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/1"):
        about = ask("GET", path).json()
        assert about["inputs"][1] == {
            "name": "pixels", "datatype": "UINT8", "shape": [-1, 3, 16, 16],
        }  # fmt: skip
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
        (body("INT64", [1], [1]), "datatype"),
        (body("UINT8", [1, 3, 16, 16], FLAT, "x"), "expected the name 'pixels'"),
        (body("UINT8", [1, 3, 16, 15], FLAT), "shape"),
        (body("UINT8", [0, 3, 16, 16], []), "shape"),
        (body("UINT8", [-1, 3, 16, 16], FLAT), "shape"),
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
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("text", ["", "[", "null", '{"inputs": NaN}', "[" * 5000, '"\\ud800"'])
def test_a_body_that_is_not_a_request_is_a_problem(ask: Caller, text: str) -> None:
    assert ask("POST", PATH, content=text.encode()).status_code == 422


def test_nan_and_infinity_are_rejected(ask: Caller) -> None:
    document = json.dumps(body("FP32", [1, 3, 16, 16], [*FLAT[1:], float("nan")]))
    assert ask("POST", PATH, content=document).status_code == 422
