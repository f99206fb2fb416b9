import numpy as np
import pytest

from glasshouse.errors import UsageError
from glasshouse.explanation.draw.mosaic import channel_grid, mosaic
from glasshouse.explanation.draw.tiles import draw_channel
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


def test_a_dead_channel_is_crossed_out_in_grey_at_any_size() -> None:
    values = np.random.default_rng(0).random((1, 4, 4, 4))
    values[0, 1] = 0
    for factor in (1, 8):
        side = 4 * factor
        pixels = mosaic(channel_grid(Activations("conv", values)), factor)
        dead, alive = pixels[:side, -side:, :3], pixels[:side, :side, :3]
        assert (dead == dead[..., :1]).all() and not (alive == alive[..., :1]).all()
        corners = dead[[0, 0, -1, -1], [0, -1, 0, -1], 0]
        assert (corners == corners[0]).all() and (dead[0, side // 2] > corners[0]).all()


def test_a_dead_channel_alone_says_so() -> None:
    layer = Activations("conv", np.zeros((1, 2, 4, 4)))
    layer.values[0, 1, 2, 2] = 1.0
    dead, alive = (np.asarray(draw_channel(layer, channel)) for channel in (0, 1))
    inside = slice(40, 300), slice(20, 340)
    assert (dead[inside] == dead[inside][..., :1]).all()
    assert not (alive[inside] == alive[inside][..., :1]).all()


def test_a_mosaic_shows_every_tile_and_nothing_between_them() -> None:
    values = np.arange(3 * 4 * 4, dtype=np.float64).reshape(1, 3, 4, 4)
    pixels = mosaic(channel_grid(Activations("conv", values), columns=2), 3)
    assert pixels.shape == (2 * 12 + 1, 2 * 12 + 1, 4)
    assert (pixels[:12, :12, 3] == 255).all() and (pixels[:, 12, 3] == 0).all()
    assert (pixels[13:, 13:, 3] == 0).all()
    np.testing.assert_array_equal(pixels[:3, :3, :3], np.broadcast_to(pixels[0, 0, :3], (3, 3, 3)))


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 2, 3, 4, 5), (7,)])
def test_outputs_that_are_neither_maps_nor_flat_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"of layer deep is .* expected channels with rows and"):
        channel_grid(Activations("deep", np.zeros(shape)))
