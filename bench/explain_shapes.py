"""The pointing game on the generated shapes, whose masks are known, for every method.

Claim: Grad-CAM on a trained net >= 90 %. A hit is a largest value on the object or less than 15
pixels from it where the shorter side is 224, in proportion here (2.1 pixels of 32): the game as it
is published (Zhang et al. 2016) and as TorchRay plays it. Exact hits are printed beside it, and the
centre of the picture as the baseline. Trains the net of the tour unless RUN is given.

    python bench/explain_shapes.py [RUN] --pictures 1000
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
from contest import judge, machine

from glasshouse.data.images import ImageSet, take
from glasshouse.data.sources import load_splits
from glasshouse.explanation.checking import sheet_methods
from glasshouse.explanation.explain import explain
from glasshouse.explanation.localisation import (
    Masks,
    pointing_game,
    score_localisation,
    usual_margin,
)
from glasshouse.explanation.record import Explanation, shown
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.recipe import load_recipe
from glasshouse.settings import DataSettings
from glasshouse.workflow.experiment import Request, finish, fit, open_experiment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--pictures", type=int, default=1000)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    classifier = load_classifier(arguments.run) if arguments.run else trained()
    test = load_splits("shapes", DataSettings(image_size=classifier.preprocessing.height)).test
    score(classifier, take(test, np.arange(min(arguments.pictures, len(test)))))


def trained() -> Classifier:
    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe("small-residual", ["train.epochs=4"])
        experiment = open_experiment(Request("shapes", recipe, Path(folder) / "run"))
        for _ in fit(experiment):
            pass
        return finish(experiment).classifier


def score(classifier: Classifier, images: ImageSet) -> None:
    assert images.masks is not None
    methods = sheet_methods(classifier, images.pictures[0])
    found = explain(classifier, images.pictures, methods=methods, target_class=images.labels)
    accuracy = float((found[0].logits.argmax(1) == images.labels).mean())
    margin = usual_margin(*images.masks.shape[1:])
    print(f"{machine()}: {len(images)} test pictures of shapes, accuracy {accuracy:.1%}")
    print(f"masks cover {images.masks.mean():.1%} of a picture; margin {margin:.2f} pixels")
    rows = score_localisation(found, images.masks)
    for row in rows:
        print(
            f"{row.method:18} pointing {row.pointing:6.1%}   exactly {row.on_object:6.1%}   "
            f"energy inside {row.energy:6.1%}"
        )
    (cam,) = [each for each in found if each.method == "grad-cam"]
    names = np.array(images.class_names)[images.labels]
    for name in images.class_names:
        print(f"grad-cam, {name:10} {hits(cam, images.masks, names == name, margin)}")
    share = next(row.pointing for row in rows if row.method == "grad-cam")
    judge("pointing game of Grad-CAM, %", 100 * share, 90)


def hits(cam: Explanation, masks: Masks, chosen: np.ndarray, margin: float) -> str:
    maps, own = shown(cam)[chosen], masks[chosen]
    near, exact = (pointing_game(maps, own, margin=each).mean() for each in (margin, 0))
    return f"pointing {near:6.1%}   exactly {exact:6.1%}"


if __name__ == "__main__":
    main()
