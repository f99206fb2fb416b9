"""Whether an exported file predicts the same as the classifier."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import ModelError
from glasshouse.export.onnx import PROBABILITIES, in_float32
from glasshouse.export.unknown_outputs import P_VALUE
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import logits_of

_TOLERANCE = 1e-4
# Of a p-value: rounding moves an image past others that are as unusual.
_RANKS = 0.02
_SEEDED = 24


PValues = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True)
class Parity:
    """Number of images; largest difference of a probability; images with the same answer.

    The answer is the most probable class, or all labels that reach their thresholds. p_difference:
    the largest of a p-value, where the file has them.
    """

    images: int
    difference: float
    same_class: int
    p_difference: float | None = None


def check_parity(
    classifier: Classifier,
    path: Path,
    images: NDArray[np.uint8] | None = None,
    p_values: PValues | None = None,
) -> Parity:
    """Compare the file's probabilities, computed by onnxruntime, with the classifier's in float32.

    images: uint8 ``(n, 3, h, w)`` of the network's size; by default, fine and coarse noise.
    p_values: from images and their logits, for a file that has them. Raises ModelError if
    onnxruntime cannot run the file, or a probability differs by more than 0.0001 or a p-value by
    more than 0.02.
    """
    shown = _noise(classifier) if images is None else images
    logits = logits_of(in_float32(classifier), shown)
    own = classifier.to_probabilities(logits)
    found = _run(path, shown, PROBABILITIES)
    parity = Parity(
        len(shown),
        float(np.abs(own - found).max()),
        int((_answers(classifier, own) == _answers(classifier, found)).all(1).sum()),
    )
    # Negated, so that NaN fails as well.
    if not parity.difference <= _TOLERANCE:
        raise ModelError(
            f"{path} does not predict the same as the classifier: a probability differs by "
            f"{parity.difference:.2g}, more than {_TOLERANCE:g}. Do not use it."
        )
    if p_values is None:
        return parity
    apart = float(np.abs(p_values(shown, logits) - _run(path, shown, P_VALUE)).max())
    if not apart <= _RANKS:
        raise ModelError(
            f"{path} does not say the same of unusual images as the run: a p-value differs by "
            f"{apart:.2g}, more than {_RANKS:g}. Do not use it."
        )
    return replace(parity, p_difference=apart)


def _answers(classifier: Classifier, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """What is answered to each image, ``(n, any)``; of several labels, many may be as probable."""
    if classifier.thresholds is None:
        return np.asarray(probabilities.argmax(1)[:, None], dtype=np.int64)
    return (probabilities >= np.asarray(classifier.thresholds)).astype(np.int64)


def _run(path: Path, images: NDArray[np.uint8], output: str) -> NDArray[np.float64]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        # One image alone and all together: the file must accept any number.
        name = session.get_inputs()[0].name
        together = session.run([output], {name: images})[0]
        first = session.run([output], {name: images[:1]})[0]
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
