"""What was measured on shortcuts, in words: never more than that."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from glasshouse.explanation.shortcuts.find import Shortcuts
from glasshouse.explanation.shortcuts.proof import FLOOR, CueTest
from glasshouse.explanation.shortcuts.suspicion import OUTSIDE, MapShare
from glasshouse.wording import listed, p_words, percentage, pluralize

# Of the way from guessing to perfect answers: a classifier below that has little to lose.
_LEARNED = 0.1
_ADVICE = {
    "place": "Look at this place in images of each class. Crop it away or cover it in all images, "
    "at prediction as well, and train again; or collect images in which it does not go with the "
    "class.",
    "pattern": "Look for a text, logo or frame at a fixed place in the images of a class. Crop it "
    "away or cover it, and train again; or collect images of that class without it.",
    "tint": "The classes probably come from different cameras, scanners or light. Train with "
    "stronger colour augmentation or in grey, or collect all classes under the same conditions.",
    "compression": "The classes probably come from different sources. Compress all images at the "
    "lowest of these qualities before training, or take them from one source.",
    "background": "Collect each class in front of all backgrounds, or cut the objects out; then "
    "train again.",
}
_SUBJECTS = {
    "all": "all images",
    "of": "images of {}",
    "given": "images given what {} has",
}


def shortcut_verdict(found: Shortcuts) -> str:
    """The answer in one or two sentences."""
    if found.used:
        first, *others = found.used
        also = ""
        if others:
            names = ", ".join(f"the {test.name}" for test in others)
            also = f" Exchanging {names} has such an effect as well, which may be the same cause."
        return (
            f"This classifier uses a shortcut: the {first.name}. {shortcut_sentence(first)}{also}"
        )
    if not found.tests:
        return (
            f"Nothing could be tested: {pluralize(found.image_count, 'validation image')}, too few "
            "to exchange anything between the classes. Train with more images, or with a larger "
            "data.validation_fraction."
        )
    guessing = 1 / len(found.class_names)
    if found.accuracy < guessing + _LEARNED * (1 - guessing):
        return (
            f"Nothing can be said: only {percentage(found.accuracy)} of "
            f"{pluralize(found.image_count, 'validation image')} are classified correctly, so that "
            "an exchange can take nothing away. Train a classifier that is right more often first."
        )
    return (
        "No shortcut was found among those tested. "
        f"On {pluralize(found.image_count, 'validation image')}, a shortcut that costs less than "
        f"about {100 * smallest_found(found):.0f} points of accuracy would not have been noticed."
    )


def shortcut_sentence(test: CueTest) -> str:
    """What was measured of one shortcut."""
    effect, whom = test.effect, _SUBJECTS[test.subject].format(test.class_name)
    if test.kind == "compression":
        return (
            f"Compressed as another class is, {percentage(1 - effect.accuracy)} of "
            f"{pluralize(effect.image_count, 'image')} get the answer of a class that is "
            f"compressed so, and {percentage(1 - effect.control)} that of any other wrong class "
            f"({_points(effect.lost.value)} difference, {p_words(effect.p_adjusted)})."
        )
    given = {
        "place": f"the {test.name} of an image of another class",
        "pattern": "the fine pattern that images of another class have in common",
        "tint": "the mean colour of another class",
        "background": "the background of an image of another class",
    }[test.kind]
    control = {
        "place": f"the {test.name} of another image of the same class",
        "pattern": "the same pattern moved to another place",
        "tint": "the same change of colour in the opposite direction",
        "background": "the background of another image of the same class",
    }[test.kind]
    return (
        f"Given {given}, {percentage(effect.accuracy, 1)} of "
        f"{pluralize(effect.image_count, 'image')} ({whom}) are classified correctly; given "
        f"{control}, {percentage(effect.control, 1)}: "
        f"{_points(effect.lost.value)} lost, 95 % interval {100 * effect.lost.low:.1f} to "
        f"{100 * effect.lost.high:.1f}, {p_words(effect.p_adjusted)}."
    )


def shortcut_advice(test: CueTest) -> str:
    """What to do about a shortcut."""
    return _ADVICE[test.kind]


def limits_of(found: Shortcuts) -> tuple[str, ...]:
    """What was not tested, or only in part."""
    words = [
        "Only what stays at a fixed place or changes the whole image was tested: a tag that moves "
        "from image to image is not found.",
    ]
    if not any(test.kind == "background" for test in found.tests):
        words.append(
            "The background was not tested: that needs masks of the objects, which this source "
            "does not have."
        )
    if not any(test.kind == "compression" for test in found.tests):
        words.append(
            "No class has images that were compressed differently from those of the others, as "
            "far as that shows after resizing."
        )
    elif len(found.class_names) == 2:
        words.append(
            "With two classes there is no other wrong class to compare with: an answer that "
            "compression moves may follow it or be damaged by it."
        )
    aligned = [f"the {t.name}" for t in found.tests if t.subject == "all" and t.is_of_object]
    if aligned:
        words.append(
            "The objects of a class are aligned, so that a part of the object itself makes up "
            f"{listed(aligned)}: what that exchange costs is not called a shortcut."
        )
    strong = [t for t in found.tests if t.kind == "tint" and t.subject == "all" and not t.is_used]
    if strong and strong[0].effect.p_adjusted < 0.05 and strong[0].effect.lost.value >= FLOOR:
        words.append(
            f"The overall colour counts ({_points(strong[0].effect.lost.value)} of accuracy), but "
            "it tells no more of the class here than it does in natural images, so it is not "
            "called a shortcut."
        )
    return tuple(words)


def suspicious(shares: Sequence[MapShare]) -> tuple[MapShare, ...]:
    """The places of all images with at least twice as much of the maps as of the area."""
    return tuple(s for s in shares if not s.class_name and s.place != OUTSIDE and s.is_suspicious)


def smallest_found(found: Shortcuts) -> float:
    """The loss of accuracy, in 0..1, that the tests of all images would have shown."""
    half = [t.excess.value - t.excess.low for t in found.tests if t.subject == "all"]
    return max(FLOOR, float(sorted(half)[len(half) // 2])) if half else 1.0


def shortcuts_as_json(found: Shortcuts) -> dict[str, Any]:
    """All that was measured, with the verdict, as JSON values."""
    return {
        "verdict": shortcut_verdict(found),
        "is_found": bool(found.used),
        "shortcuts": [
            {
                **_test(test),
                "words": shortcut_sentence(test),
                "advice": shortcut_advice(test),
                "images": [example.id for example in found.examples.get(test.name, ())],
            }
            for test in found.used
        ],
        "limits": limits_of(found),
        "image_count": found.image_count,
        "map_count": found.map_count,
        "accuracy": found.accuracy,
        "smallest_found": smallest_found(found),
        "tests": [_test(test) for test in found.tests],
        "cue_alone": {
            name: {"accuracy": alone.accuracy, "chance": alone.chance}
            for name, alone in found.alone.items()
        },
        "removals": [asdict(removal) for removal in found.removals],
        "map_shares": [asdict(share) for share in found.shares],
    }


def _test(test: CueTest) -> Mapping[str, Any]:
    return {key: value for key, value in asdict(test).items() if key != "class_name" or value}


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"
