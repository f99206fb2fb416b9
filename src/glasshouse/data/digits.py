"""Handwritten digits without a download: the 1,797 images that come with scikit-learn.

Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", the test half.
"""

import numpy as np

from glasshouse.data.images import ImageSet

CLASS_NAMES = tuple(str(digit) for digit in range(10))


def read_digits() -> ImageSet:
    """1,797 images of 8x8 pixels, grey in three equal channels, with ids like "digits/0042"."""
    # Local: scikit-learn and SciPy take a second to import, and only this source needs them.
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    grey = np.rint(values * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    ids = np.array([f"digits/{number:04d}" for number in range(len(labels))])
    return ImageSet(np.repeat(grey, 3, axis=1), labels.astype(np.int64), ids, CLASS_NAMES)
