import numpy as np

from glasshouse.data.made_outliers import made_outliers


def images(count: int = 6, height: int = 9, width: int = 11) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def test_outliers_have_the_shape_of_the_images_and_follow_the_seed() -> None:
    pixels = images()
    before = pixels.copy()
    first, again, other = made_outliers(pixels), made_outliers(pixels), made_outliers(pixels, 1)
    assert np.array_equal(pixels, before)
    for kind, made in first.items():
        assert made.shape == pixels.shape and made.dtype == np.uint8
        assert np.array_equal(made, again[kind])
        assert (made != pixels).mean() > 0.5
    assert not np.array_equal(first["scattered"], other["scattered"])


def test_moved_pixels_keep_their_colours_and_pieces_stay_whole() -> None:
    pixels = images(height=8, width=8)
    made = made_outliers(pixels)
    for kind in ("scattered", "shuffled"):
        for new, old in zip(made[kind], pixels, strict=True):
            colours = (sorted(map(tuple, each.reshape(3, -1).T.tolist())) for each in (new, old))
            assert next(colours) == next(colours)
    pieces = {
        pixels[0, :, y : y + 2, x : x + 2].tobytes() for y in (0, 2, 4, 6) for x in (0, 2, 4, 6)
    }
    new = made["shuffled"][0]
    assert {
        new[:, y : y + 2, x : x + 2].tobytes() for y in (0, 2, 4, 6) for x in (0, 2, 4, 6)
    } == pieces


def test_a_blend_is_the_mean_of_an_image_and_another() -> None:
    pixels = images(count=2)
    mean = (pixels[0].astype(int) + pixels[1] + 1) // 2
    assert all(np.array_equal(each, mean) for each in made_outliers(pixels)["blended"])


def test_a_single_small_image_leaves_outliers_of_its_size() -> None:
    for made in made_outliers(images(1, 3, 2)).values():
        assert made.shape == (1, 3, 3, 2)


def test_strokes_lie_on_flat_ground_cells_are_flat_and_grains_keep_the_mean() -> None:
    pixels = (images(6, 32, 32) // 3 + 80).astype(np.uint8)
    made = made_outliers(pixels)
    for old, strokes, cells, grains in zip(
        pixels, made["strokes"], made["cells"], made["grains"], strict=True
    ):
        low, high = (np.rint(np.percentile(old, share, axis=(1, 2))) for share in (5, 95))
        colours, counts = np.unique(strokes.reshape(3, -1), axis=1, return_counts=True)
        ground = colours[:, counts.argmax()]
        assert counts.max() > 300 and (np.array_equal(ground, low) or np.array_equal(ground, high))
        # The line is there, in the other colour or nearly so.
        other = low if np.array_equal(ground, high) else high
        assert (
            np.abs(strokes.reshape(3, -1).T - other).max(axis=1).min() <= 0.5 * (high - low).max()
        )
        known = set(map(tuple, old.reshape(3, -1).T.tolist()))
        found = set(map(tuple, cells.reshape(3, -1).T.tolist()))
        assert found <= known and 1 <= len(found) <= 12
        assert np.abs(grains.mean(axis=(1, 2)) - old.mean(axis=(1, 2))).max() < 15
