"""The findings of a data check with the images concerned, as a self-contained page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.findings import Finding, by_split, counts_of
from glasshouse.data.images import BadFile, ImageSet, Splits
from glasshouse.report.html import Tile, render_template, tile
from glasshouse.wording import pluralize

GROUPS_SHOWN, IMAGES_SHOWN, FILES_SHOWN = 24, 24, 200
CLASSES_SHOWN, SAMPLES_A_CLASS = 20, 8


@dataclass(frozen=True)
class ImageLocation:
    """Where an image is: its split, and its row in it."""

    split: str
    images: ImageSet
    row: int

    @property
    def class_name(self) -> str:
        """The name of its label."""
        return self.images.label_text(self.row)

    @property
    def image(self) -> NDArray[np.uint8]:
        """The image, uint8 ``(3, h, w)``."""
        return np.asarray(self.images.pixels[self.row])


@dataclass(frozen=True)
class Shown:
    """An image on the page, with its split and label."""

    id: str
    split: str
    class_name: str
    tile: Tile


@dataclass(frozen=True)
class ClassRow:
    """Images of a class in each split; share: in total, relative to the most frequent class."""

    name: str
    counts: tuple[int, ...]
    share: float


def find_places(splits: Splits, ids: set[str]) -> dict[str, ImageLocation]:
    """The locations of the images with these ids."""
    return {
        image: ImageLocation(split, images, row)
        for split, images in by_split(splits).items()
        for row, image in enumerate(images.ids.tolist())
        if image in ids
    }


def class_rows(splits: Splits) -> list[ClassRow]:
    """The number of images of each class in each split, for a bar chart."""
    per_split = [counts_of(images) for images in by_split(splits).values()]
    counts = {name: tuple(counts[name] for counts in per_split) for name in splits.class_names}
    most = max((sum(each) for each in counts.values()), default=0)
    return [ClassRow(name, each, sum(each) / max(1, most)) for name, each in counts.items()]


def sample_places(images: ImageSet, split: str, label: int, most: int) -> list[ImageLocation]:
    """At most ``most`` images of a class, evenly spaced from its first to its last."""
    rows = images.rows_with(label)
    chosen = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    return [ImageLocation(split, images, int(row)) for row in chosen]


def render_data_report(source: str, findings: Sequence[Finding], splits: Splits | None) -> str:
    """The page as HTML; names are escaped."""
    places = find_places(splits, _ids_shown(findings)) if splits else {}
    return render_template(
        "data.html.jinja",
        {
            "source": source,
            # The table of classes has the counts already.
            "findings": [(f, *_images(f, places)) for f in findings if f.kind != "counts"],
            "verdict": verdict(findings),
            "classes": class_rows(splits) if splits else [],
            "split_counts": {name: len(i) for name, i in by_split(splits).items()}
            if splits
            else {},
            "samples": _samples(splits) if splits else [],
            "class_count": len(splits.class_names) if splits else 0,
            "bad_files": _unreadable(findings),
            "notes": splits.notes if splits else (),
            "files_shown": FILES_SHOWN,
        },
    )


def verdict(findings: Sequence[Finding]) -> str:
    """The findings summarised in one sentence."""
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if errors:
        also = f", and {pluralize(warnings, 'warning')}" if warnings else ""
        them = "it" if errors == 1 else "them"
        found = pluralize(errors, "error")
        return f"{found} would invalidate metrics{also}. Fix {them} before training."
    if warnings:
        return f"No errors; {pluralize(warnings, 'warning')} to review."
    return "No problems found."


def _ids_shown(findings: Sequence[Finding]) -> set[str]:
    grouped = {i for f in findings for group in _groups_shown(f) for i in group}
    return grouped | {i for f in findings if not f.groups for i in f.ids[:IMAGES_SHOWN]}


def _unreadable(findings: Sequence[Finding]) -> list[BadFile]:
    """Files and reasons, also of a source that could not be loaded because of them."""
    return [
        BadFile(path, reason)
        for finding in findings
        if finding.kind in ("bad-files", "unreadable-source") and finding.reasons
        for path, reason in zip(finding.ids, finding.reasons, strict=True)
    ]


def _groups_shown(finding: Finding) -> list[tuple[str, ...]]:
    return [group[:IMAGES_SHOWN] for group in finding.groups[:GROUPS_SHOWN]]


def _images(
    finding: Finding, places: Mapping[str, ImageLocation]
) -> tuple[list[list[Shown]], list[Shown]]:
    """The groups of a finding to show side by side, or its single images."""
    groups = [
        [_shown(i, places[i]) for i in group if i in places] for group in _groups_shown(finding)
    ]
    ids = () if finding.groups else finding.ids[:IMAGES_SHOWN]
    return groups, [_shown(i, places[i]) for i in ids if i in places]


def _samples(splits: Splits) -> list[tuple[str, list[Shown]]]:
    return [
        (
            name,
            [
                _shown(str(place.images.ids[place.row]), place)
                for place in sample_places(splits.train, "train", label, SAMPLES_A_CLASS)
            ],
        )
        for label, name in enumerate(splits.class_names[:CLASSES_SHOWN])
    ]


def _shown(image_id: str, place: ImageLocation) -> Shown:
    return Shown(image_id, place.split, place.class_name, tile(place.image))
