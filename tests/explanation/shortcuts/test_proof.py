"""What is called a shortcut, and what is not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glasshouse.data.shapes import make_shapes
from glasshouse.evaluation.intervals import Interval
from glasshouse.evaluation.paired_effects import Effect
from glasshouse.explanation.shortcuts.cue_only import CueOnly, _numbers
from glasshouse.explanation.shortcuts.proof import CueTest, _judged, _moves
from glasshouse.explanation.shortcuts.suspicion import MapShare

NOTHING = CueOnly(0.5, 0.5, np.zeros(2))
EVERYTHING = CueOnly(1.0, 0.5, np.ones(2))


def judged(alone: CueOnly = NOTHING, *, p: float = 0.01, **changed: object) -> bool:
    loss = Interval(0.1, 0.05, 0.15)
    effect = Effect(100, 0.8, 0.9, loss, loss, p, p)
    test = CueTest("top edge", "place", "all", "", effect, loss)
    return _judged(replace(test, **changed), ("a", "b"), alone).is_used  # type: ignore[arg-type]


def test_a_loss_is_a_shortcut_only_where_it_is_significant_and_not_small() -> None:
    assert judged()
    assert not judged(p=0.06)
    assert not judged(excess=Interval(0.1, -0.01, 0.2))
    assert judged(excess=Interval(0.1, np.float64(-0.01), 0.2)) is False  # as JSON has it
    assert not judged(excess=Interval(0.03, 0.01, 0.05))


def test_what_moves_with_the_object_is_a_part_of_it_and_no_shortcut() -> None:
    assert judged(EVERYTHING, motion=0.2)
    assert not judged(EVERYTHING, motion=0.4)


@pytest.mark.parametrize("name", ["tint", "border"])
def test_colours_and_borders_must_tell_more_than_those_of_natural_images(name: str) -> None:
    kind = "tint" if name == "tint" else "place"
    assert not judged(name=name, kind=kind)
    assert judged(EVERYTHING, name=name, kind=kind)


def test_a_single_class_must_lose_more_and_its_cue_must_tell_it() -> None:
    one: dict[str, Any] = {"subject": "of", "class_name": "b"}
    assert not judged(EVERYTHING, **one)
    assert not judged(EVERYTHING, **one, excess=Interval(0.3, 0.2, 0.4))
    loss = Interval(0.3, 0.2, 0.4)
    effect = Effect(100, 0.6, 0.9, loss, loss, 0.01, 0.01)
    large: dict[str, Any] = {**one, "effect": effect, "excess": loss}
    assert judged(EVERYTHING, **large)
    assert not judged(NOTHING, **large)
    assert judged(NOTHING, **large, kind="background")


def test_answers_that_move_are_told_apart_by_the_cue_of_where_they_move_to() -> None:
    images = make_shapes("validation", 10)
    logits = np.eye(10, dtype=np.float32)[images.labels]
    alike = np.zeros((10, 10), dtype=bool)
    alike[:, 3] = True
    moved = np.eye(10, dtype=np.float32)[np.where(images.labels < 5, 3, 7)]
    fooled, elsewhere = _moves(images, moved, logits, alike)
    np.testing.assert_array_equal(fooled, (images.labels < 5) & (images.labels != 3))
    np.testing.assert_array_equal(elsewhere, (images.labels >= 5) & (images.labels != 7))


def test_a_place_is_suspicious_from_twice_its_area_on() -> None:
    share = MapShare("border", "", Interval(0.5, 0.41, 0.6), 0.2, 100)
    assert share.is_suspicious
    assert not replace(share, area=0.21).is_suspicious


def test_the_levels_of_a_place_are_five_percentiles_of_each_colour() -> None:
    pixels = np.zeros((1, 3, 10, 20), dtype=np.uint8)
    mask = np.zeros((10, 20), dtype=bool)
    mask[:, :10] = True
    pixels[0, :, mask] = np.stack([np.arange(100), np.arange(100) + 100, np.full(100, 7)], 1)
    cues: Any = None
    found = _numbers(pixels, cues, "tint", mask).reshape(5, 3)
    levels = np.percentile(np.arange(100), (2, 25, 50, 75, 98))
    # Each is moved by half a level at most.
    by_colour = np.stack([levels, levels + 100, np.full(5, 7)], 1)
    assert np.abs(found - by_colour).max() <= 0.5
