"""What an explanation says about its own maps."""

import numpy as np
import pytest

from glasshouse.explanation.methods import ALL_METHODS
from glasshouse.explanation.nouns import Activations, Explanation

ROLLOUTS = ("attention-rollout", "gradient-rollout")


@pytest.mark.parametrize("method", [*ALL_METHODS, "a method of one's own"])
def test_maps_belong_to_regions_where_they_are_coarse_or_hidden_by_squares(method: str) -> None:
    found = Explanation(
        method, np.zeros((2, 4, 6)), np.zeros((2, 3, 8, 12), np.uint8), np.zeros((2, 2)),
        np.zeros(2, np.int64), ("a", "b"),
    )  # fmt: skip
    assert len(found) == 2
    assert repr(found) == f"Explanation({method}, 2 maps of 4x6)"
    assert found.is_cam is (method in ROLLOUTS)
    assert found.is_region is (method in (*ROLLOUTS, "occlusion"))
    of_layer = Explanation(**{**vars(found), "layer": "conv"})
    assert of_layer.is_cam and of_layer.is_region
    assert repr(of_layer) == f"Explanation({method} at layer conv, 2 maps of 4x6)"
    # Of a layer, but at the size of the image, as guided Grad-CAM is.
    fine = Explanation(**{**vars(of_layer), "channels": np.zeros((2, 3, 4, 6))})
    assert not fine.is_cam and fine.is_region is (method == "occlusion")


def test_activations_say_their_layer_and_shape_and_not_their_values() -> None:
    found = Activations("relu", np.zeros((1, 64, 112, 112), np.float32))
    assert repr(found) == "Activations(layer relu, 64x112x112 values of 1 image)"
