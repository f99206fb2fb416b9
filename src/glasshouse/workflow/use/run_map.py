"""The map of a run's images: computed once, kept in its folder, and written as a page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.errors import DataError, UsageError
from glasshouse.evaluation.data_map import SPLIT_WORDS, DataMap, SplitName, save_map
from glasshouse.evaluation.layouts import FEWEST, kept_neighbours, main_components, tsne_plane
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import MODEL_FILE, Classifier
from glasshouse.models.predict import logits_of, to_probabilities
from glasshouse.progress import Progress
from glasshouse.report.map_page import map_as_json, write_map_page
from glasshouse.rng import keys_of, permutation
from glasshouse.runs import folder as runs
from glasshouse.storage import read_json, write_json
from glasshouse.workflow.use.known_images import KnownImages, features_of, known_images
from glasshouse.workflow.use.map_groups import named_groups
from glasshouse.workflow.use.predictions import load_run_classifier
from glasshouse.workflow.use.run_mistakes import refresh_report
from glasshouse.workflow.use.run_splits import require_images_of_run, splits_of_run
from glasshouse.workflow.use.source_check import require_held_out, require_one_label

# More points hide each other on a page, and t-SNE of them takes long.
MOST_POINTS = 50_000
# Images between two reports of progress.
_BLOCK = 2_048


def make_run_map(  # noqa: PLR0913 - all but the first are optional
    run: Path,
    split_names: Sequence[str] = ("validation",),
    *,
    seed: int = 0,
    data_dir: Path | None = None,
    offline: bool = False,
    classifier: Classifier | None = None,
    progress: Progress | None = None,
) -> DataMap:
    """Write map.safetensors, map.json, map.html and their part of the report, and return the map.

    Twice: with PCA as soon as that is known, and with t-SNE when that is. classifier: the run's,
    where it is loaded already. Raises DataError where its images have changed or there are fewer
    than 3, ModelError for a network without features, RecipeError for validation images that were
    trained on, and UsageError for the test split of a run that has not used it.
    """
    classifier, facts = classifier or load_run_classifier(run), runs.read_run(run)
    names = _checked(facts, split_names)
    _require_features(classifier)
    splits = splits_of_run(facts, data_dir=data_dir, offline=offline)
    require_images_of_run(splits, facts)
    known = known_images(run, classifier, data_dir=data_dir, offline=offline)
    found, components = _by_pca(run, classifier, known, (splits, names, seed), progress)
    _write(run, found)
    plane = _by_tsne(components, seed, progress)
    if plane is not None:
        kept = {**found.kept, "tsne": kept_neighbours(components, plane, seed)}
        found = replace(found, tsne=plane, kept=kept)
        _write(run, found)
    refresh_report(run, splits, classifier)
    return found


def write_map_texts(run: Path, found: DataMap) -> None:
    """Write map.json and map.html again, as after a group has been named."""
    groups = named_groups(run, found)
    write_json(run / runs.MAP, map_as_json(found, groups))
    write_map_page(found, groups, run / runs.MAP_PAGE, title=run.name, report=runs.REPORT)


def _write(run: Path, found: DataMap) -> None:
    save_map(found, run / runs.MAP_POINTS)
    write_map_texts(run, found)


def _checked(facts: runs.Run, names: Sequence[str]) -> tuple[SplitName, ...]:
    """The splits in their usual order, each once."""
    wanted = tuple(name for name in SPLIT_WORDS if name in names)
    unknown = [name for name in names if name not in SPLIT_WORDS]
    if unknown or not wanted:
        received = unknown[0] if unknown else "none"
        raise UsageError(f"expected a split of {', '.join(SPLIT_WORDS)}, received {received}")
    require_one_label(facts.source, "map")
    if "validation" in wanted:
        require_held_out(facts.recipe.data, "map")
    if "test" in wanted and not facts.is_finished:
        raise UsageError(
            f"{facts.folder} has not used its test split yet, which is looked at once, at the end: "
            "map validation or train"
        )
    return wanted


def _require_features(classifier: Classifier) -> None:
    """Raise ModelError for a network without features, before its images are read."""
    wanted = classifier.preprocessing
    blank = np.zeros((2, 3, wanted.height, wanted.width), dtype=np.uint8)
    features_of(backbone_of(classifier.net), wanted, blank)


def _by_pca(
    run: Path,
    classifier: Classifier,
    known: KnownImages,
    what: tuple[Splits, tuple[SplitName, ...], int],
    progress: Progress | None,
) -> tuple[DataMap, NDArray[np.float32]]:
    """The map without t-SNE, and the components that t-SNE needs."""
    splits, names, seed = what
    images, origin, whole = _drawn({name: getattr(splits, name) for name in names}, seed)
    features, logits = _seen(classifier, images, progress)
    components = main_components(features, seed)
    unusual = known.unusual(images.pixels, features, logits, several=False)
    centred = features - features.mean(axis=0)
    variance = max(float(np.square(centred).sum()), 1e-30)
    plane = np.ascontiguousarray(components[:, :2])
    found = DataMap(
        pca=plane, tsne=None, split=origin, labels=images.labels.astype(np.int64),
        predicted=logits.argmax(axis=1).astype(np.int64),
        confidence=_confidence(classifier, logits),
        unusual=unusual, ids=images.ids, class_names=images.class_names,
        splits=names, score=known.best_score,
        kept={"pca": kept_neighbours(components, plane, seed)},
        pca_share=min(1.0, float(np.square(plane).sum()) / variance), drawn_from=whole, seed=seed,
        weights=read_json(run / MODEL_FILE)["weights"]["sha256"],
    )  # fmt: skip
    return found, components


def _by_tsne(
    components: NDArray[np.float32], seed: int, progress: Progress | None
) -> NDArray[np.float32] | None:
    if progress is not None:
        progress("layout by t-SNE, without news until its end", 0, len(components))
    plane = tsne_plane(components, seed)
    if progress is not None:
        progress("layout by t-SNE, without news until its end", len(components), len(components))
    return plane


def _drawn(sets: dict[SplitName, ImageSet], seed: int) -> tuple[ImageSet, NDArray[np.int64], int]:
    """The images of some splits as one set, the split of each, and how many there were."""
    whole = sum(map(len, sets.values()))
    if whole < FEWEST:
        words = " and ".join(SPLIT_WORDS[name] for name in sets)
        raise DataError(
            f"a map needs {FEWEST} images or more, but the {words} split has {whole}. Add --split "
            "train, or train again with a larger data.validation_fraction"
        )
    parts = []
    for images in sets.values():
        most = max(1, MOST_POINTS * len(images) // whole) if whole > MOST_POINTS else len(images)
        order = permutation(seed, "data map, drawn", 0, keys_of(images.ids))
        parts.append(take(images, np.sort(order[:most])))
    origin = np.repeat(np.arange(len(parts)), [len(each) for each in parts]).astype(np.int64)
    if len(parts) == 1:
        return parts[0], origin, whole
    joined = replace(
        parts[0],
        pixels=np.concatenate([each.pixels for each in parts]),
        targets=np.concatenate([each.targets for each in parts]),
        ids=np.concatenate([each.ids for each in parts]),
        masks=None,
        sizes=None,
    )
    return joined, origin, whole


def _seen(
    classifier: Classifier, images: ImageSet, progress: Progress | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features ``(n, d)`` and logits ``(n, k)`` of images, with progress."""
    body = backbone_of(classifier.net)
    features: list[Any] = []
    logits: list[Any] = []
    for start in range(0, len(images), _BLOCK):
        if progress is not None:
            progress("what the network sees", start, len(images))
        pixels = images.pixels[start : start + _BLOCK]
        features.append(features_of(body, classifier.preprocessing, pixels))
        logits.append(logits_of(classifier, pixels))
    if progress is not None:
        progress("what the network sees", len(images), len(images))
    return np.concatenate(features), np.concatenate(logits)


def _confidence(classifier: Classifier, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shares = to_probabilities(logits, classifier.temperature, None)
    return np.asarray(shares.max(axis=1), dtype=np.float32)
