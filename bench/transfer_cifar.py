"""CIFAR-10 from MobileNetV2's features against the usual way, on the same pictures and size.

The usual way runs the frozen body again in every epoch (PyTorch eager, float32, no gradients in the
body, Adam on a dense head, batch 128), as tutorials do. Claims: >= 80 % on the test pictures within
the time of two of its epochs; >= 8 times faster than ten of its epochs to the same accuracy (within
0.3 points); five more heads on the cache in at most 20 s each.
Run: GLASSHOUSE_DATA=DATA python bench/transfer_cifar.py [--pictures N] [--size N] [--epochs N]
With --pictures, a share of train and test, for a busy machine; what it prints is then no claim.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.data.sources import load_splits
from glasshouse.data.splits import limit
from glasshouse.models.adapted import Enlarged, body_of
from glasshouse.models.classifier import Classifier, scale
from glasshouse.settings import DataSettings, PretrainedSettings
from glasshouse.training.adapting import adapt
from glasshouse.training.features import make_extractor
from glasshouse.training.heads import HeadSettings, best_head, fit_heads, head_logits
from glasshouse.workflow.transfer import split_features

DATA = Path(os.environ["GLASSHOUSE_DATA"])
BATCH = 128


def pictures(count: int | None) -> Splits:
    splits = load_splits("cifar10", DataSettings(train_limit=count), data_dir=DATA)
    if count is None:
        return splits
    few = [
        _some(part, count // share) for part, share in ((splits.validation, 8), (splits.test, 4))
    ]
    return Splits(splits.train, few[0], few[1])


def ours(classifier: Classifier, splits: Splits, flips: bool) -> dict[str, object]:
    started = time.perf_counter()
    extractor = make_extractor(classifier, splits.train)
    features = split_features(extractor, splits, flips=flips)
    settings = HeadSettings(strengths=(0.001, 0.003, 0.01))
    best = best_head(fit_heads(features.train, features.validation, settings))
    answers = head_logits(best.layers, features.test.values).argmax(axis=1)
    seconds = time.perf_counter() - started
    more = []
    for kind, strengths in (
        ("linear", ()),
        ("mlp", ()),
        *(("logistic", (c,)) for c in (0.0003, 0.03, 0.1)),
    ):
        began = time.perf_counter()
        given = HeadSettings(kinds=(kind,), strengths=strengths or (1.0,))  # type: ignore[arg-type]
        fit_heads(features.train, features.validation, given)
        more.append(round(time.perf_counter() - began, 1))
    return {
        "way": "features",
        "seconds": round(seconds, 1),
        "feature_seconds": round(features.seconds, 1),
        "precision": str(extractor.body.precision),
        "head": best.describe(),
        "accuracy": float((answers == splits.test.labels).mean()),
        "five_more_heads": more,
    }


def usual(
    classifier: Classifier, splits: Splits, size: int, epochs: int
) -> list[dict[str, object]]:
    assert isinstance(classifier.net, Enlarged)
    body = body_of(classifier.net.body).eval().requires_grad_(False)
    head = nn.Linear(1280, len(splits.class_names))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    random = np.random.default_rng(0)
    found: list[dict[str, object]] = []
    seconds = 0.0

    def features(positions: np.ndarray, images: ImageSet) -> torch.Tensor:
        batch = scale(torch.from_numpy(images.pictures[positions]), classifier.preprocessing)
        with torch.no_grad():
            return body(interpolate(batch, (size, size), mode="bicubic", align_corners=False))

    for epoch in range(epochs):
        started = time.perf_counter()
        order = random.permutation(len(splits.train))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            labels = torch.from_numpy(splits.train.labels[chosen])
            loss = cross_entropy(head(features(chosen, splits.train)), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds += time.perf_counter() - started
        found.append({"way": "usual", "epoch": epoch + 1, "seconds": round(seconds, 1)})
        print(json.dumps(found[-1]), flush=True)
    parts = np.array_split(np.arange(len(splits.test)), max(1, len(splits.test) // BATCH))
    answers = np.concatenate([head(features(p, splits.test)).argmax(dim=1).numpy() for p in parts])
    found[-1]["accuracy"] = float((answers == splits.test.labels).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--flips", action="store_true")
    given = parser.parse_args()
    splits = pictures(given.pictures)
    settings = PretrainedSettings(
        name="mobilenetv2_100", arguments={"pad_type": "same"}, mean=0.5, std=0.5,
        weights=str(DATA / "weights/imagenet/mobilenetv2_100_tfsame.fp16.safetensors"),
        input_size=given.size,
    )  # fmt: skip
    classifier = adapt(settings, splits.train).classifier
    with tempfile.TemporaryDirectory() as cache:
        os.environ["GLASSHOUSE_CACHE"] = cache
        fast = ours(classifier, splits, given.flips)
    print(json.dumps(fast), flush=True)
    slow = usual(classifier, splits, given.size, given.epochs)[-1]
    each = float(str(slow["seconds"])) / given.epochs
    taken = float(str(fast["seconds"]))
    figures = {
        "usual": slow,
        "epochs_in_our_time": round(taken / each, 2),
        "times_faster_than_10_epochs": round(10 * each / taken, 1),
    }
    print(json.dumps(figures))


def _some(images: ImageSet, count: int) -> ImageSet:
    return take(images, np.sort(limit(images.ids, images.labels, count, seed=0)))


if __name__ == "__main__":
    main()
