"""How well photos of other things are told from CIFAR-10, by each score and by the chosen one.

Trains `fast` for EPOCHS epochs with validation images held out, chooses on outliers made of these
which score of the network is joined with that of appearance, and measures once on the official test
split against digits, shapes and noise (far), and ants and bees (near): the score of appearance,
each of the network alone, and both joined (with a plus). Also how many test images are called
unknown, and what one more photo costs.
Claims: AUROC of the chosen score >= 0.95 on each of the far ones; <= 10 ms per photo.
Run: GLASSHOUSE_DATA=DATA python bench/unknown.py [EPOCHS]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from contest import data_folder, judge, machine
from sklearn.metrics import roc_auc_score

from glasshouse.data.sources import load_splits
from glasshouse.models.appearance import appearance_of
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.models.predict import logits_of
from glasshouse.models.unusual_scores import (
    UNUSUAL_SCORES,
    look_scores,
    scored_together,
    unusual_scores,
)
from glasshouse.recipe import load_recipe
from glasshouse.settings import DataSettings
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    finish_experiment,
    fit_experiment,
    open_experiment,
)
from glasshouse.workflow.use.known_images import KnownImages, features_of, known_images
from glasshouse.workflow.use.unknown_images import familiarity

FAR, COUNT = ("digits", "shapes", "noise"), 1000


def others() -> dict[str, np.ndarray]:
    """Images of other things, in the size of CIFAR-10."""
    settings = DataSettings(image_size=32)
    found = {
        name: load_splits(source, settings).train.pixels[:COUNT]
        for name, source in (
            ("digits", "digits"),
            ("shapes", "shapes"),
            ("ants and bees", str(data_folder() / "hymenoptera")),
        )
    }
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)
    return {**found, "noise": noise}


def scores(known: KnownImages, classifier: Classifier, pixels: np.ndarray) -> dict:
    """Each score of the network, that of appearance, and each joined with that."""
    features = features_of(backbone_of(classifier.net), classifier.preprocessing, pixels)
    logits = logits_of(classifier, pixels)
    found = unusual_scores(known.features, known.gaussians, features, logits, several=False)
    looks = look_scores(known.looks, appearance_of(pixels))
    both = {
        f"{name}+": scored_together(values, looks, (known.units[name], known.units["appearance"]))
        for name, values in found.items()
    }
    return {**found, "appearance": looks, **both}


def milliseconds(known: KnownImages, classifier: Classifier, pixels: np.ndarray) -> float:
    """What a photo costs in addition to its prediction: the median of many."""
    body, times = backbone_of(classifier.net), []
    for row in range(30):
        photo = pixels[row : row + 1]
        logits = logits_of(classifier, photo)
        started = time.perf_counter()
        features = features_of(body, classifier.preprocessing, photo)
        familiarity(known, photo, features, logits, several=False)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def main() -> bool:
    epochs = int(sys.argv[1]) if sys.argv[1:] else 4
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        recipe = load_recipe("fast", [f"train.epochs={epochs}", "data.train_on_validation=false"])
        experiment = open_experiment(TrainRequest("cifar10", recipe, run, data_dir=data_folder()))
        for _ in fit_experiment(experiment):
            pass
        finish_experiment(experiment)
        classifier = load_classifier(run)
        known = known_images(run, classifier, data_dir=data_folder())
    print(f"chosen: {known.best_score}, by outliers made of validation images:")
    for kind, areas in known.auroc.items():
        print(f"  {kind:14}", *(f"{name} {areas[name]:.3f}" for name in UNUSUAL_SCORES))
    usual = scores(known, classifier, experiment.splits.test.pixels)
    chosen = f"{known.best_score}+"
    refused = usual[chosen] > np.quantile(known.usual[known.best_score], 0.95)
    print(f"test images called unknown: {refused.mean():.3f}")
    holds = []
    for name, pixels in others().items():
        odd = scores(known, classifier, pixels)
        areas = {
            score: roc_auc_score(
                np.repeat([0, 1], [len(usual[score]), len(odd[score])]),
                np.concatenate([usual[score], odd[score]]),
            )
            for score in usual
        }
        print(f"{name:16}", *(f"{score} {areas[score]:.3f}" for score in usual))
        if name in FAR:
            holds.append(judge(f"{name}: AUROC", areas[chosen], 0.95))
    cost = milliseconds(known, classifier, others()["noise"])
    holds.append(judge("milliseconds per photo", cost, 10, at_least=False))
    return all(holds)


if __name__ == "__main__":
    sys.exit(not main())
