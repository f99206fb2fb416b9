"""What is called a shortcut, and what is not."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glasshouse.data.shapes import make_shapes
from glasshouse.evaluation.intervals import Interval
from glasshouse.evaluation.paired_effects import Effect
from glasshouse.explanation.shortcuts import suspicion
from glasshouse.explanation.shortcuts.cue_only import CueOnly, _numbers
from glasshouse.explanation.shortcuts.exchange import Donors, Exchange
from glasshouse.explanation.shortcuts.proof import (
    CueTest,
    _groups,
    _judged,
    _moves,
    measure_exchange,
)
from glasshouse.explanation.shortcuts.suspicion import MapShare
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.predict import logits_of

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


def test_a_cue_that_another_test_shows_to_be_artificial_needs_not_tell_more() -> None:
    loss = Interval(0.1, 0.05, 0.15)
    border = CueTest("border", "place", "all", "", Effect(100, 0.8, 0.9, loss, loss, 0, 0), loss)
    assert not _judged(border, ("a", "b"), NOTHING).is_used
    assert _judged(border, ("a", "b"), NOTHING, {"border"}).is_used
    assert not _judged(border, ("a", "b"), NOTHING, {"overall colour"}).is_used
    small = replace(border, excess=Interval(0.03, 0.01, 0.05))
    assert not _judged(small, ("a", "b"), NOTHING, {"border"}).is_used


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


class Means(nn.Module):
    """Logits of ten classes: high for the class that the first pixel names."""

    def forward(self, x: Tensor) -> Tensor:
        named = torch.arange(10) - x[:, :1, 0, 0]
        return -named.square()


def test_an_exchange_is_measured_by_answers_or_by_where_they_move_to() -> None:
    images = make_shapes("validation", 10)
    rows = np.ones(10, dtype=np.bool_)

    def naming(classes: Any) -> Any:
        pixels = images.pixels.copy()
        pixels[:, 0, 0, 0] = classes
        return pixels

    classifier = Classifier(
        Means(), Preprocessing(images.height, images.width, mean=(0.0,) * 3, std=(1 / 255,) * 3),
        images.class_names,
    )  # fmt: skip
    alike = np.zeros((10, 10), dtype=np.bool_)
    alike[:, 3] = True
    unchanged = logits_of(classifier, naming(images.labels))
    np.testing.assert_array_equal(unchanged.argmax(1), images.labels)
    given = np.where(images.labels < 5, 3, 7)
    plain = Exchange("tag", "place", lambda: naming(given), lambda: naming(images.labels), rows)
    found = measure_exchange(classifier, images, plain, unchanged, alike)
    np.testing.assert_array_equal(found.logits.argmax(1), given)
    np.testing.assert_array_equal(found.changed.hits, given == images.labels)
    assert found.control.hits.all()
    # Without a control, what counts as kept is what did not move to a class of the same cue.
    found = measure_exchange(classifier, images, replace(plain, control=None), unchanged, alike)
    np.testing.assert_array_equal(found.changed.hits, (images.labels >= 5) | (images.labels == 3))
    np.testing.assert_array_equal(found.control.hits, (images.labels < 5) | (images.labels == 7))
    own = np.arange(10), images.labels
    np.testing.assert_allclose(
        found.control.shares, classifier.to_probabilities(unchanged)[own], rtol=1e-6
    )
    np.testing.assert_allclose(
        found.changed.shares, classifier.to_probabilities(found.logits)[own], rtol=1e-6
    )


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


def test_a_loss_is_tested_for_all_and_for_each_class_that_has_twenty_images() -> None:
    # Twenty of a, 19 of b, 21 of c; each gets the cue of the next class.
    labels = np.repeat([0, 1, 2], [20, 19, 21])
    images = replace(
        make_shapes("validation", 60), targets=labels, class_names=("a", "b", "c"), masks=None
    )
    none = np.zeros(60, dtype=np.int64)
    donors = Donors(none, none, (labels + 1) % 3)
    rows = np.ones(60, dtype=np.bool_)
    found = {(subject, name): own for subject, name, own in _groups(images, donors, rows)}
    assert list(found) == [("all", ""), ("of", "a"), ("given", "a"), ("given", "b"), ("of", "c")]
    np.testing.assert_array_equal(found["of", "a"], labels == 0)
    np.testing.assert_array_equal(found["given", "b"], labels == 0)
    np.testing.assert_array_equal(found["of", "c"], labels == 2)
    rows[0] = False
    assert ("of", "a") not in {each[:2] for each in _groups(images, donors, rows)}
    two = replace(images, targets=labels % 2, class_names=("a", "b"))
    assert [each[:2] for each in _groups(two, donors, rows)] == [("all", "")]
    assert not list(_groups(images, donors, np.arange(60) < 19))
    assert list(_groups(two, donors, np.arange(60) < 20))


def test_the_share_of_a_map_is_what_lies_at_a_place_and_beside_the_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = np.arange(32.0).reshape(2, 4, 4)
    drawn[:, 0] = -3  # what speaks against the class counts nothing
    page = SimpleNamespace(explanations=(None,))
    monkeypatch.setattr(suspicion, "explain_page", lambda *_, **__: page)
    monkeypatch.setattr(suspicion, "shown", lambda _: drawn)
    left, objects = np.zeros((4, 4), np.bool_), np.zeros((3, 4, 4), np.bool_)
    left[:, :2] = objects[1:, 2:] = True
    images: Any = SimpleNamespace(pixels=np.zeros(3), labels=np.zeros(3), masks=objects)
    places: Any = [SimpleNamespace(mask=left)]
    found = suspicion._shares(None, images, slice(1, 3), places)  # type: ignore[arg-type]
    lower = drawn[:, 1:]
    expected = [lower[:, :, :2].sum((1, 2)), lower[:, :1].sum((1, 2))]
    np.testing.assert_allclose(found, np.transpose(expected) / lower.sum((1, 2))[:, None])
