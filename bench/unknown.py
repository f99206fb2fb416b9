"""How well photos of other things are told from CIFAR-10, by each score and by the chosen one.

Trains `fast` for EPOCHS epochs with validation images held out, chooses the score on outliers made
of these, and measures once on the official test split against digits, shapes and noise (far), and
ants and bees (near). Also what one more photo costs.
Claims: AUROC of the chosen score >= 0.95 on each of the far ones; <= 10 ms per photo.
Run: GLASSHOUSE_DATA=DATA python bench/unknown.py [EPOCHS]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from contest import judge, machine
from sklearn.metrics import roc_auc_score
from transfer_hymenoptera import DATA

from glasshouse.data.sources import load_splits
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.models.predict import logits_of
from glasshouse.models.unusual_scores import UNUSUAL_SCORES, unusual_scores
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
            ("ants and bees", str(DATA / "hymenoptera")),
        )
    }
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)
    return {**found, "noise": noise}


def scores(known: KnownImages, classifier: Classifier, pixels: np.ndarray) -> dict:
    features = features_of(backbone_of(classifier.net), classifier.preprocessing, pixels)
    logits = logits_of(classifier, pixels)
    return unusual_scores(known.features, known.gaussians, features, logits, several=False)


def milliseconds(known: KnownImages, classifier: Classifier, pixels: np.ndarray) -> float:
    """What a photo costs in addition to its prediction: the median of many."""
    body, times = backbone_of(classifier.net), []
    for row in range(30):
        photo = pixels[row : row + 1]
        logits = logits_of(classifier, photo)
        started = time.perf_counter()
        features = features_of(body, classifier.preprocessing, photo)
        familiarity(known, features, logits, several=False)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def main() -> bool:
    epochs = int(sys.argv[1]) if sys.argv[1:] else 4
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        recipe = load_recipe("fast", [f"train.epochs={epochs}", "data.train_on_validation=false"])
        experiment = open_experiment(TrainRequest("cifar10", recipe, run))
        for _ in fit_experiment(experiment):
            pass
        finish_experiment(experiment)
        classifier = load_classifier(run)
        known = known_images(run, classifier)
    print(f"chosen: {known.best_score}, by outliers made of validation images:")
    for kind, areas in known.auroc.items():
        print(f"  {kind:14}", *(f"{name} {areas[name]:.3f}" for name in UNUSUAL_SCORES))
    usual = scores(known, classifier, load_splits("cifar10", DataSettings()).test.pixels)
    holds = []
    for name, pixels in others().items():
        odd = scores(known, classifier, pixels)
        areas = {
            score: roc_auc_score(
                np.repeat([0, 1], [len(usual[score]), len(odd[score])]),
                np.concatenate([usual[score], odd[score]]),
            )
            for score in UNUSUAL_SCORES
        }
        print(f"{name:16}", *(f"{score} {areas[score]:.3f}" for score in UNUSUAL_SCORES))
        if name in FAR:
            holds.append(judge(f"{name}: AUROC", areas[known.best_score], 0.95))
    cost = milliseconds(known, classifier, others()["noise"])
    holds.append(judge("milliseconds per photo", cost, 10, at_least=False))
    return all(holds)


if __name__ == "__main__":
    sys.exit(not main())
