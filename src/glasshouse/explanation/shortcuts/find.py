"""Does a classifier use what it should not? Suspicion from maps, proof by intervention."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet, take
from glasshouse.data.splits import limit
from glasshouse.errors import DataError
from glasshouse.evaluation.paired_effects import Answers, Effect, adjusted, effect_of
from glasshouse.explanation.shortcuts.class_cues import ClassCues, class_cues
from glasshouse.explanation.shortcuts.cue_only import CueOnly, cue_only
from glasshouse.explanation.shortcuts.exchange import alike, choose_donors, exchanges
from glasshouse.explanation.shortcuts.interventions import (
    blur_surroundings,
    compress,
    cover,
    low_pass,
    without_colour,
)
from glasshouse.explanation.shortcuts.object_motion import object_motions
from glasshouse.explanation.shortcuts.places import Place, fixed_places
from glasshouse.explanation.shortcuts.proof import (
    CueTest,
    Measured,
    answers_from,
    cue_tests,
    measure_exchange,
)
from glasshouse.explanation.shortcuts.ranking import are_frames, ranked
from glasshouse.explanation.shortcuts.suspicion import MapShare, map_shares
from glasshouse.models.classifier import Classifier, require_same_classes
from glasshouse.models.image_inputs import of_network_size
from glasshouse.models.predict import logits_of, require_classifier
from glasshouse.models.summary import summarize

Progress = Callable[[str, int, int], None]
Pixels = NDArray[np.uint8]

# Multiply-adds for the proof and for the maps: a minute each on two cores.
_PROOF_COST, _MAP_COST = 3e12, 1.2e12
_FEWEST, _MOST = 120, 1000
# Passes per image of the proof, and what a map costs in passes.
_PASSES, _MAP_PASSES = 38, 4
_EXAMPLES = 6
_QUALITY = 30


@dataclass(frozen=True)
class RemovalLoss:
    """What is lost when something is taken away from all images.

    control: what it is compared with, the same at another place or the unchanged image.
    """

    name: str
    control: str
    effect: Effect


@dataclass(frozen=True)
class ExchangedImage:
    """An image before and after an exchange, uint8 ``(3, h, w)``, and the answers to both."""

    id: str
    label: str
    given: str
    answer: str
    answer_after: str
    before: Pixels
    after: Pixels


@dataclass(frozen=True)
class Shortcuts:
    """What was measured on a classifier; words and verdict are made from it by `verdict`.

    accuracy: on the unchanged images. tests: of every possible shortcut; used: those that are
    shortcuts, the most specific of the strongest first. removals: what is lost without something.
    shares: of the maps, from map_count images. alone: how well each cue alone tells the class.
    examples: by the name of the shortcut.
    """

    class_names: tuple[str, ...]
    image_count: int
    map_count: int
    accuracy: float
    tests: tuple[CueTest, ...]
    used: tuple[CueTest, ...]
    removals: tuple[RemovalLoss, ...]
    shares: tuple[MapShare, ...]
    alone: dict[str, CueOnly]
    examples: dict[str, tuple[ExchangedImage, ...]]


def find_shortcuts(
    classifier: Classifier,
    images: ImageSet,
    reference: ImageSet,
    *,
    count: int | None = None,
    progress: Progress | None = None,
) -> Shortcuts:
    """Test whether answers follow a tag, border, pattern, tint, compression or background.

    images: held out, such as the validation split. reference: training images, which tell what the
    images of each class have in common. count: of images that are changed; unset: up to 1,000, as
    far as the network is small. progress: called with (name, done, in total). Raises DataError for
    several labels per image, for images of other classes or of another size than the classifier's,
    and for fewer than two classes with two images.
    """
    require_classifier(classifier)
    for given in (images, reference):
        require_same_classes(given, classifier)
        of_network_size(given.pixels, classifier.preprocessing)
    some = _chosen(images, count or _affordable(classifier, images, _PROOF_COST / _PASSES))
    report = progress or (lambda name, done, total: None)
    donors, cues = choose_donors(some), class_cues(reference)
    places = fixed_places(some.height, some.width)
    unchanged = logits_of(classifier, some.pixels, ids=some.ids.tolist())
    planned, close = list(exchanges(some, cues, donors, places)), alike(cues, donors)
    measured = []
    for number, each in enumerate(planned):
        report("interventions", number, len(planned) + 2)
        measured.append(measure_exchange(classifier, some, each, unchanged, close))
    masks = {place.name: place.mask for place in places}
    alone = {
        each.name: cue_only(reference, some, cues, kind=each.kind, mask=masks.get(each.name))
        for each in planned
    }
    everywhere = {
        e.name: np.ones((some.height, some.width), bool) for e in planned if e.kind == "pattern"
    }
    motions, is_frame = object_motions(reference, masks | everywhere), are_frames(cues, places)
    tests = cue_tests(some, donors, measured, alone, motions, is_frame=is_frame)
    used = ranked(tests, _class_shares(some), is_frame=is_frame)
    before = answers_from(classifier, some, unchanged)
    report("interventions", len(planned), len(planned) + 2)
    removals = _removals(classifier, some, cues, places, before)
    report("interventions", len(planned) + 1, len(planned) + 2)
    mapped = _chosen(images, _affordable(classifier, images, _MAP_COST / _MAP_PASSES, len(images)))
    shares = map_shares(classifier, mapped, places)
    report("interventions", len(planned) + 2, len(planned) + 2)
    return Shortcuts(
        class_names=images.class_names,
        image_count=len(some),
        map_count=len(mapped),
        accuracy=float(before.hits.mean()),
        tests=tuple(tests),
        used=used,
        removals=removals,
        shares=shares,
        alone=alone,
        examples={
            test.name: _examples(some, each, unchanged, donors.classes)
            for each in measured
            for test in used
            if test.name == each.exchange.name
        },
    )


def _affordable(classifier: Classifier, images: ImageSet, cost: float, most: int = _MOST) -> int:
    """How many images a number of multiply-adds allows; the same on every machine."""
    macs = max(1, summarize(classifier.net, (3, images.height, images.width)).macs)
    return int(min(most, max(_FEWEST, cost / macs)))


def _chosen(images: ImageSet, count: int) -> ImageSet:
    """That many images with all classes in proportion, without classes that have one image."""
    if images.is_multi_label:
        raise DataError("shortcuts are tested for one label per image, but these have several")
    rows = np.sort(limit(images.ids, images.labels, min(count, len(images)), seed=0))
    labels = images.labels[rows]
    rows = rows[np.bincount(labels, minlength=len(images.class_names))[labels] >= 2]
    if len(np.unique(images.labels[rows])) < 2:
        raise DataError(
            f"expected two classes or more with at least two of {len(images)} images each to "
            "exchange something between them; use more validation images"
        )
    return take(images, rows)


def _class_shares(images: ImageSet) -> dict[str, float]:
    counts = np.bincount(images.labels, minlength=len(images.class_names)) / len(images)
    return dict(zip(images.class_names, counts.tolist(), strict=True))


def _removals(
    classifier: Classifier,
    images: ImageSet,
    cues: ClassCues,
    places: Sequence[Place],
    before: Answers,
) -> tuple[RemovalLoss, ...]:
    """Covered places against equal ones, then what changes the whole image."""

    def answers(pixels: Pixels) -> Answers:
        return answers_from(classifier, images, logits_of(classifier, pixels))

    covered = {p.name: answers(cover(images.pixels, p.mask, cues.colour)) for p in places}
    found = []
    for place in places:
        # One of them is enough, the last.
        other = place.controls[-1] if place.controls else ""
        control = covered[other] if other else before
        words = f"covering the {other}" if other else "the unchanged image"
        found.append((f"covering the {place.name}", words, effect_of(covered[place.name], control)))
    for name, pixels in _whole_changes(images):
        found.append((name, "the unchanged image", effect_of(answers(pixels), before)))
    corrected = adjusted([effect for _, _, effect in found])
    return tuple(
        RemovalLoss(name, words, effect)
        for (name, words, _), effect in zip(found, corrected, strict=True)
    )


def _whole_changes(images: ImageSet) -> Iterator[tuple[str, Pixels]]:
    sigma = max(0.8, min(images.height, images.width) / 40)
    yield "removing colour", without_colour(images.pixels)
    yield f"blurring (sigma {sigma:.1f} pixels)", low_pass(images.pixels, sigma)
    yield f"compressing as JPEG of quality {_QUALITY}", compress(images.pixels, _QUALITY)
    if images.masks is not None:
        pixels = blur_surroundings(images.pixels, images.masks, 3 * sigma)
        yield "blurring the surroundings", pixels


def _examples(
    images: ImageSet,
    measured: Measured,
    unchanged: NDArray[np.float32],
    classes: NDArray[np.int64],
) -> tuple[ExchangedImage, ...]:
    """The images whose correct answer was lost most clearly."""
    names, after = images.class_names, measured.logits.argmax(axis=1)
    before = unchanged.argmax(axis=1)
    lost = (before == images.labels) & (after != before) & measured.exchange.rows
    drop = np.where(lost, measured.control.shares - measured.changed.shares, -np.inf)
    rows = [int(row) for row in np.argsort(-drop, kind="stable")[:_EXAMPLES] if lost[row]]
    pixels = measured.exchange.changed()
    return tuple(
        ExchangedImage(
            id=str(images.ids[row]),
            label=names[images.labels[row]],
            given=names[classes[row]],
            answer=names[before[row]],
            answer_after=names[after[row]],
            before=images.pixels[row],
            after=pixels[row],
        )
        for row in rows
    )
