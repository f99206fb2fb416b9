"""Networks whose cue is known, because they are written down and not trained."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glasshouse.data.images import ImageSet
from glasshouse.data.shapes import make_shapes
from glasshouse.errors import DataError
from glasshouse.evaluation.compare import holm
from glasshouse.explanation.shortcuts.class_cues import UNCOMPRESSED, jpeg_quality
from glasshouse.explanation.shortcuts.exchange import choose_donors
from glasshouse.explanation.shortcuts.find import Shortcuts, find_shortcuts
from glasshouse.explanation.shortcuts.interventions import (
    blur_surroundings,
    compress,
    low_pass,
    without_colour,
)
from glasshouse.explanation.shortcuts.places import fixed_places
from glasshouse.explanation.shortcuts.verdict import shortcut_verdict, shortcuts_as_json
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import predict
from glasshouse.models.preprocessing import Preprocessing
from tests.planted_cues import class_colour, plant


class ReadsColour(nn.Module):
    """Answers with the class whose colour a region has on average."""

    def __init__(self, rows: slice, columns: slice) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        colours = np.stack([class_colour(label) for label in range(10)])
        self.colours = nn.Parameter(torch.from_numpy(colours) / 255)

    def forward(self, images: Tensor) -> Tensor:
        mean = images[:, :, self.rows, self.columns].mean(dim=(2, 3))
        distance: Tensor = ((mean[:, None] - self.colours[None]) ** 2).sum(dim=2)
        return -50 * distance


def classifier(net: nn.Module, images: ImageSet) -> Classifier:
    plain = Preprocessing(height=32, width=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return Classifier(net.eval(), plain, images.class_names)


def found_in(kind: str, net: nn.Module) -> Shortcuts:
    train, held_out = (make_shapes(split, 200) for split in ("train", "validation"))
    if kind != "clean":
        train, held_out = (plant(each, kind, 1.0) for each in (train, held_out))  # type: ignore[arg-type]
    return find_shortcuts(classifier(net, held_out), held_out, train)


def test_a_network_that_reads_a_tag_is_found_with_its_corner() -> None:
    found = found_in("tag", ReadsColour(slice(1, 6), slice(1, 6)))
    assert found.accuracy == 1
    assert found.used[0].name == "top left corner"
    assert found.used[0].effect.control == 1
    assert found.used[0].effect.accuracy < 0.05
    assert "uses a shortcut: the top left corner" in shortcut_verdict(found)
    examples = found.examples["top left corner"]
    assert examples
    assert all(each.answer == each.label != each.answer_after == each.given for each in examples)


def test_a_network_that_reads_a_border_is_found_with_the_border() -> None:
    found = found_in("border", ReadsColour(slice(0, 2), slice(None)))
    assert found.used[0].name == "border"


def test_a_tag_that_the_network_does_not_read_is_no_shortcut_of_it() -> None:
    found = found_in("tag", ReadsColour(slice(12, 20), slice(12, 20)))
    assert found.used == ()
    assert found.alone["top left corner"].accuracy > 0.9
    # It guesses: what it does not use must not sound like an acquittal.
    assert shortcut_verdict(found).startswith("Nothing can be said: only 10 % of 200")


def test_a_network_that_guesses_is_not_accused() -> None:
    found = found_in("clean", ReadsColour(slice(1, 6), slice(1, 6)))
    assert found.used == ()
    assert shortcuts_as_json(found)["is_found"] is False


def test_what_is_taken_away_is_compared_with_an_equal_place_or_with_the_unchanged_image() -> None:
    images = plant(make_shapes("validation", 200), "tag", 1.0)
    assert images.masks is not None
    reader = classifier(ReadsColour(slice(1, 6), slice(1, 6)), images)
    found = find_shortcuts(reader, images, plant(make_shapes("train", 80), "tag", 1.0))
    unchanged = predict(reader, images).logits.argmax(axis=1) == images.labels
    whole = {
        "removing colour": without_colour(images.pixels),
        "blurring (sigma 0.8 pixels)": low_pass(images.pixels, 0.8),
        "compressing as JPEG of quality 30": compress(images.pixels, 30),
        "blurring the surroundings": blur_surroundings(images.pixels, images.masks, 2.4),
    }
    removals = {each.name: each for each in found.removals}
    places = {place.name: place for place in fixed_places(32, 32)}
    assert list(removals) == [*(f"covering the {name}" for name in places), *whole]
    for name, pixels in whole.items():
        changed = predict(reader, replace(images, pixels=pixels)).logits.argmax(axis=1)
        assert removals[name].control == "the unchanged image"
        assert removals[name].effect.control == unchanged.mean()
        assert removals[name].effect.accuracy == (changed == images.labels).mean()
    for name, place in places.items():
        other = removals[f"covering the {name}"].control.removeprefix("covering the ")
        assert other == (place.controls or ("the unchanged image",))[-1]
        # The network reads the tag, of which the border covers too little to matter.
        tagged = ("top left corner", "top edge", "left edge")
        effect = removals[f"covering the {name}"].effect
        assert (effect.accuracy < unchanged.mean()) == (name in tagged)
        assert (effect.control < unchanged.mean()) == (other in tagged)
    p_values = [each.effect.p for each in found.removals]
    assert [each.effect.p_adjusted for each in found.removals] == holm(p_values)


def test_donors_are_other_images_of_the_same_and_of_another_class() -> None:
    images = make_shapes("validation", 60)
    donors = choose_donors(images)
    assert (images.labels[donors.same] == images.labels).all()
    assert (donors.same != np.arange(60)).all()
    assert (images.labels[donors.other] == donors.classes).all()
    assert (donors.classes != images.labels).all()


@pytest.mark.parametrize("quality", [8, 15, 40, 60])
def test_the_quality_that_images_were_compressed_with_is_read_from_their_pixels(
    quality: int,
) -> None:
    images = make_shapes("train", 30).pixels
    assert jpeg_quality(images) == UNCOMPRESSED
    assert abs(jpeg_quality(compress(images, quality)) - quality) <= 2


def test_equal_places_have_equal_areas() -> None:
    places = {place.name: place for place in fixed_places(40, 60)}
    for place in places.values():
        for other in place.controls:
            assert places[other].controls
            assert places[other].area == pytest.approx(place.area, rel=0.6)
    assert places["top left corner"].mask[:10, :10].all()
    assert places["top left corner"].mask.sum() == 100


def test_images_of_other_classes_or_of_another_size_are_refused() -> None:
    images = make_shapes("validation", 40)
    known = classifier(ReadsColour(slice(3), slice(3)), images)
    names = tuple(reversed(images.class_names))
    other = replace(images, class_names=names)
    small = replace(images, pixels=images.pixels[:, :, :16, :16], masks=None)
    for pair in ((other, images), (images, other)):
        with pytest.raises(DataError, match="the images have the classes"):
            find_shortcuts(known, *pair)
    for pair in ((small, images), (images, small)):
        with pytest.raises(DataError, match="the images are 16x16"):
            find_shortcuts(known, *pair)


def test_one_class_is_refused_with_the_reason() -> None:
    images = make_shapes("train", 10)
    with pytest.raises(DataError, match="two classes or more"):
        find_shortcuts(classifier(ReadsColour(slice(3), slice(3)), images), images, images)


@pytest.mark.parametrize(("half_width", "points"), [(0.6, "60 points"), (0.0, "4 points")])
def test_no_shortcut_is_said_with_the_loss_that_would_have_been_noticed(
    half_width: float, points: str
) -> None:
    test = SimpleNamespace(subject="all", excess=SimpleNamespace(value=0.0, low=-half_width))
    found: Any = SimpleNamespace(
        used=(), tests=[test], class_names=("a", "b"), accuracy=0.9, image_count=200
    )
    words = shortcut_verdict(found)
    assert f"200 validation images, a shortcut that costs less than about {points}" in words
