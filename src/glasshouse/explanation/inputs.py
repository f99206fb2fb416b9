"""Images as the network sees them, and classes as the user names them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glasshouse.errors import DataError, UsageError
from glasshouse.explanation.nouns import class_position
from glasshouse.models.classifier import Classifier, scale
from glasshouse.models.conformity import ConformityScores
from glasshouse.models.image_inputs import of_network_size
from glasshouse.models.predict import device_of
from glasshouse.models.views import MeanOfViews, Views

Target = str | int
Targets = Target | Sequence[Target] | NDArray[np.int64]


class Explainable(Protocol):
    """What explanations need of a classifier; without class names, classes are numbers."""

    @property
    def net(self) -> nn.Module:
        """From inputs to logits ``(n, k)``."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits; empty where they are not known."""

    @property
    def temperature(self) -> float:
        """What logits are divided by for calibrated probabilities."""

    @property
    def views(self) -> Views:
        """Whose mean logits are the answer."""

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """Of each label, where an image may have several; None where it has one."""

    @property
    def conformity(self) -> ConformityScores | None:
        """What prediction sets follow from; None for a classifier that has none."""


def as_batch(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One image ``(3, h, w)`` or several ``(n, 3, h, w)`` as several.

    Raises DataError for anything but uint8 RGB images.
    """
    batch = np.asarray(images)
    batch = batch[None] if batch.ndim == 3 else batch
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1] != 3 or not batch.size:
        raise DataError(
            "expected decoded images, uint8 (n, 3, h, w) with values 0 to 255, got "
            f"{batch.dtype} {np.shape(images)}; files are decoded by read_images"
        )
    return np.ascontiguousarray(batch)


def as_inputs(classifier: Classifier, images: NDArray[np.uint8]) -> Tensor:
    """The network's input ``(n, 3, h, w)`` for uint8 images, on its device.

    In float64 for a network in float64, else in float32. Raises DataError for images of another
    size than the network takes.
    """
    pixels = of_network_size(as_batch(images), classifier.preprocessing)
    batch = torch.from_numpy(pixels.copy())
    weight = next((p for p in classifier.net.parameters() if p.is_floating_point()), None)
    with torch.inference_mode(False):
        inputs = scale(batch.to(device_of(classifier.net)), classifier.preprocessing)
        return inputs.double() if weight is not None and weight.dtype == torch.float64 else inputs


def answering(classifier: Explainable) -> nn.Module:
    """The network whose logits ``(n, k)`` are the classifier's answer, a mean over its views."""
    views = classifier.views
    return classifier.net if views.count == 1 else MeanOfViews(classifier.net, views)


def as_positions(
    targets: Targets | None, class_names: tuple[str, ...], logits: Tensor
) -> NDArray[np.int64]:
    """The class of each image ``(n,)`` as a position in class_names; None: the predicted one.

    Raises UsageError for an unknown class, or for a number of classes other than that of images.
    """
    count = len(logits)
    if targets is None:
        return logits.detach().argmax(1).cpu().numpy()
    require_count(targets, count)
    if isinstance(targets, str | int | np.integer):
        targets = (targets,) * count
    known = class_names or tuple(str(i) for i in range(logits.shape[1]))
    found = [class_position(target, known) for target in targets]
    return np.asarray(found, dtype=np.int64)


def require_count(targets: Targets | None, count: int) -> None:
    """Raise UsageError unless there is one class for all images, or one for each."""
    if targets is None or isinstance(targets, str | int | np.integer) or len(targets) == count:
        return
    raise UsageError(
        f"expected one class for all images or one for each of the {count}, got {len(targets)}"
    )
