"""Are planted groups that fail among the first three that are found, and how often are others?

CIFAR-10, 10,000 training and 5,000 validation images. In each run, 5 % of the images of a random
class, in both splits, are images of another class (wrong labels), or are blurred with a radius of
2 pixels; then a network is trained with the recipe `fast` for EPOCHS epochs. A planted group counts
as found if at least half of the images of one of the first three groups were planted. A run in
which nothing was planted says how many groups are found anyway, which may be true ones.
Claim: found in >= 90 % of the runs.
Run: GLASSHOUSE_DATA=DATA python bench/groups.py [RUNS [EPOCHS]]
"""

import sys
from dataclasses import replace

import numpy as np
from contest import judge, machine
from PIL import Image, ImageFilter

import glasshouse as gh
from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.data.sources import load_splits
from glasshouse.evaluation.failing_groups import find_failing_groups
from glasshouse.models.backbone import backbone_of
from glasshouse.models.predict import logits_of
from glasshouse.recipe import load_recipe
from glasshouse.settings import DataSettings
from glasshouse.workflow.use.known_images import features_of

SHARE, RADIUS, TRAIN, VALIDATION = 0.05, 2, 10_000, 5_000
KINDS = ("labels", "blur")


def planted(images: ImageSet, kind: str, label: int, other: int, random) -> tuple[ImageSet, set]:
    """The images with a group planted in one class, and the ids of the group."""
    rows = images.rows_with(label)
    count = round(SHARE * len(rows))
    pixels, labels = images.pixels.copy(), images.labels.copy()
    if kind == "labels":
        chosen = random.choice(images.rows_with(other), count, replace=False)
        labels[chosen] = label
    else:
        chosen = random.choice(rows, count, replace=False)
        for row in chosen:
            photo = Image.fromarray(pixels[row].transpose(1, 2, 0))
            blurred = photo.filter(ImageFilter.GaussianBlur(RADIUS))
            pixels[row] = np.asarray(blurred).transpose(2, 0, 1)
    changed = replace(images, pixels=pixels, targets=labels)
    return changed, set(images.ids[chosen].tolist())


def groups_of(splits: Splits, epochs: int, seed: int) -> list[set]:
    """The ids of each group that is found, strongest first."""
    recipe = load_recipe("fast", [f"train.epochs={epochs}", f"train.seed={seed}"])
    classifier, _ = gh.train_classifier(recipe.model, splits, recipe.train, augment=recipe.augment)
    images = splits.validation
    body = backbone_of(classifier.net)
    features = features_of(body, classifier.preprocessing, images.pixels)
    predicted = logits_of(classifier, images.pixels).argmax(axis=1)
    found = find_failing_groups(features, images.labels, predicted)
    return [set(images.ids[group.rows].tolist()) for group in found]


def main() -> bool:
    runs, epochs = (int(each) for each in (*sys.argv[1:], *("30", "5")[len(sys.argv) - 1 :]))
    print(machine())
    whole = load_splits("cifar10", DataSettings())
    train = take(whole.train, range(TRAIN))
    validation = take(whole.train, range(TRAIN, TRAIN + VALIDATION))
    clean = Splits(train, validation, take(whole.test, range(10)))
    found = {kind: [] for kind in KINDS}
    for run in range(runs):
        random = np.random.default_rng(run)
        kind = KINDS[run % 2]
        label, other = random.choice(10, 2, replace=False)
        own, ids = planted(validation, kind, label, other, random)
        seen, _ = planted(train, kind, label, other, random)
        groups = groups_of(replace(clean, train=seen, validation=own), epochs, run)
        ranks = [rank for rank, each in enumerate(groups, 1) if 2 * len(each & ids) >= len(each)]
        found[kind].append(bool(ranks) and ranks[0] <= 3)
        print(
            f"run {run}, {kind}: {len(groups)} groups, planted: {ranks or 'not found'}", flush=True
        )
    print(f"nothing planted: {len(groups_of(clean, epochs, 0))} groups")
    holds = [judge(f"found, {kind}", np.mean(each), 0.9) for kind, each in found.items() if each]
    return all(holds)


if __name__ == "__main__":
    sys.exit(not main())
