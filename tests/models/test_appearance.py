"""Statistics of how images look."""

import numpy as np
import pytest

from glasshouse.models.appearance import appearance_of

FLOOR = np.log(1 / 255)


def test_a_flat_image_has_a_colour_and_no_contrast_at_any_scale() -> None:
    pixels = np.empty((1, 3, 32, 32), np.uint8)
    pixels[:] = np.array([255, 51, 0])[:, None, None]
    (found,) = appearance_of(pixels)
    np.testing.assert_allclose(found[:3], [0.4, 0.5, (0.4 - 1) / 4], rtol=1e-5)
    # Contrasts of three planes, then three wavelets with three numbers at each of four scales.
    assert found.shape == (3 + 3 + 4 * 3 * 3 * 3,)
    np.testing.assert_allclose(found[3:], FLOOR, rtol=1e-4)


def test_each_wavelet_sees_its_own_direction_and_scale() -> None:
    columns = np.arange(16) % 2 * 255
    upright = np.broadcast_to(columns, (1, 3, 16, 16)).astype(np.uint8)
    chequered = (upright + np.swapaxes(upright, 2, 3)).astype(np.uint8) & 1
    for pixels, place in (
        (upright, 0),
        (np.swapaxes(upright, 2, 3).copy(), 1),
        ((chequered * 255).astype(np.uint8), 2),
    ):
        wavelets = appearance_of(pixels)[0, 6:].reshape(3, 3, 3, 3)  # scale, wavelet, number, plane
        light = wavelets[0, :, 0, 0]
        assert light[place] == pytest.approx(np.log(1 + 1 / 255), rel=1e-4)
        np.testing.assert_allclose(np.delete(light, place), FLOOR, rtol=1e-4)
        # Two by two pixels are the same grey everywhere, and grey has no colour.
        np.testing.assert_allclose(wavelets[1:], FLOOR, rtol=1e-4)
        np.testing.assert_allclose(wavelets[..., 1:], FLOOR, rtol=1e-4)


def test_edges_on_flat_ground_are_told_from_texture_of_the_same_strength() -> None:
    edge = np.zeros((1, 3, 16, 16), np.uint8)
    edge[..., 8:] = 255
    power, mean, logarithm = appearance_of(edge)[0, 6:].reshape(3, 3, 3, 3)[0, 0, :, 0]
    assert power == pytest.approx(np.log(np.sqrt(1 / 15) + 1 / 255), rel=1e-4)
    assert mean == pytest.approx(np.log(1 / 15 + 1 / 255), rel=1e-4)
    assert logarithm == pytest.approx((np.log(1 + 1 / 255) + 14 * FLOOR) / 15, rel=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (5, 40)])
def test_any_size_and_number_of_images_has_finite_statistics(height: int, width: int) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (3, 3, height, width), dtype=np.uint8)
    before = pixels.copy()
    found = appearance_of(pixels)
    assert np.isfinite(found).all() and np.array_equal(pixels, before)
    np.testing.assert_allclose(found[1:2], appearance_of(pixels[1:2]), rtol=1e-5)
