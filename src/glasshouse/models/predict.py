"""The only forward pass in evaluation mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glasshouse.data.images import ImageSet
from glasshouse.data.pixel_blocks import gather
from glasshouse.errors import StorageError
from glasshouse.models.classifier import Classifier, Preprocessing, scale
from glasshouse.storage import read_tensors, write_tensors

# Input values per pass, those of 32 images of 224x224: more would need memory and save no time.
_MOST_VALUES = 32 * 3 * 224 * 224


@dataclass(frozen=True)
class Predictions:
    """Raw logits ``(n, k)`` with labels and ids ``(n,)``; all metrics are pure functions of it."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    temperature: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Predictions({len(self):,} images, {len(self.class_names)} classes)"


def predict(classifier: Classifier, images: ImageSet, *, batch_size: int = 256) -> Predictions:
    """The logits of every image, in order, in float32; the network is left unchanged."""
    return Predictions(
        logits=logits_of(classifier, images.pixels, batch_size=batch_size),
        labels=images.labels,
        ids=images.ids,
        class_names=classifier.class_names,
        temperature=classifier.temperature,
    )


def logits_of(
    classifier: Classifier, pixels: NDArray[np.uint8], *, batch_size: int = 256
) -> NDArray[np.float32]:
    """Logits ``(n, k)`` of decoded images alone, uint8 ``(n, 3, h, w)`` of the network's size.

    Includes the mirrored view where the classifier uses one. batch_size: an upper bound; the
    results of an image do not depend on it beyond rounding.
    """
    logits = predict_logits(
        classifier.net,
        classifier.preprocessing,
        pixels,
        batch_size=batch_size,
        mirror=classifier.mirror,
    )
    return logits.numpy()


def classify(
    classifier: Classifier, pixels: NDArray[np.uint8], *, batch_size: int = 256
) -> NDArray[np.float64]:
    """Probabilities ``(n, k)`` of decoded images alone, uint8 ``(n, 3, h, w)``; see `logits_of`.

    Calibrated where the classifier's temperature is that of a calibration.
    """
    logits = logits_of(classifier, pixels, batch_size=batch_size).astype(np.float64)
    return softmax(logits / classifier.temperature)


def predict_logits(
    net: nn.Module,
    preprocessing: Preprocessing,
    images: NDArray[np.uint8],
    *,
    batch_size: int = 256,
    precision: torch.dtype = torch.float32,
    mirror: bool = False,
) -> Tensor:
    """Logits ``(n, k)`` of uint8 images ``(n, 3, h, w)``, on the CPU in float32.

    batch_size: an upper bound; large images are processed in smaller batches. mirror: the mean of
    the logits of each image and its mirror image.
    """
    device = device_of(net)
    batch_size = max(1, min(batch_size, _MOST_VALUES // max(1, images[:1].size)))
    parts = []
    with evaluating(net), torch.inference_mode(), autocast(device, precision):
        for start in range(0, len(images), batch_size):
            positions = np.arange(start, min(start + batch_size, len(images)))
            batch = torch.from_numpy(gather(images, positions)).to(device)
            # The layout that convolutions on CPUs and GPUs compute fastest in.
            inputs = scale(batch, preprocessing).contiguous(memory_format=torch.channels_last)
            logits = net(inputs).float()
            if mirror:
                logits = (logits + net(inputs.flip(-1)).float()) / 2
            parts.append(logits.cpu())
    return torch.cat(parts)


def save_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions as one safetensors file; equal predictions give equal bytes."""
    tensors = {
        "logits": torch.from_numpy(predictions.logits),
        "labels": torch.from_numpy(predictions.labels),
    }
    metadata = {
        "ids": predictions.ids.tolist(),
        "class_names": list(predictions.class_names),
        "temperature": predictions.temperature,
    }
    write_tensors(path, tensors, metadata)


def load_predictions(path: Path) -> Predictions:
    """Read what save_predictions wrote; raises StorageError when it is missing or damaged."""
    tensors, metadata = read_tensors(path)
    try:
        return Predictions(
            tensors["logits"].numpy(),
            tensors["labels"].numpy(),
            np.array(metadata["ids"], dtype=np.str_),
            tuple(metadata["class_names"]),
            float(metadata["temperature"]),
        )
    except KeyError as error:
        raise StorageError(f"{path} has no predictions: {error} is missing") from error


def probabilities(predictions: Predictions) -> NDArray[np.float64]:
    """``softmax(logits / temperature)``, shape ``(n, k)``."""
    return softmax(predictions.logits.astype(np.float64) / predictions.temperature)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities over the last axis, computed in float64 whatever the logits come in."""
    return torch.from_numpy(np.asarray(logits, dtype=np.float64)).softmax(-1).numpy()


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logarithms of ``softmax``, finite even where a probability underflows to 0."""
    return torch.from_numpy(np.asarray(logits, dtype=np.float64)).log_softmax(-1).numpy()


def most_probable(
    shares: NDArray[np.float64], class_names: tuple[str, ...], top: int
) -> list[dict[str, str | float]]:
    """The most probable classes of one image's probabilities ``(k,)``, best first.

    Each with its name and its probability rounded to six digits, as `predict` and the service
    return them.
    """
    return [
        {
            "class": class_names[k] if class_names else str(k),
            "probability": round(float(shares[k]), 6),
        }
        for k in shares.argsort()[::-1][:top]
    ]


def device_of(net: nn.Module) -> torch.device:
    """Where the network computes: the device of its parameters; the CPU where it has none."""
    return next((p.device for p in net.parameters()), torch.device("cpu"))


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module has its previous mode again."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Mixed precision on this device; float32 disables it."""
    enabled = precision != torch.float32
    return torch.autocast(
        device.type, dtype=precision if enabled else torch.bfloat16, enabled=enabled
    )
