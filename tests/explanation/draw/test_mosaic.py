import numpy as np

from glasshouse.explanation.draw.mosaic import channel_grid, mosaic
from glasshouse.explanation.nouns import Activations


def test_a_grid_keeps_every_channel_and_marks_the_dead() -> None:
    values = np.random.default_rng(0).random((1, 10, 4, 4))
    values[0, 3] = 0.5
    layer = Activations("conv", values)
    before = values.copy()
    grid = channel_grid(layer)
    assert grid.tiles.shape == (3, 4, 4, 4)
    assert np.isnan(grid.tiles[2, 2:]).all() and np.isfinite(grid.tiles[2, :2]).all()
    assert np.flatnonzero(grid.dead).tolist() == [3]
    np.testing.assert_array_equal(values, before)
    shared = channel_grid(layer, columns=5, shared_scale=True)
    np.testing.assert_allclose(shared.tiles[1, 2], (values[0, 7] - values.min()) / np.ptp(values))


def test_a_mosaic_shows_every_tile_and_nothing_between_them() -> None:
    values = np.arange(3 * 4 * 4, dtype=np.float64).reshape(1, 3, 4, 4)
    pixels = mosaic(channel_grid(Activations("conv", values), columns=2), 3)
    assert pixels.shape == (2 * 12 + 1, 2 * 12 + 1, 4)
    assert (pixels[:12, :12, 3] == 255).all() and (pixels[:, 12, 3] == 0).all()
    assert (pixels[13:, 13:, 3] == 0).all()
    np.testing.assert_array_equal(pixels[:3, :3, :3], np.broadcast_to(pixels[0, 0, :3], (3, 3, 3)))
