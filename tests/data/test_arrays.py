from typing import Any

import numpy as np
import pytest
import torch

from glasshouse.data.arrays import bytes_hint, named_targets, rgb_pixels
from glasshouse.data.images import ImageSet, take, with_class_order
from glasshouse.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)
LABELS = [0, 1, 0, 2, 1]
FIRST = PIXELS.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    "pixels", [PIXELS, FIRST, list(PIXELS), torch.from_numpy(PIXELS), np.asfortranarray(PIXELS)]
)
def test_both_orders_of_the_axes_are_recognised(pixels: Any) -> None:
    images = ImageSet.from_arrays(pixels, LABELS)
    assert np.array_equal(images.pixels, FIRST)
    assert images.pixels.flags.c_contiguous
    assert images.labels.dtype == np.int64 and images.labels.tolist() == LABELS
    assert images.class_names == ("0", "1", "2")


@pytest.mark.parametrize("axes", [(5, 8, 9), (5, 1, 8, 9), (5, 8, 9, 1)])
def test_grey_images_become_three_equal_channels(axes: tuple[int, ...]) -> None:
    images = ImageSet.from_arrays(PIXELS[..., 0].reshape(axes), LABELS)
    assert images.pixels.shape == (5, 3, 8, 9)
    assert all(np.array_equal(images.pixels[:, i], PIXELS[..., 0]) for i in range(3))


def test_labels_may_be_names() -> None:
    named = ["dog", "cat", "dog", "cat", "dog"]
    images = ImageSet.from_arrays(PIXELS, named)
    assert images.class_names == ("cat", "dog") and images.labels.tolist() == [1, 0, 1, 0, 1]
    ordered = ImageSet.from_arrays(PIXELS, named, ["dog", "cat"])
    assert ordered.class_names == ("dog", "cat") and ordered.labels.tolist() == [0, 1, 0, 1, 0]


def test_truth_values_are_any_number_of_labels_per_image() -> None:
    matrix = np.array([[1, 1], [0, 0], [1, 0], [0, 1], [0, 0]], dtype=bool)
    images = ImageSet.from_arrays(PIXELS, matrix, ["round", "red"])
    assert images.is_multi_label and np.array_equal(images.label_matrix, matrix)
    with pytest.raises(
        DataError, match=r"labels\.argmax\(1\), for any number of labels labels\.asty"
    ):
        ImageSet.from_arrays(PIXELS, matrix.astype(int))


def test_ids_are_positions_unless_they_are_given() -> None:
    assert ImageSet.from_arrays(PIXELS, LABELS).ids[4] == "0000004"
    assert ImageSet.from_arrays(PIXELS, LABELS, ids=list("abcde")).ids[4] == "e"


@pytest.mark.parametrize(
    ("pixels", "advice"),
    [
        (PIXELS / 255, "(255 * pixels).round().astype('uint8')"),
        (PIXELS.astype(np.float32), "pixels.round().astype('uint8')"),
        (PIXELS.astype(np.int64), "pixels.astype('uint8')"),
        (PIXELS.astype(np.uint16) * 257, "(pixels // 257).astype('uint8')"),
        (PIXELS > 127, "255 * pixels.astype('uint8')"),
        (PIXELS / 510 + 0.25, "(255 * pixels).round().astype('uint8')"),
        (PIXELS // 2 + 1.0, "pixels.round().astype('uint8')"),
        (PIXELS / 255 - 0.5, "undo the normalisation"),
        (np.where(PIXELS > 9, PIXELS, np.nan), "infinite or not numbers; replace them first"),
        (np.where(PIXELS > 9, PIXELS / 255, np.inf), "infinite or not numbers; replace them"),
    ],
)
def test_other_types_are_refused_with_the_expression_that_corrects_them(
    pixels: Any, advice: str
) -> None:
    with pytest.raises(DataError) as refused:
        ImageSet.from_arrays(pixels, LABELS)
    assert advice in str(refused.value)
    if "astype" in advice:
        corrected = eval(advice, {"pixels": pixels})
        assert corrected.dtype == np.uint8
        assert ImageSet.from_arrays(corrected, LABELS).height == 8


def test_the_expression_calls_the_array_as_the_caller_does() -> None:
    for array in (PIXELS > 127, PIXELS / 255, PIXELS / 1.0, PIXELS.astype(np.uint16) * 257):
        assert bytes_hint(array, "photo") == bytes_hint(array).replace("pixels", "photo")
        assert "photo" in bytes_hint(array, "photo")


@pytest.mark.parametrize(
    ("pixels", "advice"),
    [
        (PIXELS[0], "pixels[None]"),
        (PIXELS.transpose(1, 2, 3, 0), ".transpose(3, 2, 0, 1)"),
        (PIXELS.reshape(5, -1), ".reshape(n, 3, height, width)"),
        (np.zeros((5, 8, 8, 4), np.uint8), "pixels[..., :3]"),
        (np.zeros((5, 4, 8, 8), np.uint8), "pixels[:, :3]"),
        (np.zeros((5, 3, 8, 3), np.uint8), "channels first or channels last"),
        (np.zeros((5, 8, 3, 9), np.uint8), ".transpose(3, 2, 0, 1)"),
        (np.zeros((5, 8, 1, 9), np.uint8), ".transpose(3, 2, 0, 1)"),
        ([PIXELS[0], PIXELS[1, :4]], "one array of one shape"),
    ],
)
def test_other_shapes_are_refused_with_advice(pixels: Any, advice: str) -> None:
    with pytest.raises(DataError) as refused:
        ImageSet.from_arrays(pixels, LABELS)
    assert advice in str(refused.value)


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0, 1], None, "expected 5, one per image"),
        (np.eye(5), None, "labels.argmax(1)"),
        ([0.0, 1, 0, 1, 1], None, ".astype('int64')"),
        ([0, 1, 0, 1, -1], None, "expected 0 or more"),
        ([0, 1, 0, 1, 2], ["a", "b"], "positions of 2 class names"),
        (list("abcab"), ["a", "b"], "no class 'c'"),
        ([0, 1, 0, 1, 1], ["a", "a"], "each name once, received 'a' 2 times"),
    ],
)
def test_labels_that_name_no_class_are_refused(labels: Any, names: Any, words: str) -> None:
    with pytest.raises(DataError) as refused:
        ImageSet.from_arrays(PIXELS, labels, names)
    assert words in str(refused.value)


def test_classes_in_another_order_keep_the_names_of_every_image() -> None:
    pixels = np.zeros((4, 3, 8, 8), dtype=np.uint8)
    ids, names, order = np.array(list("abcd")), ("ant", "bee", "cat"), ("cat", "ant", "bee")
    single = ImageSet(pixels, np.array([0, 1, 2, 1]), ids, names)
    turned = with_class_order(single, order)
    assert turned.class_names == order
    assert [turned.label_text(row) for row in range(4)] == ["ant", "bee", "cat", "bee"]
    masks = np.arange(3, dtype=np.uint8).reshape(1, 3, 1, 1) == np.zeros((4, 3, 8, 8))
    matrix = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]], dtype=bool)
    several = with_class_order(ImageSet(pixels, matrix, ids, names, masks=masks), order)
    assert [several.label_text(row) for row in range(4)] == [
        "ant, bee",
        "no label",
        "cat, bee",
        "ant",
    ]
    # Only the object of "ant", the first label, was marked.
    assert several.masks is not None and several.masks.all((0, 2, 3)).tolist() == [
        False,
        True,
        False,
    ]
    assert with_class_order(single, ("ant", "bee")) is single


@pytest.mark.parametrize("shape", [(), (5, 2, 1)])
def test_targets_are_one_row_or_one_number_per_image(shape: tuple[int, ...]) -> None:
    pixels, ids = np.zeros((5, 3, 8, 8), np.uint8), np.arange(5).astype(np.str_)
    with pytest.raises(DataError) as refused:
        ImageSet(pixels, np.zeros(shape, np.int64), ids, ("a", "b"))
    assert f"expected 5, one per image; received the shape {shape}" in str(refused.value)


@pytest.mark.parametrize("shape", [(5, 8, 9, 5), (5, 1, 3, 8, 9), (5,)])
def test_a_shape_that_says_nothing_gets_no_advice(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError) as refused:
        ImageSet.from_arrays(np.zeros(shape, np.uint8), LABELS)
    assert str(refused.value).endswith(f"received {shape}")


def test_a_column_of_labels_is_one_label_per_image() -> None:
    images = ImageSet.from_arrays(PIXELS, np.array(LABELS)[:, None])
    assert images.labels.tolist() == LABELS and not images.is_multi_label


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ids": ["a"] * 5}, "ids: expected a numpy array, received a list; use np.array"),
        ({"pixels": PIXELS}, "received uint8 (5, 8, 9, 3); move the channels with .transpose(0, 3"),
        ({"pixels": FIRST / 255}, "received float64 (5, 3, 8, 9); values 0 to 1 become 0 to 255"),
        ({"pixels": FIRST[0]}, "received uint8 (3, 8, 9)"),
        ({"pixels": FIRST[:, :2]}, "received uint8 (5, 2, 8, 9)"),
        ({"ids": np.array(list("abcd"))}, "ids: expected 5, one per image; received 4"),
        ({"ids": np.zeros((5, 1), str)}, "ids: expected 5, one per image; received the shape"),
        ({"targets": np.zeros(5, np.int32)}, "received int32; use .astype('int64')"),
        ({"targets": np.full(5, 2)}, "expected 0 to 1, the positions of 2 class names; received 2"),
        ({"targets": np.full(5, -1)}, "received -1 to -1"),
    ],
)
def test_an_image_set_of_wrong_parts_is_refused(changes: dict[str, Any], words: str) -> None:
    parts: dict[str, Any]
    parts = {"pixels": FIRST, "targets": np.zeros(5, np.int64), "ids": np.array(list("abcde"))}
    assert len(ImageSet(**parts, class_names=("a", "b"))) == 5
    with pytest.raises(DataError) as refused:
        ImageSet(**{**parts, **changes}, class_names=("a", "b"))
    assert words in str(refused.value)


@pytest.mark.parametrize("positions", [[0, 5], [-6, 0]])
def test_only_images_that_are_there_can_be_taken(positions: list[int]) -> None:
    images = ImageSet.from_arrays(PIXELS, LABELS)
    assert take(images, [4, -5]).ids.tolist() == ["0000004", "0000000"]
    with pytest.raises(DataError, match=f"0 to 4, received {positions[0]} to {positions[1]}"):
        take(images, positions)


def test_pixels_are_bytes_and_no_axis_of_an_image_is_empty() -> None:
    assert rgb_pixels(np.zeros((0, 8, 9, 3), np.uint8)).shape == (0, 3, 8, 9)
    for pixels in (PIXELS > 127, PIXELS.astype(np.int8), PIXELS.astype(np.uint16)):
        with pytest.raises(DataError, match=rf"in grey, .* received {pixels.dtype} \(5, 8, 9, 3\)"):
            rgb_pixels(pixels)
    for shape in ((5, 0, 9, 3), (5, 3, 8, 0), (5, 0, 9)):
        with pytest.raises(DataError, match=r"in grey, .* received"):
            rgb_pixels(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("labels", "names", "targets", "classes"),
    [
        (np.array([2, 0], np.uint8), None, [2, 0], ("0", "1", "2")),
        (np.array([True, False]), None, [1, 0], ("0", "1")),
        (np.array([], np.int64), None, [], ()),
        (np.array([], np.uint8), None, [], ()),
        (np.array([[True, False, True]]), None, [[True, False, True]], ("0", "1", "2")),
        (np.array([[3], [1]]), list("abcd"), [3, 1], ("a", "b", "c", "d")),
        # Whether there is such a class is asked of the image set.
        (np.array([2**62 - 1], np.uint64), ["a"], [2**62 - 1], ("a",)),
        (np.array([2**62]), ["a"], [2**62], ("a",)),
        (np.array(["b", "a"], object), ["b", "a"], [0, 1], ("b", "a")),
    ],
)
def test_labels_become_targets(
    labels: Any, names: Any, targets: list[Any], classes: tuple[str, ...]
) -> None:
    found, known = named_targets(labels, names)
    assert (found.tolist(), known) == (targets, classes)
    assert found.dtype == (np.bool_ if found.ndim == 2 else np.int64)


@pytest.mark.parametrize(
    ("labels", "received"),
    [
        (3, "received int64 ()"),
        (np.zeros((5, 1, 2), bool), "received bool (5, 1, 2)"),
        (np.zeros((5, 2, 2), bool), "received bool (5, 2, 2)"),
        (np.zeros((5, 2), np.int8), "received int8 (5, 2); for one label in each row pass "
         "labels.argmax(1), for any number of labels labels.astype(bool)"),
        (np.array([2**62], np.uint64), "received uint64; use .astype('int64') if they are "
         "positions of classes"),
        (np.array(["a", 1], object), "received object; use .astype('int64') if they are "
         "positions of classes"),
        (np.array([0, -2]), "expected 0 or more, received -2"),
    ],
)  # fmt: skip
def test_what_is_no_label_of_an_image_is_refused(labels: Any, received: str) -> None:
    with pytest.raises(DataError) as refused:
        named_targets(labels, None)
    assert str(refused.value).endswith(received)
