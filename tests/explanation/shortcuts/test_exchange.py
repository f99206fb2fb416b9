"""Exchanges of written-down cues, whose direction is known."""

import numpy as np
import pytest

from glasshouse.data.images import ImageSet
from glasshouse.data.shapes import make_shapes
from glasshouse.explanation.shortcuts.class_cues import ClassCues
from glasshouse.explanation.shortcuts.exchange import Donors, Exchange, choose_donors, exchanges


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return make_shapes("validation", 60)


@pytest.fixture(scope="module")
def donors(images: ImageSet) -> Donors:
    return choose_donors(images)


@pytest.fixture(scope="module")
def found(images: ImageSet, donors: Donors) -> dict[str, Exchange]:
    steps = np.arange(10, dtype=np.float32)
    patterns = np.zeros((10, 3, images.height, images.width), np.float32)
    patterns[:, :, 0, 0] = 4 * steps[:, None]
    qualities = np.where(steps % 2 == 0, 100, 20)
    colours = np.repeat(steps[:, None], 3, axis=1)
    cues = ClassCues(patterns, colours, qualities, np.zeros(3, np.float32))
    return {each.kind: each for each in exchanges(images, cues, donors, ())}


def test_colours_become_those_of_the_other_class_and_go_the_other_way_as_a_control(
    images: ImageSet, donors: Donors, found: dict[str, Exchange]
) -> None:
    step = (donors.classes - images.labels)[:, None, None, None]
    before, tint = images.pixels.astype(int), found["tint"]
    assert tint.control is not None
    np.testing.assert_array_equal(tint.changed(), np.clip(before + step, 0, 255))
    np.testing.assert_array_equal(tint.control(), np.clip(before - step, 0, 255))


def test_patterns_become_those_of_the_other_class_and_move_as_a_control(
    images: ImageSet, donors: Donors, found: dict[str, Exchange]
) -> None:
    step = 4 * (donors.classes - images.labels)[:, None]
    middle = images.height // 2, images.width // 2
    pattern = found["pattern"]
    assert pattern.control is not None
    for place, changed in (((0, 0), pattern.changed()), (middle, pattern.control())):
        before = images.pixels[:, :, place[0], place[1]].astype(int)
        after = changed[:, :, place[0], place[1]]
        np.testing.assert_array_equal(after, np.clip(before + step, 0, 255))
        assert (changed != images.pixels).sum() <= 3 * len(images)


def test_backgrounds_are_those_of_the_donors_and_objects_stay(
    images: ImageSet, donors: Donors, found: dict[str, Exchange]
) -> None:
    assert images.masks is not None and found["background"].control is not None
    swaps = (
        (found["background"].changed(), donors.other),
        (found["background"].control(), donors.same),
    )
    for changed, rows in swaps:
        both = np.repeat((~images.masks & ~images.masks[rows])[:, None], 3, axis=1)
        own = np.repeat(images.masks[:, None], 3, axis=1)
        np.testing.assert_array_equal(changed[both], images.pixels[rows][both])
        np.testing.assert_array_equal(changed[own], images.pixels[own])


def test_images_are_only_compressed_from_better_to_worse(
    images: ImageSet, donors: Donors, found: dict[str, Exchange]
) -> None:
    rows = found["compression"].rows
    np.testing.assert_array_equal(rows, (images.labels % 2 == 0) & (donors.classes % 2 == 1))
    changed = found["compression"].changed()
    np.testing.assert_array_equal((changed != images.pixels).any(axis=(1, 2, 3)), rows)
