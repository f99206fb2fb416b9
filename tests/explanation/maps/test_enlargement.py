import numpy as np
import torch

from glasshouse.explanation.maps.enlargement import enlarge, shown
from glasshouse.explanation.nouns import Explanation
from tests.explanation.nets import NAMES, some_images


def explanation_of(maps: object, layer: str | None) -> Explanation:
    values = np.asarray(maps, dtype=np.float64)
    return Explanation(
        method="grad-cam" if layer else "saliency",
        maps=values,
        images=some_images(1, side=4),
        logits=np.zeros((1, 5)),
        targets=np.zeros(1, dtype=np.int64),
        class_names=NAMES,
        layer=layer,
    )


def test_enlarging_is_bilinear_with_half_pixel_centres() -> None:
    found = enlarge(torch.tensor([[[0.0, 1.0]]]), 1, 4)
    np.testing.assert_allclose(found[0, 0], [0, 0.25, 0.75, 1])


def test_a_class_activation_map_is_shown_where_it_speaks_for_the_class() -> None:
    cam = explanation_of([[[-1.0, 1.0], [-1.0, 1.0]]], "conv")
    assert cam.is_cam
    np.testing.assert_allclose(shown(cam)[0, 0], [0, 0.25, 0.75, 1])
    assert shown(cam, (8, 6)).shape == (1, 8, 6)


def test_a_map_of_the_images_own_size_keeps_its_pixels_and_signs() -> None:
    maps = np.arange(16.0).reshape(1, 4, 4) - 8
    saliency = explanation_of(maps, None)
    np.testing.assert_array_equal(shown(saliency), maps)
    np.testing.assert_array_equal(shown(saliency, (8, 8))[0], maps[0].repeat(2, 0).repeat(2, 1))
