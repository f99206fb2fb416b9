"""Photos compared with the images of a run: for Python and notebooks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.decode import Pixels
from glasshouse.data.images import images_by_id
from glasshouse.errors import GlasshouseError
from glasshouse.models.image_inputs import Images, as_given, image_ids
from glasshouse.models.predict import logits_of, read_images
from glasshouse.models.unusual_scores import UnknownMeasure
from glasshouse.report.encoding import strip_uri
from glasshouse.report.similar_html import NearCell, SimilarRow, similar_html
from glasshouse.runs import folder as runs
from glasshouse.storage import as_path
from glasshouse.wording import p_words, pluralize
from glasshouse.workflow.use.known_images import known_images
from glasshouse.workflow.use.photo_and_run import Resemblance, RunComparison
from glasshouse.workflow.use.predictions import load_run_classifier
from glasshouse.workflow.use.run_splits import splits_of_run

_SHOWN, _SIDE = 10, 56


@dataclass(frozen=True)
class Resemblances:
    """What some photos have to do with the images of a run, in the order of the photos.

    ids ``(n,)`` and photos, uint8 ``(n, 3, h, w)``: as the network takes them. images: the training
    images that they resemble, uint8 ``(3, h, w)`` by id, where the run's source is still there.
    """

    ids: NDArray[np.str_]
    photos: Pixels
    found: tuple[Resemblance, ...]
    images: Mapping[str, Pixels]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Resemblance]:
        return iter(self.found)

    def __getitem__(self, position: int) -> Resemblance:
        return self.found[position]

    def __repr__(self) -> str:
        count = sum(each.familiarity.is_unknown for each in self.found)
        photos = pluralize(len(self), "photo")
        return f"Resemblances({photos}, {count:,} unlike anything it was trained on)"

    def _repr_html_(self) -> str:
        rows = [self._row(place) for place in range(min(len(self), _SHOWN))]
        return similar_html(rows, left=len(self) - len(rows), side=_SIDE)

    def _row(self, place: int) -> SimilarRow:
        found = self.found[place]
        p = found.familiarity.p_value
        return SimilarRow(
            str(self.ids[place]),
            found.sentence(is_answered=True),
            "" if p is None else p_words(p),
            found.familiarity.is_unknown,
            strip_uri(self.photos[place : place + 1], _SIDE),
            [
                NearCell(
                    each["image"], each["label"], each["distance"], self._address(each["image"])
                )
                for each in (() if found.similar is None else found.similar.as_json())
            ],
        )

    def _address(self, name: str) -> str:
        return strip_uri(self.images[name][None], _SIDE) if name in self.images else ""


def find_similar(
    run: str | Path, images: Images, *, data_dir: str | Path | None = None, offline: bool = False
) -> Resemblances:
    """Which of a run's training images each image resembles, and whether it is unlike all of them.

    images: as for `Classifier.predict`. The features of the training images are computed at the
    first call and kept in the run folder. Raises UsageError for a folder without a trained run,
    BadImage for a file that cannot be read, DataError where the run's images have changed, and
    ModelError for a network with several heads.
    """
    folder, data_dir = Path(run), as_path(data_dir)
    classifier, given = load_run_classifier(folder), as_given(images)
    pixels, ids = read_images(given, classifier), image_ids(given)
    comparison = RunComparison.of(folder, classifier, data_dir=data_dir, offline=offline)
    logits = logits_of(classifier, pixels, ids=ids.tolist())
    found = tuple(comparison.compare(pixels, logits))
    near = {name for each in found if each.similar is not None for name in each.similar.ids}
    return Resemblances(ids, pixels, found, _images(folder, near, data_dir, offline))


def unknown_measure(
    run: str | Path, *, data_dir: str | Path | None = None, offline: bool = False
) -> UnknownMeasure:
    """How a run tells that an image is unlike its training images, as `export_onnx` takes it.

    Raises as `find_similar` does.
    """
    folder = Path(run)
    classifier = load_run_classifier(folder)
    return known_images(folder, classifier, data_dir=as_path(data_dir), offline=offline).measure


def _images(folder: Path, ids: set[str], data_dir: Path | None, offline: bool) -> dict[str, Pixels]:
    try:
        splits = splits_of_run(runs.read_run(folder), data_dir=data_dir, offline=offline)
    except GlasshouseError:
        return {}  # names and labels are kept in the run, without the source
    return images_by_id(splits.train, ids)
