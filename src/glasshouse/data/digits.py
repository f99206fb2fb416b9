"""Handwritten digits without a download: the 1,797 images that come with scikit-learn.

Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", the test half.
"""

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet

CLASS_NAMES = tuple(str(digit) for digit in range(10))


def read_digits() -> ImageSet:
    """1,797 images of 8x8 pixels, grey in three equal channels, with ids like "digits/0042"."""
    rows = _rows()
    values, labels = rows[:, :-1], rows[:, -1]
    grey = np.rint(values * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    ids = np.array([f"digits/{number:04d}" for number in range(len(labels))])
    return ImageSet(np.repeat(grey, 3, axis=1), labels.astype(np.int64), ids, CLASS_NAMES)


def _rows() -> NDArray[np.float64]:
    """64 values from 0 to 16 and the label of each image, ``(1797, 65)``."""
    # Importing scikit-learn takes most of a second, also in every process that trains on digits.
    spec = importlib.util.find_spec("sklearn")
    for place in (spec.submodule_search_locations if spec is not None else None) or ():
        file = Path(place) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    # A version that keeps them elsewhere knows where.
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    return np.column_stack((values, labels))
