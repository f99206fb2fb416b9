import importlib.util

import numpy as np
import pytest
from sklearn.datasets import load_digits

from glasshouse.data.digits import read_digits


def test_digits_are_scikit_learns_at_full_range() -> None:
    images, original = read_digits(), load_digits()
    assert images.pixels.shape == (1797, 3, 8, 8)
    assert (images.pixels.min(), images.pixels.max()) == (0, 255)
    expected = np.rint(original.images * 255 / 16)
    assert all(np.array_equal(images.pixels[:, channel], expected) for channel in range(3))
    assert np.array_equal(images.labels, original.target)
    assert images.ids[42] == "digits/0042"
    assert images.class_names[7] == "7"


def test_digits_that_are_kept_elsewhere_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = read_digits()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    asked = read_digits()
    assert np.array_equal(asked.pixels, usual.pixels)
    assert np.array_equal(asked.labels, usual.labels)
