"""The tutorial's networks on real CIFAR-10: test accuracies of three seeds, next to Keras 3's.

Every training sees all 50,000 training images, as in the tutorial, and the 10,000 test images are
used once, after the last epoch. Recipes in AFTER continue a trained network for ten epochs. Claims:
for the basic and the wide network, the 95 % interval of the difference between our mean and Keras's
(Welch's t) includes zero. Each training is a process of its own, and leaves a JSON file in FOLDER;
files that are there are not made again.
Needs the extra `bench` and GLASSHOUSE_DATA.
Run: python bench/tutorial_accuracy.py [--only glasshouse|keras] [--seeds 3] [--print] [FOLDER]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from contest import machine, require_keras

FEWEST_SEEDS = 3
# The tutorial's own figures in %, where its text gives one.
RECIPES: dict[str, float | None] = {
    "tutorial-basic": 69.35,
    "tutorial-basic-no-augment": None,
    "tutorial-wide": None,
    "tutorial-wide-bn": 75.32,
    "tutorial-wide-fixed-lr": None,
    "tutorial-wide-schedule": None,
    "tutorial-basic-schedule": 74.75,
}
AFTER = {
    "tutorial-wide-schedule": "tutorial-wide-fixed-lr",
    "tutorial-basic-schedule": "tutorial-basic",
}
# The tutorial gives its schedule once, for any network.
SETTINGS = {"tutorial-basic-schedule": "tutorial-wide-schedule"}
COMPARED = ("tutorial-basic", "tutorial-wide")
EPOCHS = 10


def cifar10() -> Any:
    """CIFAR-10 with all 50,000 training images in the training split."""
    from glasshouse.data.sources import load_splits
    from glasshouse.settings import DataSettings

    return load_splits("cifar10", DataSettings(train_on_validation=True))


def glasshouse(recipe_name: str, seed: int, folder: Path) -> float:
    """Test accuracy of our recipe; the classifier is kept in the folder."""
    import glasshouse as gh

    splits = cifar10()
    recipe = gh.load_recipe(SETTINGS.get(recipe_name, recipe_name), [f"train.seed={seed}"])
    net: Any = recipe.model
    if recipe_name in AFTER:
        net = gh.load_classifier(folder / f"glasshouse-{AFTER[recipe_name]}-{seed}")
    classifier, _ = gh.train_classifier(net, splits, recipe.train, augment=recipe.augment)
    kept = folder / f"glasshouse-{recipe_name}-{seed}"
    kept.mkdir(exist_ok=True)
    gh.save_classifier(classifier, kept)
    return gh.evaluate(gh.predict(classifier, splits.test)).accuracy.value


def keras(recipe_name: str, seed: int, folder: Path) -> float:
    """Test accuracy of the tutorial's own program."""
    import tutorial_keras

    splits = cifar10()
    train, test = splits.train, splits.test
    import keras as k

    k.utils.set_random_seed(seed)
    net, flow = tutorial_keras.program(train.pixels, train.labels, 32, recipe_name)
    # Without steps_per_epoch: with the tutorial's, Keras 3 leaves a batch over, and every second
    # epoch would consist of that one.
    net.fit(flow, epochs=EPOCHS, verbose=0)
    answers = net.predict(
        tutorial_keras.prepared(test.pixels, train.pixels, recipe_name), batch_size=256, verbose=0
    )
    return float((answers.argmax(axis=1) == test.labels).mean())


TRAINERS = {"glasshouse": glasshouse, "keras": keras}


def train_missing(folder: Path, only: str | None, seeds: int) -> None:
    """Train what has no JSON file yet, the first recipe of both first."""
    for recipe in RECIPES:
        for seed in range(seeds):
            for name in TRAINERS:
                missing = not result_file(folder, name, recipe, seed).is_file()
                wanted = only in (None, name) and (name == "glasshouse" or recipe in COMPARED)
                if missing and wanted:
                    given = ["--train", name, recipe, str(seed)]
                    subprocess.run([sys.executable, __file__, str(folder), *given], check=True)


def result_file(folder: Path, name: str, recipe: str, seed: int) -> Path:
    return folder / f"{name}-{recipe}-{seed}.json"


def train_one(folder: Path, name: str, recipe: str, seed: int) -> None:
    started = time.perf_counter()
    accuracy = TRAINERS[name](recipe, seed, folder)
    record = {"accuracy": accuracy, "seconds": time.perf_counter() - started, "on": machine()}
    print(name, recipe, seed, record, flush=True)
    result_file(folder, name, recipe, seed).write_text(json.dumps(record))


def accuracies(folder: Path, name: str, recipe: str) -> np.ndarray[Any, Any]:
    """In %, of the seeds that are there."""
    files = sorted(folder.glob(f"{name}-{recipe}-[0-9]*.json"))
    return 100 * np.array([json.loads(file.read_text())["accuracy"] for file in files])


def table(folder: Path) -> bool:
    """Print all means with their intervals; whether both claims hold."""
    from scipy import stats

    from glasshouse.evaluation.over_seeds import mean_over_seeds

    def cell(values: np.ndarray[Any, Any]) -> str:
        if len(values) < 2:
            return f"{len(values)} of {FEWEST_SEEDS} seeds"
        mean = mean_over_seeds(values)
        each = ", ".join(f"{value:.2f}" for value in values)
        return f"{mean.value:.2f} % ({mean.low:.2f} to {mean.high:.2f}) [{each}]"

    for recipe, figure in RECIPES.items():
        said = f"{figure:.2f} %" if figure else ""
        keras_cell = cell(accuracies(folder, "keras", recipe)) if recipe in COMPARED else ""
        ours = cell(accuracies(folder, "glasshouse", recipe))
        print(f"| `{recipe}` | {said} | {keras_cell} | {ours} |")
    held = True
    for recipe in COMPARED:
        ours, theirs = (accuracies(folder, name, recipe) for name in TRAINERS)
        if min(len(ours), len(theirs)) < FEWEST_SEEDS:
            held = False
            continue
        gap = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
        agrees = gap.low <= 0 <= gap.high
        held &= agrees
        print(
            f"{'holds' if agrees else 'FAILS'}  {recipe}: ours minus Keras's "
            f"{ours.mean() - theirs.mean():+.2f} points ({gap.low:+.2f} to {gap.high:+.2f})"
        )
    return held


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/tutorial-accuracy"))
    parser.add_argument("--only", choices=tuple(TRAINERS))
    parser.add_argument("--seeds", type=int, default=FEWEST_SEEDS)
    parser.add_argument("--print", action="store_true", help="train nothing")
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.train:
        name, recipe, seed = given.train
        train_one(given.folder, name, recipe, int(seed))
        return
    if not given.print:
        if given.only != "glasshouse":
            require_keras()
        train_missing(given.folder, given.only, given.seeds)
    print(machine())
    raise SystemExit(not table(given.folder))


if __name__ == "__main__":
    main()
