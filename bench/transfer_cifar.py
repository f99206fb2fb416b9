"""CIFAR-10 from MobileNetV2's features against the usual way, on the same images and size.

The usual way runs the frozen body again in every epoch (PyTorch eager, float32, no gradients in the
body, Adam on a dense head, batch 128, ten epochs), as tutorials do. Ours is everything from decoded
images to answers on test: features, heads of three strengths, choice on validation.

The usual way on all images would take an hour, so it is measured in two parts, and says so:
1. It is really trained for all ten epochs on some 1,500 training images. Its seconds, times the
   ratio of the images, are those on all of them: every image costs the same.
2. As its body is frozen and its images do not change, its head can be trained on cached features
   of the same body, which is how its accuracy on all images is found. Part 1 shows whether that
   is so: the same head, really trained, must agree with the cached one within 0.3 points.

Claims: >= 80 % on the test images within the time of two usual epochs; >= 8 times faster than ten
to the same accuracy (within 0.3 points, or better); five more heads on the cache in 20 s each.
Beside them, the bundled cifar10-small and the transferred net, paired on the same test images.
Run: GLASSHOUSE_DATA=DATA python bench/transfer_cifar.py [--images N] [--size N] [--flips]
With --images, a share of train and test, for a busy machine; what it prints is then no claim.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from contest import data_folder, judge, machine
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.data.sources import load_splits
from glasshouse.data.splits import limit
from glasshouse.evaluation.compare import compare
from glasshouse.models.backbone import ResizedInput, backbone_of
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import Classifier, scale
from glasshouse.models.predict import Predictions, predict
from glasshouse.settings import DataSettings, HeadKind, PretrainedSettings
from glasshouse.training.adapting import adapt
from glasshouse.training.features import Features, make_extractor
from glasshouse.training.folds import rows_of
from glasshouse.training.head_choice import choose_head
from glasshouse.training.heads import HeadSettings, fit_heads, head_logits
from glasshouse.workflow.train.feature_run import SplitFeatures, head_predictions, split_features

DATA = data_folder()
BATCH, EPOCHS = 128, 10
# What the usual way is really run on: so many training images, and test images.
TAUGHT, ASKED = 1_500, 2_000
SETTINGS = HeadSettings(strengths=(0.001, 0.003, 0.01))
MORE: tuple[tuple[HeadKind, float], ...] = (
    ("linear", 1.0), ("mlp", 1.0), ("logistic", 0.0003), ("logistic", 0.03), ("logistic", 0.1),
)  # fmt: skip
Run = Callable[[np.ndarray], Tensor]


@dataclass(frozen=True)
class Ours:
    """The transferred net's answers on test, what it took, and its features."""

    seconds: float
    predictions: Predictions
    features: SplitFeatures


def images(count: int | None) -> Splits:
    splits = load_splits("cifar10", DataSettings(train_limit=count), data_dir=DATA)
    if count is None:
        return splits
    few = [
        take(part, _some(part, count // share))
        for part, share in ((splits.validation, 8), (splits.test, 4))
    ]
    return Splits(splits.train, few[0], few[1])


def ours(classifier: Classifier, splits: Splits, flips: bool) -> Ours:
    started = time.perf_counter()
    extractor = make_extractor(classifier, splits.train)
    features = split_features(extractor, splits, flips=flips)
    best = choose_head(features.train, features.validation, SETTINGS).best
    predictions = head_predictions(best, features.test)
    seconds = time.perf_counter() - started
    say("ours", seconds=seconds, feature_seconds=features.seconds, head=best.describe(),
        note=extractor.describe(), accuracy=accuracy(predictions))  # fmt: skip
    return Ours(seconds, predictions, features)


def five_more_heads(features: SplitFeatures) -> list[float]:
    found = []
    for kind, strength in MORE:
        began = time.perf_counter()
        settings = HeadSettings(kinds=(kind,), strengths=(strength,))
        fit_heads(features.train, features.validation, settings)
        found.append(time.perf_counter() - began)
    say("five more heads on the cache", seconds=[round(each, 1) for each in found])
    return found


def usual(classifier: Classifier, splits: Splits, size: int, found: Ours) -> tuple[float, float]:
    """Seconds of an epoch of all images, and points between the real way and its stand-in."""
    train, test = splits.train, splits.test
    taught, asked = _some(train, TAUGHT), _some(test, ASKED)
    run = body_of_usual(classifier, size)
    started = time.perf_counter()
    head = head_training(lambda rows: run(train.pixels[taught[rows]]), train.labels[taught])
    seconds = time.perf_counter() - started
    epoch = seconds / EPOCHS * len(train) / len(taught)
    real = torch.cat([head(run(test.pixels[rows])) for rows in _batches(asked)]).detach().numpy()
    some = rows_of(found.features.train, taught)
    cached = cached_way(some, found.features.test)[asked]
    best = choose_head(some, found.features.validation, SETTINGS).best
    own = head_logits(best.layers, found.features.test.values)[asked]
    labels = test.labels[asked]
    theirs, stand_in, own_share = (
        100 * float((each.argmax(axis=1) == labels).mean()) for each in (real, cached, own)
    )
    say(f"the usual way, really trained on {len(taught):,} images for {EPOCHS} epochs",
        seconds=seconds, accuracy=theirs, of_test_images=len(asked),
        its_head_on_cached_features=stand_in, ours_on_the_same=own_share,
        same_answers=float((real.argmax(axis=1) == cached.argmax(axis=1)).mean()))  # fmt: skip
    say(f"... scaled to {len(train):,} images", epoch_seconds=epoch, ten_epochs=EPOCHS * epoch)
    return epoch, theirs - stand_in


def body_of_usual(classifier: Classifier, size: int) -> Run:
    assert isinstance(classifier.net, ResizedInput)
    body = backbone_of(classifier.net.body).eval().requires_grad_(False)

    def run(chosen: np.ndarray) -> Tensor:
        batch = scale(torch.from_numpy(chosen), classifier.preprocessing)
        with torch.no_grad():
            larger = interpolate(batch, (size, size), mode="bicubic", align_corners=False)
            found: Tensor = body(larger)
        return found

    return run


def cached_way(train: Features, test: Features) -> np.ndarray:
    """The usual way's logits on test, its head trained on features that are there already."""
    rows = torch.from_numpy(np.array(train.values, dtype=np.float32))
    return head_logits(head_training(lambda chosen: rows[chosen], train.labels), test.values)


def head_training(features: Run, labels: np.ndarray) -> nn.Module:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    head = nn.Linear(1280, 10)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for chosen in _batches(random.permutation(len(labels))):
            loss = cross_entropy(head(features(chosen)), torch.from_numpy(labels[chosen]))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return head


def beside_own(splits: Splits, transferred: Predictions) -> None:
    """The bundled net, which was trained from scratch, on the same test images."""
    started = time.perf_counter()
    own = predict(load_bundled("cifar10-small"), splits.test)
    found = compare(transferred, own, names=("mobilenetv2_100 features", "cifar10-small"))
    say("paired", seconds=time.perf_counter() - started, verdict=found.verdict)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--flips", action="store_true")
    given = parser.parse_args()
    print(machine())
    splits = images(given.images)
    settings = PretrainedSettings(
        name="mobilenetv2_100", arguments={"pad_type": "same"}, mean=0.5, std=0.5,
        weights=str(DATA / "weights/imagenet/mobilenetv2_100_tfsame.fp16.safetensors"),
        input_size=given.size,
    )  # fmt: skip
    classifier = adapt(settings, splits.train).classifier
    with tempfile.TemporaryDirectory() as cache:
        os.environ["GLASSHOUSE_CACHE"] = cache
        found = ours(classifier, splits, given.flips)
        more = five_more_heads(found.features)
        epoch, apart = usual(classifier, splits, given.size, found)
        logits = cached_way(found.features.train, found.features.test)
    labels = splits.test.labels
    theirs = 100 * float((logits.argmax(axis=1) == labels).mean())
    say("the usual way's head on all cached features", accuracy=theirs)
    beside_own(splits, found.predictions)
    own = accuracy(found.predictions)
    sys.exit(not all([
        judge("% of the test images right", own, 80),
        judge("... in so many usual epochs", found.seconds / epoch, 2, at_least=False),
        judge("points of the usual way beside its stand-in", abs(apart), 0.3, at_least=False),
        judge("points more than ten usual epochs", own - theirs, -0.3),
        judge("times faster than ten usual epochs", EPOCHS * epoch / found.seconds, 8),
        judge("seconds for the slowest of five more heads", max(more), 20, at_least=False),
    ]))  # fmt: skip


def accuracy(predictions: Predictions) -> float:
    return 100 * float((predictions.logits.argmax(axis=1) == predictions.labels).mean())


def say(what: str, **figures: Any) -> None:
    plain = {k: round(v, 2) if isinstance(v, float) else v for k, v in figures.items()}
    print(f"{what}: {json.dumps(plain)}", flush=True)


def _batches(order: np.ndarray) -> list[np.ndarray]:
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def _some(images: ImageSet, count: int) -> np.ndarray:
    """Positions of so many images, as evenly over the classes as can be."""
    return limit(images.ids, images.labels, min(count, len(images)), seed=0)


if __name__ == "__main__":
    main()
