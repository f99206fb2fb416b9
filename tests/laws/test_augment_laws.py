"""What holds for every image and every augmentation."""

import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from glasshouse.data.augment import augment, mix
from glasshouse.rng import keys_of
from glasshouse.settings import AugmentSettings

small = st.floats(0, 0.5)
settings_of = st.builds(
    AugmentSettings,
    rotation_range=st.floats(0, 180),
    width_shift_range=small,
    height_shift_range=small,
    zoom_range=small,
    horizontal_flip=st.booleans(),
    random_crop=st.integers(0, 4),
    fill_mode=st.sampled_from(["nearest", "reflect", "constant"]),
    brightness_range=small,
    contrast_range=small,
    saturation_range=small,
    cutout=small,
    pixel_dropout=small,
    mixup=st.floats(0, 2),
    cutmix=st.floats(0, 2),
)
shapes = st.tuples(st.integers(1, 5), st.integers(4, 12), st.integers(4, 12))


@given(settings_of, shapes, st.integers(0, 100))
@settings(max_examples=150, deadline=None)
def test_pixels_stay_between_black_and_white_and_targets_are_shares(
    wanted: AugmentSettings, shape: tuple[int, int, int], seed: int
) -> None:
    count, height, width = shape
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.integers(0, 256, (count, 3, height, width), dtype=np.uint8))
    keys = keys_of(np.array([str(i) for i in range(count)]))
    changed = augment(images, keys, wanted, seed=seed, epoch=1)
    labels = torch.arange(count)
    mixed, partners, share = mix(changed, labels, keys, wanted, seed=seed, epoch=1)
    assert mixed.shape == images.shape
    assert mixed.dtype == torch.float32
    assert float(mixed.min()) >= -0.01
    assert float(mixed.max()) <= 255.01
    if share is not None and partners is not None:
        assert bool(((share >= 0) & (share <= 1)).all())


@given(settings_of, st.integers(2, 6), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_batch_of_n_is_n_batches_of_one(wanted: AugmentSettings, count: int, epoch: int) -> None:
    random = np.random.default_rng(count)
    images = torch.from_numpy(random.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8))
    keys = keys_of(np.array([str(i) for i in range(count)]))
    together = augment(images, keys, wanted, seed=0, epoch=epoch)
    for i in range(count):
        alone = augment(images[i : i + 1], keys[i : i + 1], wanted, seed=0, epoch=epoch)
        assert torch.allclose(together[i : i + 1], alone, atol=1e-3)


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_flipping_twice_gives_the_image_back(seed: int) -> None:
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.integers(0, 256, (6, 3, 5, 7), dtype=np.uint8))
    keys = keys_of(np.array([str(i) for i in range(6)]))
    wanted = AugmentSettings(horizontal_flip=True)
    once = augment(images, keys, wanted, seed=seed, epoch=0).to(torch.uint8)
    twice = augment(once, keys, wanted, seed=seed, epoch=0)
    assert torch.equal(twice, images.float())
