"""Groups of images that a classifier gets wrong more often: in words, and as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glasshouse.data.image_traits import Trait, TraitDifference, trait_differences
from glasshouse.data.images import ImageSet
from glasshouse.evaluation.failing_groups import FailingGroup
from glasshouse.report.html import Tile, render_template, tile
from glasshouse.storage import write_text
from glasshouse.wording import listed, percentage, pluralize

# Images that a page shows of each group.
_SHOWN = 24
# Differences that a sentence names.
_NAMED = 3


@dataclass(frozen=True)
class ShownGroup:
    """A group with what its images have in common, in words.

    name: the class. differences: from the rest of the class.
    """

    group: FailingGroup
    name: str
    differences: tuple[TraitDifference, ...]
    words: str
    ids: tuple[str, ...]


def described_groups(
    groups: Sequence[FailingGroup], images: ImageSet, traits: Mapping[str, Trait]
) -> tuple[ShownGroup, ...]:
    """Each group, with how its images differ in their traits from the rest of their class."""
    shown = []
    for group in groups:
        rest = np.setdiff1d(images.rows_with(group.label), group.rows)
        differences = trait_differences(traits, group.rows, rest)
        words = _sentence(group, differences, images.class_names)
        ids = tuple(images.ids[group.rows].tolist())
        shown.append(ShownGroup(group, images.class_names[group.label], differences, words, ids))
    return tuple(shown)


def group_verdict(groups: Sequence[ShownGroup], count: int) -> str:
    """What was found among ``count`` images, in words."""
    if not groups:
        return (
            "No group of similar images was found that is misclassified more often than the rest "
            f"of its class, among {count:,} validation images."
        )
    found = "1 group of similar images is" if len(groups) == 1 else f"{len(groups)} groups are"
    own = "its" if len(groups) == 1 else "their"
    first = "It has" if len(groups) == 1 else "The first has"
    return (
        f"{found} misclassified more often than the rest of {own} class. {first} {groups[0].words}"
    )


def groups_as_json(groups: Sequence[ShownGroup], count: int) -> dict[str, Any]:
    """The same for a program."""
    return {
        "verdict": group_verdict(groups, count),
        "images": count,
        "groups": [_group_json(each) for each in groups],
    }


def write_groups_page(
    groups: Sequence[ShownGroup], images: ImageSet, path: Path, *, title: str, report: str = ""
) -> None:
    """Write one HTML file that opens offline.

    images: those that the groups are of. title: of the run; report: the file name of its report
    next to this page.
    """
    values: Mapping[str, Any] = {
        "title": title,
        "report": report,
        "verdict": group_verdict(groups, len(images)),
        "groups": [(each, _tiles(each, images)) for each in groups],
        "class_names": images.class_names,
        "count": len(images),
        "shown": _SHOWN,
    }
    write_text(path, render_template("groups.html.jinja", values))


def _tiles(shown: ShownGroup, images: ImageSet) -> list[tuple[str, Tile]]:
    rows = shown.group.rows[:_SHOWN]
    return [(str(images.ids[row]), tile(images.pixels[row])) for row in rows]


def _sentence(
    group: FailingGroup, differences: Sequence[TraitDifference], names: Sequence[str]
) -> str:
    name, other = names[group.label], names[group.predicted]
    mistakes = round(len(group.rows) * (1 - group.accuracy.value))
    said = (
        f"{pluralize(len(group.rows), 'image')} of {name}: {percentage(group.accuracy.value)} of "
        f"them are right, and {percentage(group.rest)} of the rest of {name}. "
    )
    said += f"{_share(group.predicted_count, mistakes)} answered {other}."
    if differences:
        said += f" They are {listed([each.words for each in differences[:_NAMED]])} than the rest."
    if group.nearest != group.label:
        said += (
            f" To the network they resemble {names[group.nearest]} more than {name}: check "
            "whether their labels are right."
        )
    return said


def _share(count: int, mistakes: int) -> str:
    if mistakes == 1:
        return "The mistake is"
    return (
        f"All {mistakes} mistakes are"
        if count == mistakes
        else f"{count} of {mistakes} mistakes are"
    )


def _group_json(shown: ShownGroup) -> dict[str, Any]:
    group = shown.group
    return {
        "class": shown.name,
        "images": list(shown.ids),
        "accuracy": {
            "value": group.accuracy.value,
            "low": group.accuracy.low,
            "high": group.accuracy.high,
        },
        "accuracy_of_the_rest": group.rest,
        "p_value": group.p_value,
        "stability": group.stability,
        "found_by": group.trait or "features",
        "differences": [
            {"trait": each.name, "mean": each.mean, "mean_of_the_rest": each.other_mean}
            for each in shown.differences
        ],
        "words": shown.words,
    }
