"""Whether an exported file predicts the same as the classifier."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import ModelError
from glasshouse.export.onnx import in_float32
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import logits_of

_TOLERANCE = 1e-4
_SEEDED = 24


@dataclass(frozen=True)
class Parity:
    """Number of images; largest difference of a probability; images with the same top class."""

    images: int
    difference: float
    same_class: int


def check_parity(
    classifier: Classifier, path: Path, images: NDArray[np.uint8] | None = None
) -> Parity:
    """Compare the file's probabilities, computed by onnxruntime, with the classifier's in float32.

    images: uint8 ``(n, 3, h, w)`` of the network's size; by default, fine and coarse noise. Raises
    ModelError if onnxruntime cannot run the file, or a probability differs by more than 0.0001.
    """
    shown = _noise(classifier) if images is None else images
    own = classifier.to_probabilities(logits_of(in_float32(classifier), shown))
    found = _run(path, shown)
    parity = Parity(
        len(shown),
        float(np.abs(own - found).max()),
        int((own.argmax(1) == found.argmax(1)).sum()),
    )
    # Negated, so that NaN fails as well.
    if not parity.difference <= _TOLERANCE:
        raise ModelError(
            f"{path} does not predict the same as the classifier: a probability differs by "
            f"{parity.difference:.2g}, more than {_TOLERANCE:g}. Do not use it."
        )
    return parity


def _run(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        # One image alone and all together: the file must accept any number.
        name = session.get_inputs()[0].name
        together = session.run(["probabilities"], {name: images})[0]
        first = session.run(["probabilities"], {name: images[:1]})[0]
    # Its exceptions have no common base class.
    except Exception as error:
        raise ModelError(
            f"{path} was written, but onnxruntime cannot run it: {str(error).splitlines()[0]}"
        ) from error
    return np.concatenate([first, together[1:]]).astype(np.float64)


def _noise(classifier: Classifier) -> NDArray[np.uint8]:
    """Noise from single pixels to large patches of one colour."""
    random = np.random.default_rng(0)
    height, width = classifier.preprocessing.height, classifier.preprocessing.width
    images = []
    for index in range(_SEEDED):
        patch = 2 ** (index % 6)
        rows, columns = -(-height // patch), -(-width // patch)
        small = random.integers(0, 256, (3, rows, columns), dtype=np.uint8)
        large = small.repeat(patch, axis=1).repeat(patch, axis=2)
        images.append(large[:, :height, :width])
    return np.stack(images)
