"""A map of the data: images as points of a plane, by what a network sees in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from glasshouse.errors import StorageError
from glasshouse.evaluation.intervals import Interval, difference, wilson
from glasshouse.storage import read_tensors, write_tensors
from glasshouse.wording import listed, percentage, pluralize

Plane = NDArray[np.float32]
SplitName = Literal["train", "validation", "test"]
SPLIT_WORDS: Mapping[SplitName, str] = {
    "train": "training",
    "validation": "validation",
    "test": "test",
}
# Of fewer images, the interval of a difference says too little and promises too much.
_FEW = 5
_ARRAYS = {
    "pca": np.float32, "split": np.int64, "labels": np.int64, "predicted": np.int64,
    "confidence": np.float32, "unusual": np.float32,
}  # fmt: skip


@dataclass(frozen=True)
class DataMap:
    """Images as points, with what is known of each.

    pca, tsne ``(n, 2)``: two ways to lay them out; tsne is None until it has been computed, and
    where there are too few images. split ``(n,)``: positions in splits. labels, predicted ``(n,)``:
    positions in class_names. confidence ``(n,)``: probability of the predicted class. unusual
    ``(n,)``: the outlier score, higher for an image that is less like the training images; score:
    its name. kept: trustworthiness of each layout, 1 at best. pca_share: of the variance. drawn:
    how many images there were before some were drawn at random. weights: SHA-256 of the network's.
    """

    pca: Plane
    tsne: Plane | None
    split: NDArray[np.int64]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    unusual: NDArray[np.float32]
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    splits: tuple[SplitName, ...]
    score: str
    kept: Mapping[str, float]
    pca_share: float
    drawn_from: int
    seed: int
    weights: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which images are answered correctly, ``(n,)``."""
        return np.asarray(self.labels == self.predicted)

    @property
    def best_plane(self) -> Plane:
        """The points by t-SNE, or by PCA while there are no others."""
        return self.pca if self.tsne is None else self.tsne

    @property
    def images_in_words(self) -> str:
        """How many images of which splits: "1,500 validation images"."""
        names = listed([SPLIT_WORDS[name] for name in self.splits])
        whole = f"{names} {'image' if len(self) == 1 else 'images'}"
        if self.drawn_from > len(self):
            return f"{len(self):,} of {self.drawn_from:,} {whole}, drawn at random"
        return f"{len(self):,} {whole}"

    @property
    def words(self) -> str:
        """What the map shows and how far it can be trusted, in sentences."""
        plane, drawn = (
            (
                "pca",
                "PCA, in the two directions in which the network sees them differ most: points "
                "that are near each other may differ in others",
            )
            if self.tsne is None
            else (
                "tsne",
                "t-SNE: those that the network sees nearly the same in are near each other. "
                "Directions have no meaning, and distances between far points little",
            )
        )
        seen = (
            "It shows the test split: what is chosen because of it can no longer be tested there"
            if "test" in self.splits
            else "The test split is not shown"
        )
        return (
            f"{self.images_in_words} as points, by {drawn}. Its trustworthiness is "
            f"{self.kept[plane]:.3f}: 1 if all neighbours in the map are neighbours to the network "
            f"as well. {seen}."
        )


@dataclass(frozen=True)
class MapGroup:
    """Some images of a map, and how they are answered.

    accuracy: of the group, None where it has no images in this map. rest: of the other images of
    the map; gap: the group's accuracy minus theirs. All have 95 % intervals.
    """

    name: str
    rows: NDArray[np.int64]
    accuracy: Interval | None
    rest: Interval | None
    gap: Interval | None

    @property
    def words(self) -> str:
        """The same as a sentence."""
        if self.accuracy is None:
            return "None of its images is in this map."
        size = pluralize(len(self.rows), "image")
        said = f"{size}: {_with_range(self.accuracy)} of the answers are right"
        if self.rest is None or self.gap is None:
            return f"{said}. There are no others in the map."
        said += f"; of the rest, {_with_range(self.rest)}."
        if len(self.rows) < _FEW:
            return f"{said} These are too few to tell the two apart."
        if self.gap.low <= 0 <= self.gap.high:
            return f"{said} The difference may be chance."
        worse = "worse" if self.gap.value < 0 else "better"
        return f"{said} It is answered {worse} than the rest by more than chance would explain."

    def as_json(self) -> dict[str, Any]:
        """The same for a program, without the images."""
        numbers = {"accuracy": self.accuracy, "rest": self.rest, "difference": self.gap}
        ranges = {
            name: each and {"value": each.value, "low": each.low, "high": each.high}
            for name, each in numbers.items()
        }
        return {"name": self.name, "images": len(self.rows), **ranges, "words": self.words}


def group_of(found: DataMap, name: str, rows: NDArray[np.integer[Any]]) -> MapGroup:
    """Some rows of a map as a group; each counts once."""
    own = np.unique(np.asarray(rows, dtype=np.int64))
    if not len(own):
        return MapGroup(name, own, None, None, None)
    hits, count = int(found.right[own].sum()), len(own)
    others, other_hits = len(found) - count, int(found.right.sum()) - hits
    accuracy = wilson(hits, count)
    if not others:
        return MapGroup(name, own, accuracy, None, None)
    gap = difference((other_hits, others), (hits, count))
    return MapGroup(name, own, accuracy, wilson(other_hits, others), gap)


def rows_with_ids(found: DataMap, ids: NDArray[np.str_] | list[str]) -> NDArray[np.int64]:
    """Where images are in a map, by their ids; those that it has not are left out."""
    return np.flatnonzero(np.isin(found.ids, np.asarray(ids, dtype=np.str_)))


def save_map(found: DataMap, path: Path) -> None:
    """Write a map as one safetensors file."""
    arrays = {name: getattr(found, name) for name in _ARRAYS}
    if found.tsne is not None:
        arrays["tsne"] = found.tsne
    facts = {
        "ids": found.ids.tolist(), "class_names": list(found.class_names),
        "splits": list(found.splits), "score": found.score, "kept": dict(found.kept),
        "pca_share": found.pca_share, "drawn_from": found.drawn_from, "seed": found.seed,
        "weights": found.weights,
    }  # fmt: skip
    write_tensors(path, {name: torch.from_numpy(each) for name, each in arrays.items()}, facts)


def load_map(path: Path) -> DataMap:
    """Read a map; raises StorageError for a file that is missing or damaged."""
    advice = "make the map again with `glasshouse map`"
    try:
        tensors, facts = read_tensors(path)
    except StorageError as error:
        raise StorageError(f"{error}; {advice}") from error
    try:
        found = _map_of({name: each.numpy() for name, each in tensors.items()}, facts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(f"{path} is damaged: {error!r}; {advice}") from error
    if not _is_whole(found):
        raise StorageError(f"{path} is damaged: its parts do not fit each other; {advice}")
    return found


def _map_of(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> DataMap:
    return DataMap(
        **{name: arrays[name] for name in _ARRAYS},
        tsne=arrays.get("tsne"),
        ids=np.array(facts["ids"], dtype=np.str_),
        class_names=tuple(str(name) for name in facts["class_names"]),
        splits=tuple(cast(SplitName, name) for name in facts["splits"]),
        score=str(facts["score"]),
        kept={str(name): float(value) for name, value in facts["kept"].items()},
        pca_share=float(facts["pca_share"]),
        drawn_from=int(facts["drawn_from"]),
        seed=int(facts["seed"]),
        weights=str(facts["weights"]),
    )


def _is_whole(found: DataMap) -> bool:
    count, classes = len(found), len(found.class_names)
    arrays = {name: getattr(found, name) for name in _ARRAYS}
    planes = [each for each in (found.pca, found.tsne) if each is not None]
    places = (found.labels, classes), (found.predicted, classes), (found.split, len(found.splits))
    known = {"pca"} if found.tsne is None else {"pca", "tsne"}
    return (
        count > 0
        and known <= set(found.kept)
        and set(found.splits) <= set(SPLIT_WORDS)
        and all(each.dtype == _ARRAYS[name] for name, each in arrays.items())
        and all(each.shape == (count, 2) and each.dtype == np.float32 for each in planes)
        and all(each.shape == (count,) for name, each in arrays.items() if name != "pca")
        and all(bool(((each >= 0) & (each < most)).all()) for each, most in places)
        and all(bool(np.isfinite(each).all()) for each in (*arrays.values(), *planes))
    )


def _with_range(share: Interval) -> str:
    return f"{percentage(share.value)} ({100 * share.low:.1f} to {100 * share.high:.1f})"
