"""The JSON and the binary part of inference requests, and what is wanted of the answer."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glasshouse.models.classifier import Classifier
from glasshouse.serving.service.infer_requests import (
    _binary_of,
    _class_text,
    _is_binary,
    _split,
    _values,
    _wanted,
    infer_response,
)
from glasshouse.serving.service.problems import Problem
from glasshouse.serving.service.schemas import InferRequest, InputTensor, RequestedOutput
from glasshouse.serving.service.service import Scores
from tests.serving.service.conftest import CLASS_NAMES

BODY = b"{}binary"
SCORES = Scores(np.array([0.5, 2, 1, -1], np.float32), np.array([0.2, 0.5, 0.2, 0.1]))


def asked(**more: Any) -> InferRequest:
    tensor = {"name": "x", "datatype": "UINT8", "shape": [1], "data": [0]}
    return InferRequest.model_validate({"inputs": [tensor], **more})


def tensor(data: list[int] | None, **parameters: object) -> InputTensor:
    return InputTensor(name="x", datatype="UINT8", shape=[1], data=data, parameters=parameters)


@pytest.mark.parametrize(
    ("length", "parts"),
    [
        (None, (BODY, b"")), ("2", (b"{}", b"binary")), ("8", (BODY, b"")),
        ("00000000002", (b"{}", b"binary")),
    ],
)  # fmt: skip
def test_a_body_is_split_where_its_header_says(
    length: str | None, parts: tuple[bytes, bytes]
) -> None:
    assert _split(BODY, length) == parts


@pytest.mark.parametrize(
    "length", [*("9", "0", "000000000002", "-1", "2.0", "x", ""), "\N{SUPERSCRIPT TWO}"]
)
def test_no_other_length_is_accepted(length: str) -> None:
    with pytest.raises(Problem) as raised:
        _split(BODY, length)
    assert raised.value.status == 422


def test_a_long_length_is_cut_in_the_message() -> None:
    with pytest.raises(Problem, match="up to 8, the size") as raised:
        _split(BODY, "9" * 99)
    assert "9" * 20 in raised.value.detail and "9" * 21 not in raised.value.detail


def test_values_are_in_one_place() -> None:
    assert _binary_of(tensor([0]), b"") is None
    assert _binary_of(tensor(None, binary_data_size=1), b"x") == b"x"
    assert _binary_of(tensor(None, binary_data_size=0), b"") == b""
    for wrong, binary, words in (
        (tensor([0]), b"x", "1 bytes follow"),
        (tensor(None), b"", "neither data nor"),
        (tensor([0], binary_data_size=1), b"x", "has both data and"),
        (tensor(None, binary_data_size=0), b"x", "1 bytes follow the JSON part, got 0"),
        (tensor(None, binary_data_size=2), b"x", "got 2"),
        (tensor(None, binary_data_size=10**30), b"x", f"got 1{'0' * 19}"),
        (tensor(None, shared_memory_region="a"), b"", "shared memory"),
    ):
        with pytest.raises(Problem) as raised:
            _binary_of(wrong, binary)
        assert raised.value.status == 422 and raised.value.detail.partition("got ")[0]
        assert words in raised.value.detail and "0" * 20 not in raised.value.detail


def test_which_outputs_are_wanted_and_which_in_binary_form() -> None:
    assert [each.name for each in _wanted(asked())] == ["class", "probabilities", "logits"]
    twice = [{"name": "logits"}, {"name": "class"}, {"name": "logits", "parameters": {"a": 1}}]
    found = _wanted(asked(outputs=twice))
    assert [each.name for each in found] == ["logits", "class"]
    assert found[0].parameters == {"a": 1}
    for usual, own, is_binary in (
        (None, None, False), (True, None, True), (False, None, False), (True, False, False),
        (False, True, True), (None, True, True), ("yes", None, False), (None, 1, False),
    ):  # fmt: skip
        request = asked() if usual is None else asked(parameters={"binary_data_output": usual})
        parameters = None if own is None else {"binary_data": own}
        output = RequestedOutput(name="logits", parameters=parameters)
        assert _is_binary(output, request) == is_binary


@pytest.mark.parametrize("most", [True, -1, "2", 1.0, None])
def test_the_best_classes_are_counted_in_whole_numbers(classifier: Classifier, most: Any) -> None:
    wrong = RequestedOutput(name="logits", parameters={"classification": most})
    with pytest.raises(Problem, match="expected a number of classes"):
        _values(wrong, [SCORES], classifier)


def test_the_values_of_an_output(classifier: Classifier) -> None:
    for parameters in (None, {}, {"classification": 0}):
        for name in ("logits", "probabilities"):
            wanted = RequestedOutput(name=name, parameters=parameters)
            kind, found = _values(wanted, [SCORES, SCORES], classifier)
            assert (kind, found.shape, found.dtype.name) == ("FP32", (2, 4), "float32")
            np.testing.assert_allclose(found[1], getattr(SCORES, name), rtol=1e-6)
    wanted = RequestedOutput(name="logits", parameters={"classification": 1})
    assert _values(wanted, [SCORES], classifier)[1].tolist() == [["2.000000:1:dog"]]
    wanted = RequestedOutput(name="logits", parameters={"shared_memory_region": "a"})
    with pytest.raises(Problem, match="outputs: shared memory"):
        _values(wanted, [SCORES], classifier)


def test_the_class_of_an_image_in_words(classifier: Classifier) -> None:
    assert _class_text(SCORES, classifier) == "dog"
    assert _class_text(SCORES, replace(classifier, class_names=())) == "1"
    several = replace(classifier, thresholds=(0.2, 0.4, 0.3, 0.5))
    assert _class_text(SCORES, several) == "dog|cat"
    assert _class_text(SCORES, replace(several, thresholds=(1.0,) * 4)) == ""


def test_an_answer_in_binary_form_begins_with_its_description(classifier: Classifier) -> None:
    outputs = [{"name": "class"}, {"name": "logits", "parameters": {"binary_data": True}}]
    first = asked(outputs=outputs, id="42")
    best = Scores(np.array([0, 0, 0, 9], np.float32), SCORES.probabilities)
    answer = infer_response(first, {"model_name": "tiny"}, [best], classifier)
    length = int(answer.headers["inference-header-content-length"])
    body = bytes(answer.body)
    document = json.loads(body[:length])
    assert CLASS_NAMES[3].encode() in body[:length] and document["id"] == "42"
    assert document["outputs"][1]["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(body[length:], "<f4").tolist() == [0, 0, 0, 9]
    plain = infer_response(asked(), {"model_name": "tiny"}, [best], classifier)
    assert "id" not in json.loads(bytes(plain.body))
    assert plain.headers["content-type"] == "application/json"
