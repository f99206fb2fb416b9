"""Which shortcut is named first."""

from dataclasses import replace
from typing import Any

import pytest

from glasshouse.data.shapes import make_shapes
from glasshouse.evaluation.intervals import Interval
from glasshouse.explanation.shortcuts.class_cues import class_cues
from glasshouse.explanation.shortcuts.places import fixed_places
from glasshouse.explanation.shortcuts.proof import CueTest
from glasshouse.explanation.shortcuts.ranking import are_frames, ranked
from tests.explanation.shortcuts.test_words_and_numbers import cue_test
from tests.planted_cues import CueKind, plant


def one(kind: Any, name: str, loss: float, **other: Any) -> CueTest:
    test: CueTest = cue_test(kind, name, **other)
    lost = Interval(loss, 0, 1)
    return replace(test, effect=replace(test.effect, lost=lost), excess=Interval(0.9, 0, 1))


def order_of(tests: list[CueTest], *, is_frame: bool = False) -> tuple[CueTest, ...]:
    return ranked(tests, {"cat": 0.25}, is_frame=is_frame)


def test_of_shortcuts_of_about_the_same_strength_the_most_specific_comes_first() -> None:
    tag, tint = one("place", "corner", 0.4), one("tint", "colour", 0.5)
    assert order_of([tint, tag]) == (tag, tint)
    weak = one("place", "corner", 0.39)
    assert order_of([tint, weak]) == (tint, weak)
    assert order_of([replace(tag, is_used=False)]) == ()
    own, more = (one("place", "edge", loss, subject="of") for loss in (0.2, 0.3))
    assert order_of([own, more]) == (more,) and order_of([more, own]) == (more,)
    everyone = one("place", "edge", 0.1)
    assert order_of([more, everyone]) == (everyone,) and order_of([everyone, more]) == (everyone,)
    by_excess = replace(tag, excess=Interval(0.1, 0, 1))
    assert order_of([by_excess, tint]) == (tint, by_excess)


def test_a_loss_of_one_class_counts_as_its_share_of_all_images() -> None:
    one_class = one("place", "bottom edge", 0.8, subject="of")
    tint = one("tint", "overall colour", 0.3)
    assert order_of([one_class, tint]) == (tint, one_class)
    slight = one("tint", "overall colour", 0.19)
    assert order_of([one_class, slight]) == (one_class, slight)


def test_a_border_that_is_used_is_named_before_the_pattern_around_the_images() -> None:
    border, pattern = one("place", "border", 0.3), one("pattern", "fixed pattern", 0.8)
    edge = one("place", "left edge", 0.6)
    assert order_of([pattern, edge, border], is_frame=True) == (border, pattern, edge)
    assert order_of([pattern, edge, border]) == (pattern, edge, border)
    assert order_of([pattern, edge], is_frame=True) == (pattern, edge)
    assert order_of([], is_frame=True) == ()


def test_a_background_is_named_first_where_nothing_in_it_explains_half_of_its_loss() -> None:
    background = one("background", "background", 0.8)
    half, less = (one("tint", "overall colour", loss) for loss in (0.42, 0.3))
    assert order_of([background, half]) == (half, background)
    assert order_of([background, less]) == (background, less)


@pytest.mark.parametrize(
    ("kind", "is_frame"),
    [("border", True), ("text", False), ("tag", False), ("tint", False), (None, False)],
)
def test_only_a_border_puts_patterns_around_the_images(
    kind: CueKind | None, is_frame: bool
) -> None:
    images = make_shapes("train", 80)
    cues = class_cues(plant(images, kind, 0.4) if kind else images)
    assert are_frames(cues, fixed_places(images.height, images.width)) == is_frame
