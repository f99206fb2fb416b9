"""Tensors of every shape and datatype as images."""

from typing import Any

import pytest

from glasshouse.serving.service.input_tensors import (
    InputImages,
    _elements,
    _file_of_bytes,
    _flat,
    _json_numbers,
    _outside,
    _require_shape,
)
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.problems import Problem
from glasshouse.serving.service.schemas import InputTensor
from glasshouse.serving.service.uploads import Upload

IMAGE = (3, 8, 12)


def tensor(*shape: int) -> InputTensor:
    return InputTensor(name="x", datatype="UINT8", shape=list(shape))


@pytest.mark.parametrize(
    ("shape", "image", "hint"),
    [
        ((3, 8, 12), IMAGE, "; add a dimension for the batch at the front"),
        ((2, 8, 12, 3), IMAGE, "; put the channels first: array.transpose(0, 3, 1, 2)"),
        ((2, 3, 12, 8), IMAGE, "; resize to 12x8, or send image files as BYTES"),
        ((2, 8, 3, 12), IMAGE, "; resize to 12x8, or send image files as BYTES"),
        ((1, 1, 3, 8, 12), IMAGE, ""), ((3, 8), IMAGE, ""), ((1,), IMAGE, ""),
        ((1, 1, 1, 1), (), ""), ((1, 2), (), ""), ((1, 1, 1), (), ""),
    ],
)  # fmt: skip
def test_a_shape_that_does_not_fit_comes_with_what_may_be_meant(
    shape: tuple[int, ...], image: tuple[int, ...], hint: str
) -> None:
    with pytest.raises(Problem) as raised:
        _require_shape(tensor(*shape), image, Limits())
    wanted = [-1, *image]
    assert raised.value.detail == (f"inputs: expected the shape {wanted}, got {list(shape)}{hint}")


@pytest.mark.parametrize(
    ("shape", "image"), [((2, *IMAGE), IMAGE), ((2,), ()), ((2, 1), ()), ((64, *IMAGE), IMAGE)]
)
def test_a_shape_that_fits_says_how_many_images_there_are(
    shape: tuple[int, ...], image: tuple[int, ...]
) -> None:
    assert _require_shape(tensor(*shape), image, Limits()) == shape[0]
    for count in (0, 65):
        with pytest.raises(Problem, match=f"1 to at most 64 images, got {count}"):
            _require_shape(tensor(count, *shape[1:]), image, Limits())


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        ([True, False, 1, 0], "BOOL"), ([0, 255], "UINT8"), ([0, 2.0], "INT64"),
        ([0.5, 1], "BF16"), ([0.25, 200], "FP16"), ([0.1], "FP32"), ([1e9], "FP64"),
    ],
)  # fmt: skip
def test_numbers_in_json(values: list[Any], datatype: str) -> None:
    assert _json_numbers(values, datatype).tolist() == [float(value) for value in values]


@pytest.mark.parametrize(
    ("values", "datatype", "words"),
    [
        ([True], "UINT8", "expected numbers"), ([False, 0.5], "FP32", "expected numbers"),
        (["1"], "BF16", "expected numbers"), ([None], "INT8", "expected numbers"),
        ([0.5], "BOOL", "expected true or false"), (["x"], "BOOL", "expected true or false"),
        ([2], "BOOL", "true or false, or 0 and 1"), ([-1], "BOOL", "true or false, or 0 and 1"),
        ([0, 1.5], "UINT64", "expected whole numbers for UINT64"),
        ([10**400], "UINT8", "got a number beyond that"),
    ],
)  # fmt: skip
def test_what_is_no_number_of_its_datatype(values: list[Any], datatype: str, words: str) -> None:
    with pytest.raises(Problem) as raised:
        _json_numbers(values, datatype)
    assert raised.value.status == 422 and raised.value.detail.endswith(words)


def test_only_values_below_zero_look_normalised() -> None:
    assert "normalisation" not in _outside("x").detail
    assert "normalisation" in _outside("x", is_normalised=True).detail


def test_nested_lists_are_flattened_to_a_bounded_number_of_values() -> None:
    assert _flat([[[1], [2]], [[3], [4]]], 4) == [1, 2, 3, 4]
    assert _flat([[1], [2]], 2) == [1, 2] and _flat([], 0) == []
    for data, most in (([[1], [2]], 1), ([1, [2]], 9), ([[1], [[2]]], 9)):
        with pytest.raises(Problem, match="not nested evenly"):
            _flat(data, most)


def element(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def test_elements_of_a_binary_tensor() -> None:
    assert _elements(tensor(2), element(b"") + element(b"a" * 300), 2) == [b"", b"a" * 300]
    assert _elements(tensor(2), b"", 2) == []
    for cut in (1, 3, 4, 5):
        with pytest.raises(Problem, match="within an element"):
            _elements(tensor(2), element(b"ab")[:cut], 2)
    with pytest.raises(Problem, match="needs 1 values, got more"):
        _elements(tensor(1), element(b"a") * 2, 1)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (b"aGVs", b"hel"), (b"aGVs\nbG8=\n", b"hello"), (b"aGVsbG8=", b"hello"),
        (b"aGVsb", b"aGVsb"), (b"aGVsbG", b"aGVsbG"), (b"aGVsbG8", b"aGVsbG8"),
        (b"GIF89a\0", b"GIF89a\0"),
    ],
)  # fmt: skip
def test_a_file_may_be_in_base64(value: bytes, data: bytes) -> None:
    assert _file_of_bytes("x", value) == data


def test_what_a_client_should_know_about_its_input() -> None:
    assert InputImages([]).parameters() == {}
    warned = InputImages([], [Upload("a", b"", ["one."]), Upload("b", b"")], "0 to 1", "two.")
    assert warned.parameters() == {"value_range": "0 to 1", "warnings": "one. two."}
    assert InputImages([], value_range="0 to 1").parameters() == {"value_range": "0 to 1"}
