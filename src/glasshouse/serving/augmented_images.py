"""Training images before and after augmentation, and what is known of their source.

It needs torch: the page reaches it through a function that is imported at its first call.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from glasshouse.data.augment import augment, mix
from glasshouse.data.class_names import are_characters
from glasshouse.data.images import Splits
from glasshouse.data.targets import combinations_of
from glasshouse.report.encoding import image_uri
from glasshouse.rng import keys_of
from glasshouse.serving.run_cache import load_source
from glasshouse.serving.workbench import Workbench
from glasshouse.settings import AugmentSettings, Recipe
from glasshouse.wording import pluralize

_IMAGES, _EPOCHS = 4, 4
_CLASSES_NAMED = 8


def augmented_images(
    workbench: Workbench, source: str, recipe: Recipe
) -> tuple[list[list[str]], dict[str, str]]:
    """Four training images as rows of data: URIs, and facts about the source.

    Each row starts with the original; after it, the image as training sees it in each of the
    first epochs, with the recipe's own seed. Raises GlasshouseError for a bad source.
    """
    splits = load_source(workbench, source, recipe.data)
    chosen = _one_per_class(combinations_of(splits.train.targets))
    keys = keys_of(splits.train.ids[chosen])
    originals = np.ascontiguousarray(splits.train.pixels[chosen])
    rows = [[image_uri(image)] for image in originals]
    for epoch in range(_EPOCHS):
        seed = recipe.train.seed
        changed = augment(torch.from_numpy(originals), keys, recipe.augment, seed=seed, epoch=epoch)
        labels = torch.zeros(len(chosen), dtype=torch.int64)
        mixed = mix(changed, labels, keys, recipe.augment, seed=seed, epoch=epoch)[0]
        shown = mixed.round().clamp(0, 255).to(torch.uint8).numpy()
        for row, image in zip(rows, shown, strict=True):
            row.append(image_uri(image))
    return rows, {**_facts(splits), **_mirroring(recipe.augment, splits.class_names)}


def _mirroring(settings: AugmentSettings, class_names: Sequence[str]) -> dict[str, str]:
    """What mirrored images may do to the classes, where there are any."""
    if not settings.horizontal_flip:
        return {}
    matters = "left and right matter"
    if are_characters(class_names):
        matters = "the classes are digits or letters, as their names suggest"
    advice = f"if {matters}, set Horizontal flip to no under Augmentation"
    return {"mirrored": f"half of the images in each epoch; {advice}"}


def _one_per_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the first image of each of the first classes."""
    _, first = np.unique(labels, return_index=True)
    if len(first) >= _IMAGES:
        return np.asarray(first[:_IMAGES], dtype=np.int64)
    return np.arange(min(_IMAGES, len(labels)))


def _facts(splits: Splits) -> dict[str, str]:
    names = splits.class_names
    counts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    more = " …" if len(names) > _CLASSES_NAMED else ""
    facts = {
        "images": ", ".join(f"{len(images):,} {split}" for split, images in counts.items()),
        "size": f"{splits.train.width}x{splits.train.height}",
        "classes": f"{len(names)}: {', '.join(names[:_CLASSES_NAMED])}{more}",
        "notes": " ".join(splits.notes) or "–",
    }
    if splits.bad_files:
        facts["unreadable"] = pluralize(len(splits.bad_files), "file")
    return facts
