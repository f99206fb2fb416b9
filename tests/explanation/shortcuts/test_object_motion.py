"""Aligned objects move a little from image to image; what was planted does not."""

import numpy as np
import pytest

from glasshouse.data.images import ImageSet, take
from glasshouse.data.shapes import make_shapes
from glasshouse.data.sources import load_splits
from glasshouse.explanation.shortcuts.object_motion import MOVES, object_motions
from glasshouse.explanation.shortcuts.places import fixed_places
from glasshouse.settings import DataSettings
from tests.planted_cues import CueKind, plant


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load_splits("digits", DataSettings(image_size=16)).train


def motions(images: ImageSet) -> dict[str, float]:
    places = {place.name: place.mask for place in fixed_places(images.height, images.width)}
    everywhere = np.ones((images.height, images.width), dtype=bool)
    return object_motions(images, {**places, "fixed pattern": everywhere})


def test_scanned_digits_are_aligned_objects_and_their_pattern_is_no_cue(digits: ImageSet) -> None:
    found = motions(digits)
    assert found["fixed pattern"] > 2 * MOVES
    assert found["bottom edge"] >= MOVES
    assert found["top left corner"] < MOVES


@pytest.mark.parametrize(
    ("kind", "name"),
    [("text", "fixed pattern"), ("tag", "top left corner"), ("border", "border")],
)
def test_what_is_planted_in_images_whose_objects_are_anywhere_does_not_move(
    kind: CueKind, name: str
) -> None:
    assert motions(plant(make_shapes("train", 400), kind, 0.4))[name] < MOVES


def test_a_tag_on_aligned_objects_is_told_apart_from_them(digits: ImageSet) -> None:
    found = motions(plant(digits, "tag", 0.7))
    assert found["top left corner"] < MOVES < found["fixed pattern"]


def test_too_few_images_say_nothing(digits: ImageSet) -> None:
    assert set(motions(take(digits, np.arange(40))).values()) == {0.0}
