"""Predictions with mistakes, and the images to them."""

import numpy as np
import pytest

from glasshouse.data.images import ImageSet
from glasshouse.models.predict import Predictions


def make_predictions(n: int = 300, classes: int = 4, *, seed: int = 0) -> Predictions:
    """Noisy logits of as many classes, right on about three of four images."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    logits = 2 * generator.normal(size=(n, classes)) + 4 * np.eye(classes)[labels]
    ids = np.array([f"test/{i:04d}" for i in range(n)])
    names = tuple(f"class {c}" for c in range(classes))
    return Predictions(logits.astype(np.float32), labels, ids, names, 1.4)


def make_epochs(count: int = 3) -> list[dict[str, float]]:
    """Lines of metrics.jsonl."""
    return [
        {
            "epoch": epoch, "train_loss": 2 / epoch, "train_accuracy": 1 - 0.6 / epoch,
            "validation_loss": 2.2 / epoch, "validation_accuracy": 0.9 - 0.5 / epoch,
            "lr": 0.001, "seconds": 2.5, "images_per_second": 1234.5,
        }
        for epoch in range(1, count + 1)
    ]  # fmt: skip


@pytest.fixture
def predictions() -> Predictions:
    return make_predictions()


@pytest.fixture
def images(predictions: Predictions) -> ImageSet:
    images = np.random.default_rng(1).integers(0, 256, (len(predictions), 3, 8, 8), dtype=np.uint8)
    return ImageSet(images, predictions.labels, predictions.ids, predictions.class_names)
