from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glasshouse.data.images import ImageSet
from glasshouse.errors import BadImage, UsageError
from glasshouse.explanation.activations import activations
from tests.explanation.nets import classifier_of, module_net, some_images


def test_activations_are_the_outputs_of_the_named_layers() -> None:
    classifier = classifier_of(module_net(inplace=True))
    first, last = activations(classifier, some_images(2), ["0", "8"])
    assert (first.values < 0).any() and first.values.shape == (2, 6, 14, 14)
    assert last.values.shape == (2, 5)
    with pytest.raises(UsageError, match="no layer '77'"):
        activations(classifier, some_images(2), ["77"])


def test_whatever_can_be_predicted_has_activations(tmp_path: Path) -> None:
    classifier, images = classifier_of(module_net()), some_images(2)
    (expected,) = activations(classifier, images, ["8"])
    rows = [Image.fromarray(each.transpose(1, 2, 0)) for each in images]
    for number, row in enumerate(rows):
        row.save(tmp_path / f"{number}.png")
    given: dict[str, Any] = {
        "paths": sorted(tmp_path.glob("*.png")),
        "a glob": tmp_path.glob("*.png"),
        "pillow": rows,
        "arrays": [np.asarray(row) for row in rows],
        "a set": ImageSet.from_arrays(images, [0, 1]),
    }
    for what, each in given.items():
        (found,) = activations(classifier, each, ["8"])
        np.testing.assert_array_equal(found.values, expected.values, err_msg=what)
    (alone,) = activations(classifier, str(tmp_path / "1.png"), ["8"])
    np.testing.assert_allclose(alone.values, expected.values[1:], rtol=1e-4, atol=1e-5)
    with pytest.raises(BadImage, match="the file does not exist"):
        activations(classifier, "nowhere.png", ["8"])
    (first,) = activations(classifier, images[0], ["8"])
    np.testing.assert_allclose(first.values, expected.values[:1], rtol=1e-4, atol=1e-5)
