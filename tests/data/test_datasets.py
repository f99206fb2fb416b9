import io
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
)
from torchvision.transforms.v2 import functional as transforms

from glasshouse.data.datasets import _bytes_of, from_dataset, image_rows
from glasshouse.data.fitting import fit_to_size
from glasshouse.errors import BadImage, DataError, GlasshouseWarning, UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
FIRST = PIXELS.transpose(0, 3, 1, 2)
LABELS = [0, 1, 1, 0, 1, 0]


class Photos(Dataset[Any]):
    """As torchvision's: pairs of a Pillow image and a number; never raises IndexError."""

    classes = ("cat", "dog")

    def __init__(self, transform: Any = lambda image: image) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, position: int) -> Any:
        place = position % len(PIXELS)
        return self.transform(Image.fromarray(PIXELS[place])), LABELS[place]


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter((FIRST[i], LABELS[i]) for i in range(6))


class ClassLabel:
    def __init__(self, names: list[str]) -> None:
        self.names = names


class Rows:
    """The part of the interface of Hugging Face's Dataset that matters here."""

    def __init__(self, rows: list[dict[str, Any]], features: dict[str, Any]) -> None:
        self.rows, self.features, self.split = rows, features, "train"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.rows[position]


def hugging_face(name: str = "image", image: Any = Image.fromarray, **more: Any) -> Rows:
    kinds = {name: type("Image", (), {})(), "label": ClassLabel(["cat", "dog"])}
    rows = [{name: image(p), "label": n, **more} for p, n in zip(PIXELS, LABELS, strict=True)]
    return Rows(rows, {**kinds, **{key: object() for key in more}})


def as_file(pixels: Any) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def tensors(pixels: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(pixels))


@pytest.mark.parametrize(
    "dataset",
    [
        Photos(),
        Photos(transforms.pil_to_tensor),
        Photos(lambda image: transforms.to_dtype(transforms.to_image(image), scale=True)),
        Photos(
            lambda image: transforms.to_dtype(transforms.to_image(image), torch.float16, scale=True)
        ),
        TensorDataset(tensors(FIRST), torch.tensor(LABELS)),
        Streamed(),
        hugging_face(),
        hugging_face("img", np.asarray, caption="an animal"),
        hugging_face("photo", as_file),
        [(image, np.int32(label)) for image, label in zip(PIXELS, LABELS, strict=True)],
        # An Array3D of Hugging Face, whatever its type.
        hugging_face("pixels", lambda image: np.asarray(image).tolist()),
    ],
)
def test_a_dataset_becomes_its_own_pixels_and_labels(dataset: Any) -> None:
    images = from_dataset(dataset)
    assert np.array_equal(images.pixels, FIRST)
    assert images.labels.tolist() == LABELS
    assert len(set(images.ids)) == 6


@pytest.mark.parametrize(
    "dataset",
    [
        Photos(),
        hugging_face(),
        Subset(Photos(), [0, 1]),
        ConcatDataset([Photos(), Subset(Photos(), [3])]),
    ],
)
def test_class_names_are_those_that_the_dataset_declares(dataset: Any) -> None:
    assert from_dataset(dataset).class_names == ("cat", "dog")
    assert from_dataset(dataset, class_names=["a", "b", "c"]).class_names == ("a", "b", "c")


def test_class_names_are_found_after_a_transform_renamed_the_column() -> None:
    rows = hugging_face()
    rows.rows = [{"pixel_values": row["image"], "labels": row["label"]} for row in rows.rows]
    assert from_dataset(rows).class_names == ("cat", "dog")


def test_images_of_several_sizes_are_brought_to_one() -> None:
    rows = [(PIXELS[0], 0), (PIXELS[1, :5], 1)]
    with pytest.raises(DataError, match=r"row 1 has 5x9 pixels, and row 0 has 8x9: .*image_size"):
        from_dataset(rows)
    images = from_dataset(rows, image_size=6, resize="stretch")
    assert np.array_equal(images.pixels[1], fit_to_size(PIXELS[1, :5], 6, 6, "stretch"))


@pytest.mark.parametrize(
    "image", [FIRST[0] / 255.0 - 0.5, np.full((3, 8, 9), np.nan), FIRST[0].astype(np.int64)]
)
def test_values_whose_range_is_a_guess_are_refused(image: Any) -> None:
    with pytest.raises(DataError, match="row 1: "):
        from_dataset([(FIRST[0], 0), (image, 1)])


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ({"train": hugging_face(), "test": hugging_face()}, r"dataset\['train'\]"),
        (DataLoader(Photos()), r"from_dataset\(loader\.dataset\)"),
        (7, "received an int"),
        ([(FIRST[0], 0, 1)], "received 3 values"),
        ([FIRST[0]], "received ndarray"),
        ([{"left": FIRST[0], "right": FIRST[0]}], r"which column is the image\?.*image="),
        ([{"image": FIRST[0], "coarse": 1, "fine": 2}], r"which column is the label\?.*label="),
    ],
)
def test_what_is_no_dataset_is_refused_with_advice(dataset: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_dataset(dataset)


def test_columns_may_be_named() -> None:
    rows = [{"left": FIRST[i], "right": FIRST[0], "kind": LABELS[i]} for i in range(6)]
    images = from_dataset(rows, image="left", label="kind")
    assert np.array_equal(images.pixels, FIRST) and images.labels.tolist() == LABELS
    with pytest.raises(UsageError, match="no column 'kid'; it has left, right, kind"):
        from_dataset(rows, image="left", label="kid")


@pytest.mark.parametrize("label", [-1, 0.5, None, [0, 1], np.eye(2)])
def test_a_row_without_one_label_is_refused(label: Any) -> None:
    with pytest.raises(DataError, match="row 1: "):
        from_dataset([(FIRST[0], 0), (FIRST[1], label)])


def test_joined_datasets_must_declare_the_same_classes() -> None:
    other = SimpleNamespace(classes=("dog", "cat"), datasets=None)
    joined: Any = ConcatDataset([Photos(), Photos()])
    joined.datasets[1] = other
    joined.cumulative_sizes = [6]
    with pytest.raises(UsageError, match="declare different classes"):
        from_dataset(joined)


class Sequence:
    """As Hugging Face declares a column of lists."""

    def __init__(self, feature: Any) -> None:
        self.feature = feature


SEVERAL = [[0], [0, 2], [], [1], [2, 1, 0], [2]]
MATRIX = np.array([[n in row for n in range(3)] for row in SEVERAL])
ANIMALS = ["cat", "dog", "owl"]


def with_lists(lists: list[Any], feature: Any, column: str = "labels") -> Rows:
    rows = [{"image": Image.fromarray(p), column: n} for p, n in zip(PIXELS, lists, strict=True)]
    return Rows(rows, {"image": type("Image", (), {})(), column: feature})


def test_a_column_of_lists_of_labels_gives_several_labels_per_image() -> None:
    for feature in (Sequence(ClassLabel(ANIMALS)), [ClassLabel(ANIMALS)]):
        images = from_dataset(with_lists(SEVERAL, feature, "objects"))
        assert images.class_names == tuple(ANIMALS)
        assert images.is_multi_label and np.array_equal(images.targets, MATRIX)
    one_each = from_dataset(with_lists([[n] for n in LABELS], Sequence(ClassLabel(ANIMALS))))
    assert one_each.is_multi_label
    assert one_each.targets.tolist() == np.eye(3, dtype=bool)[LABELS].tolist()


def test_lists_of_names_give_several_labels_per_image() -> None:
    names = [[ANIMALS[n] for n in row] for row in SEVERAL]
    images = from_dataset(with_lists(names, object()))
    assert images.class_names == tuple(ANIMALS) and np.array_equal(images.targets, MATRIX)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.float32])
def test_vectors_of_zeros_and_ones_give_several_labels_per_image(dtype: torch.dtype) -> None:
    vectors = torch.from_numpy(MATRIX).to(dtype)
    images = from_dataset(TensorDataset(torch.from_numpy(FIRST), vectors), class_names=ANIMALS)
    assert images.class_names == tuple(ANIMALS) and np.array_equal(images.targets, MATRIX)
    with pytest.raises(DataError, match="3"):
        from_dataset(TensorDataset(torch.from_numpy(FIRST), vectors), class_names=["a", "b"])


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ([[0, 1], [1, 0]] * 3, "two positions or a vector of two classes"),
        ([[0, 2, 2]] * 6, "row 0: expected different labels"),
        ([[0.5, 1.0]] * 6, "row 0: expected one label"),
        ([[[0, 1], [1, 0]]] * 6, "row 0: expected one label"),
        ([[0, -1]] * 6, "stands for a missing one"),
    ],
)
def test_lists_that_may_mean_something_else_are_refused(lists: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        from_dataset(with_lists(lists, object()))


def test_a_list_of_rows_of_different_lengths_is_no_image() -> None:
    with pytest.raises(BadImage, match="row 3: cannot be read as an array"):
        image_rows([[1, 2], [3]], "row 3")


def test_pillow_images_that_use_few_of_their_values_are_named_once_for_all() -> None:
    ramp = np.arange(72, dtype=np.int32).reshape(8, 9)
    images = [Image.fromarray(each) for each in (ramp * 900, ramp, ramp + 1, PIXELS[0])]
    rows = [(image.convert("RGB") if k == 3 else image, 0) for k, image in enumerate(images)]
    with pytest.warns(GlasshouseWarning, match="2 images with few grey levels: row 1 ") as caught:
        from_dataset(rows, class_names=["a"])
    assert len(caught) == 1 and "row 2 (values 1 to 72 of 65,535)" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_dataset([rows[0], rows[3]], class_names=["a"])


def test_only_values_of_bytes_divided_by_255_become_bytes() -> None:
    whole = np.array([0.0, 1 / 255, 1.0])
    assert _bytes_of(whole, "row 0").tolist() == [0, 1, 255]
    for other in (np.array([-1 / 255]), np.array([256 / 255]), np.array([0.5 / 255])):
        assert _bytes_of(other, "row 0") is other
    almost = np.array([0.12 / 255, 1.88 / 255])
    assert _bytes_of(almost, "row 0").tolist() == [0, 2]
    assert _bytes_of(np.array([0.14 / 255]), "row 0").dtype == np.float64
