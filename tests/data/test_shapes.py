import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from glasshouse.data.images import ImageSet, take
from glasshouse.data.shapes import CLASS_NAMES, make_shapes
from glasshouse.errors import UsageError


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = make_shapes("train", 40), make_shapes("train", 40)
    assert first.pixels.tobytes() == second.pixels.tobytes()
    assert first.masks is not None
    assert second.masks is not None
    assert np.array_equal(first.masks, second.masks)


def test_an_image_does_not_depend_on_how_many_there_are() -> None:
    few, many = make_shapes("train", 30), make_shapes("train", 300)
    assert np.array_equal(few.pixels, many.pixels[:30])


def test_other_splits_and_seeds_give_other_images() -> None:
    train = make_shapes("train", 10).pixels
    assert not np.array_equal(train, make_shapes("test", 10).pixels)
    assert not np.array_equal(train, make_shapes("train", 10, seed=1).pixels)


def test_classes_are_balanced_and_ids_unique() -> None:
    images = make_shapes("validation", 200)
    assert np.bincount(images.labels).tolist() == [20] * len(CLASS_NAMES)
    assert len(set(images.ids.tolist())) == 200
    assert images.ids[42] == "shapes/validation/00042"


@pytest.mark.parametrize("size", [32, 48, 64])
def test_masks_cover_about_the_same_area_in_every_class_and_size(size: int) -> None:
    images = make_shapes("train", 300, size=size)
    assert images.pixels.shape == (300, 3, size, size)
    assert images.masks is not None
    areas = images.masks.mean(axis=(1, 2))
    assert areas.min() > 0.02
    means = [areas[images.labels == label].mean() for label in range(10)]
    assert max(means) < 1.25 * min(means)


def test_the_object_stands_out_from_its_surroundings() -> None:
    images = make_shapes("train", 300)
    assert images.masks is not None
    grey = images.pixels.mean(axis=1)
    inside = np.array([g[m].mean() for g, m in zip(grey, images.masks, strict=True)])
    outside = np.array([g[~m].mean() for g, m in zip(grey, images.masks, strict=True)])
    assert (np.abs(inside - outside) > 12).mean() > 0.9


def test_masks_never_touch_the_border() -> None:
    masks = make_shapes("train", 500).masks
    assert masks is not None
    assert not masks[:, [0, -1]].all(axis=2).any()
    assert masks[:, 0].mean() < 0.03


def test_objects_are_anywhere_so_that_the_centre_is_rarely_on_them() -> None:
    masks = make_shapes("train", 1000).masks
    assert masks is not None
    covered = masks.mean(axis=0)
    assert 0.1 < covered[16, 16] < 0.25
    # Eight pixels from the centre, objects are nearly as frequent as at the centre.
    assert min(covered[8, 16], covered[24, 16], covered[16, 8], covered[16, 24]) > 0.1


def test_colour_does_not_reveal_the_class() -> None:
    images = make_shapes("train", 2000)
    train, test = take(images, range(1500)), take(images, range(1500, 2000))
    model = LogisticRegression(max_iter=200).fit(_histograms(train), train.labels)
    assert model.score(_histograms(test), test.labels) < 0.2


def test_the_shape_reveals_the_class() -> None:
    images = make_shapes("train", 1000)
    assert images.masks is not None
    # Moments that are invariant to rotation, position and size distinguish a ring from a circle.
    rows, columns = np.mgrid[:32, :32]
    spread = []
    for mask in images.masks:
        y, x = rows[mask], columns[mask]
        spread.append((y.var() + x.var()) / mask.sum())
    means = [np.mean(np.array(spread)[images.labels == label]) for label in range(2)]
    assert means[1] > 1.5 * means[0]


def test_a_small_size_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 32 pixels, received 16"):
        make_shapes("train", 10, size=16)


def _histograms(images: ImageSet) -> np.ndarray:
    colours = (images.pixels >> 6).astype(np.int64)
    bins = (colours * np.array([16, 4, 1])[:, None, None]).sum(axis=1).reshape(len(images), -1)
    counts: np.ndarray = np.stack([np.bincount(row, minlength=64) for row in bins])
    shares: np.ndarray = counts / bins.shape[1]
    return shares


def test_images_are_those_that_results_were_published_for() -> None:
    """As numbers of each image, which leave room for the rounding of other processors."""
    images = make_shapes("train", 20)
    assert images.masks is not None
    areas = [62, 91, 108, 47, 117, 71, 67, 99, 60, 51, 39, 82, 79, 87, 105, 92, 112, 116, 108, 64]
    assert images.masks.sum((1, 2)) == pytest.approx(areas, abs=1)
    ramp = np.linspace(0.5, 1.5, 3 * 32 * 32).reshape(3, 32, 32)
    assert (images.pixels * ramp).mean((1, 2, 3)) == pytest.approx(
        [
            131.3, 128.8, 118.9, 146.8, 115.9, 135.6, 118.8, 122.5, 163.5, 117.5,
            106.0, 117.9, 138.2, 140.4, 163.3, 120.8, 112.7, 127.6, 113.5, 133.4,
        ],
        abs=0.15,
    )  # fmt: skip
