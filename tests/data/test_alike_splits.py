"""Splits that differ in size, classes or kind of labels are named with what differs."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from glasshouse.data.alike_splits import require_alike_splits, require_same_labels
from glasshouse.data.images import ImageSet, take
from glasshouse.errors import DataError
from tests.conftest import make_images

NAMES = make_images(4).class_names


def in_other_order(images: ImageSet) -> ImageSet:
    return replace(images, class_names=(*NAMES[1:], NAMES[0]))


def with_other_class(images: ImageSet) -> ImageSet:
    return replace(images, class_names=(*NAMES[:3], "centre"))


def with_one_class_more(images: ImageSet) -> ImageSet:
    return replace(images, class_names=(*NAMES, "centre"))


def with_a_name_twice(images: ImageSet) -> ImageSet:
    return replace(images, class_names=(*NAMES, NAMES[0]))


def with_several_labels(images: ImageSet) -> ImageSet:
    return replace(images, targets=np.eye(4, dtype=bool)[images.labels])


def narrower(images: ImageSet) -> ImageSet:
    return replace(images, pixels=np.ascontiguousarray(images.pixels[..., :12]))


Change = Callable[[ImageSet], ImageSet]
CHANGES: list[tuple[Change, str]] = [
    (in_other_order, "label 0 is north-west in the training and north-east in the {} split"),
    (
        with_other_class,
        "only the training split has south-east, and only the {} split has centre",
    ),
    (with_one_class_more, "have different classes: only the {} split has centre"),
    (with_a_name_twice, "have different classes: they list 4 and 5 names"),
    (with_several_labels, "of the {} split may have several labels, but one of the training split"),
    (narrower, "of the training split are 16x16, but those of the {} split 16x12: bring all"),
]


def named(images: ImageSet) -> dict[str, ImageSet]:
    return dict.fromkeys(("training", "validation", "test"), images)


@pytest.mark.parametrize("changed", ["validation", "test"])
@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_two_splits_and_what_differs_are_named(change: Change, words: str, changed: str) -> None:
    splits = named(make_images(8))
    require_alike_splits(*splits.values())
    splits[changed] = change(splits[changed])
    with pytest.raises(DataError) as refused:
        require_alike_splits(*splits.values())
    assert words.format(changed) in str(refused.value)
    # Either way around, it is the same difference.
    with pytest.raises(DataError):
        require_alike_splits(splits[changed], splits["training"])


@pytest.mark.parametrize(("change", "words"), CHANGES[:4])
def test_other_classes_are_answered_with_the_argument_that_makes_them_alike(
    change: Change, words: str
) -> None:
    images = make_images(8)
    with pytest.raises(DataError, match=r"from_arrays\(pixels, labels, class_names=\[...\]\)"):
        require_alike_splits(images, change(images))


@pytest.mark.parametrize("change", [change for change, _ in CHANGES])
@pytest.mark.parametrize("empty", ["training", "validation", "test"])
def test_a_split_without_images_may_be_of_any_kind(change: Change, empty: str) -> None:
    splits = named(make_images(8))
    splits[empty] = take(change(splits[empty]), [])
    require_alike_splits(*splits.values())


def test_of_many_other_classes_the_first_are_named() -> None:
    images = make_images(4)
    many = replace(images, class_names=(*NAMES, *map(str, range(7))))
    with pytest.raises(DataError, match=r"split has 0, 1, 2, 3, 4 and 2 more\. Give both"):
        require_same_labels(("training", images), ("validation", many))
