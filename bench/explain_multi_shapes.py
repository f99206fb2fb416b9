"""Several labels per image on generated shapes: average precision, and where the maps point.

Claims: mean average precision >= 0.9; the Grad-CAM map of a label that an image has points to the
object of that label, not to the other one, for >= 85 % of the pairs of image and label. A hit is a
largest value on the object or within the usual margin of the pointing game (Zhang et al. 2016).
The net is what this command gives:

    glasshouse train shapes-multi --set train.epochs=8 --set train.label_smoothing=0

    python bench/explain_multi_shapes.py [RUN] --images 1000
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from contest import judge, machine
from explain_shapes import trained

from glasshouse.data.images import ImageSet, take
from glasshouse.data.sources import load_splits
from glasshouse.evaluation.multi_label import evaluate_labels
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.trust.localisation import pointing_game, usual_margin
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.models.predict import predict
from glasshouse.settings import DataSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "run", type=Path, nargs="?", help="trained on shapes-multi; none: trains it"
    )
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    overrides = ["train.epochs=8", "train.label_smoothing=0"]
    classifier = (
        load_classifier(arguments.run) if arguments.run else trained("shapes-multi", overrides)
    )
    print(machine())
    test = load_splits(
        "shapes-multi", DataSettings(image_size=classifier.preprocessing.height)
    ).test
    images = take(test, np.arange(min(arguments.images, len(test))))
    found = evaluate_labels(predict(classifier, images))
    print(found)
    is_precise = judge("mean average precision", found.mean_average_precision.value, 0.9)
    own, other, hits = pointing(classifier, images)
    print(
        f"{own} pairs of image and label; of the {other[1]} with a second object, the map points "
        f"to that one in {other[0]}"
    )
    is_right = judge("maps of a label that point to its own object, %", 100 * hits, 85)
    raise SystemExit(not (is_precise and is_right))


def pointing(classifier: Classifier, images: ImageSet) -> tuple[int, tuple[int, int], float]:
    """Pairs of image and label; those that point to the other object, of how many; own hits."""
    assert images.masks is not None
    rows, labels = np.nonzero(images.label_matrix)
    page = explain_page(
        replace(classifier, mirror=False),
        images.pixels[rows],
        methods=["grad-cam"],
        target_class=labels,
    )
    maps = shown(page.explanations[0])
    own = images.masks[rows, labels]
    others = images.masks[rows].any(axis=1) & ~own
    has_other = others.any(axis=(1, 2))
    margin = usual_margin(*own.shape[1:])
    hits = pointing_game(maps, own, margin=margin)
    wrong = pointing_game(maps[has_other], others[has_other], margin=0)
    return len(rows), (int(wrong.sum()), int(has_other.sum())), float(hits.mean())


if __name__ == "__main__":
    main()
