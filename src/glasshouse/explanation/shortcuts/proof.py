"""Proof by intervention: is an answer lost when an image gets what another class has?"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.evaluation.intervals import Interval
from glasshouse.evaluation.paired_effects import (
    Answers,
    Effect,
    adjusted,
    effect_of,
    mean_interval,
)
from glasshouse.explanation.shortcuts.cue_only import CueOnly
from glasshouse.explanation.shortcuts.exchange import TINT, Donors, Exchange, Kind
from glasshouse.explanation.shortcuts.object_motion import MOVES
from glasshouse.explanation.shortcuts.places import BORDER
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import logits_of

# The smallest loss of accuracy that is called a shortcut: of all images, and of those of one class
# or with something of one class. What natural images lose stays below, see bench/shortcuts.py.
FLOOR, CLASS_FLOOR = 0.04, 0.15
# What the colours of natural images tell of ten classes is about 0.18, and 0.4 of a single class.
ARTIFICIAL, _ARTIFICIAL_F1 = 0.28, 0.6
_ERROR_RATE = 0.05
# Classes with fewer images are not tested on their own.
_FEW = 20


@dataclass(frozen=True)
class CueTest:
    """Whether one possible shortcut is used.

    subject: "all" images, those "of" a class, or those "given" what a class has; class_name: that
    class. excess: how much more is lost than by the control, and for a place also than at equal
    places, with an interval that holds for all tests together. motion: see `object_motions`.
    is_used: whether that is significant, not small, and no part of the object.
    """

    name: str
    kind: Kind
    subject: str
    class_name: str
    effect: Effect
    excess: Interval
    motion: float = 0.0
    is_used: bool = False

    @property
    def is_of_object(self) -> bool:
        """Whether aligned objects, which move a little, are what is exchanged."""
        return self.motion >= MOVES


@dataclass(frozen=True)
class Measured:
    """The answers to one exchange; logits ``(n, k)`` are those of the changed images."""

    exchange: Exchange
    changed: Answers
    control: Answers
    logits: NDArray[np.float32]


def answers_from(classifier: Classifier, images: ImageSet, logits: NDArray[np.float32]) -> Answers:
    """The answers that logits ``(n, k)`` stand for."""
    rows = np.arange(len(images))
    shares = classifier.to_probabilities(logits)[rows, images.labels]
    return Answers(logits.argmax(axis=1) == images.labels, shares)


def measure_exchange(
    classifier: Classifier,
    images: ImageSet,
    exchange: Exchange,
    unchanged: NDArray[np.float32],
    alike: NDArray[np.bool_],
) -> Measured:
    """The answers to one exchange. unchanged ``(n, k)``: logits of the images as they are.

    alike ``(n, k)``: which classes share the cue of the donor, for an exchange without a control.
    """
    logits = logits_of(classifier, exchange.changed(), ids=images.ids.tolist())
    changed = answers_from(classifier, images, logits)
    if exchange.control is None:
        fooled, elsewhere = _moves(images, logits, unchanged, alike)
        changed, control = (replace(changed, hits=~moved) for moved in (fooled, elsewhere))
        shares = answers_from(classifier, images, unchanged).shares
        return Measured(exchange, changed, replace(control, shares=shares), logits)
    others = logits_of(classifier, exchange.control(), ids=images.ids.tolist())
    return Measured(exchange, changed, answers_from(classifier, images, others), logits)


def _moves(
    images: ImageSet,
    logits: NDArray[np.float32],
    unchanged: NDArray[np.float32],
    alike: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which answers moved to a class with the same cue, and which to another wrong class.

    Damage alone would move answers to either kind.
    """
    rows, before, after = np.arange(len(images)), unchanged.argmax(1), logits.argmax(1)
    is_new = (after != before) & (after != images.labels)
    return is_new & alike[rows, after] & ~alike[rows, before], is_new & ~alike[rows, after]


def cue_tests(
    images: ImageSet,
    donors: Donors,
    measured: Sequence[Measured],
    known: Mapping[str, CueOnly],
    motions: Mapping[str, float],
    *,
    is_frame: bool,
) -> list[CueTest]:
    """One test per possible shortcut and group of images, corrected over all of them together.

    known, motions: by name, how well the cue alone tells the class, and whether it moves. is_frame:
    whether the fixed patterns run around the images.
    """
    losses = {each.exchange.name: _losses(each) for each in measured}
    planned = [
        (each, group) for each in measured for group in _groups(images, donors, each.exchange.rows)
    ]
    level = 1 - _ERROR_RATE / max(1, len(planned))
    tests = []
    for each, (subject, name, rows) in planned:
        exchange = each.exchange
        excess = losses[exchange.name].astype(np.float64)
        if exchange.controls:
            excess = excess - np.mean([losses[other] for other in exchange.controls], axis=0)
        effect = effect_of(each.changed, each.control, rows)
        interval = mean_interval(excess[rows], level).within(-2, 2 if exchange.controls else 1)
        motion = motions.get(exchange.name, 0.0)
        tests.append(CueTest(exchange.name, exchange.kind, subject, name, effect, interval, motion))
    corrected = adjusted([test.effect for test in tests])
    tests = [replace(test, effect=each) for test, each in zip(tests, corrected, strict=True)]
    # What another test shows to be no border, and no colour, of natural images.
    made = {BORDER} if is_frame else set()
    wholes = [test for test in tests if test.subject == "all" and test.kind == "background"]
    if any(map(_is_clear, wholes)):
        made.add(TINT)
    return [_judged(test, images.class_names, known[test.name], made) for test in tests]


def _losses(measured: Measured) -> NDArray[np.int64]:
    """1 where only the control is right, -1 where only the changed image is, ``(n,)``."""
    return measured.control.hits.astype(np.int64) - measured.changed.hits


def _groups(
    images: ImageSet, donors: Donors, rows: NDArray[np.bool_]
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    if rows.sum() < _FEW:
        return
    yield "all", "", rows
    # With two classes, these would be the same tests once more.
    if len(images.class_names) == 2:
        return
    for label, name in enumerate(images.class_names):
        for subject, of in (("of", images.labels), ("given", donors.classes)):
            own = rows & (of == label)
            if own.sum() >= _FEW:
                yield subject, name, own


def _judged(
    test: CueTest, names: Sequence[str], alone: CueOnly, made: Collection[str] = ()
) -> CueTest:
    return replace(test, is_used=_is_clear(test) and _is_artificial(test, names, alone, made))


def _is_clear(test: CueTest) -> bool:
    """Whether the loss is significant, not small, and not that of a part of the object."""
    floor = FLOOR if test.subject == "all" else CLASS_FLOOR
    lost, excess = test.effect.lost, test.excess
    is_large = min(lost.value, excess.value) >= floor and excess.low > 0
    return bool(is_large and test.effect.p_adjusted < _ERROR_RATE and not test.is_of_object)


def _is_artificial(
    test: CueTest, names: Sequence[str], alone: CueOnly, made: Collection[str]
) -> bool:
    """Whether the cue tells more than the colours of natural images do.

    Grass is green and the sky is blue at the border of a photo as well: to use that is no cheating.
    made: cues that another test has shown to be artificial.
    """
    if test.kind in ("compression", "background") or test.name in made:
        return True
    if test.subject != "all":
        # Some classes are found in front of sky or water: their edges tell much, also of photos.
        return bool(alone.f1[names.index(test.class_name)] >= _ARTIFICIAL_F1)
    # Corners and edges have equal places to be compared with.
    return alone.gain >= ARTIFICIAL or not (test.kind == "tint" or test.name == BORDER)
