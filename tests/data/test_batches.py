import numpy as np
import pytest
import torch

from glasshouse.data import batches as module
from glasshouse.data.batches import batches, prepare_images, step_count
from glasshouse.data.images import ImageSet, take
from glasshouse.settings import AugmentSettings
from tests.conftest import make_images

CPU = torch.device("cpu")
AUGMENT = AugmentSettings(rotation_range=10, horizontal_flip=True, mixup=0.2)


def all_batches(images: ImageSet, first_step: int = 0, epoch: int = 0) -> list[module.Batch]:
    data = prepare_images(images, CPU)
    return list(batches(data, AUGMENT, batch_size=10, seed=0, epoch=epoch, first_step=first_step))


def test_every_image_is_used_once_per_epoch(tiny_images: ImageSet) -> None:
    positions = np.concatenate([batch.positions for batch in all_batches(tiny_images)])
    assert sorted(positions.tolist()) == list(range(64))


def test_labels_follow_their_images(tiny_images: ImageSet) -> None:
    for batch in all_batches(tiny_images):
        assert batch.labels.tolist() == tiny_images.labels[batch.positions].tolist()
        assert batch.partner_labels is not None
        assert batch.partner_labels.tolist() == np.roll(batch.labels.numpy(), 1).tolist()


@pytest.mark.parametrize("first_step", [1, 3, 6])
def test_starting_in_mid_epoch_gives_the_same_batches(
    tiny_images: ImageSet, first_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Chunks of three batches, so that the start falls inside, between and at the end of chunks.
    monkeypatch.setattr(module, "_CHUNK_BYTES", 3 * 10 * tiny_images.pixels[0].nbytes)
    whole, rest = all_batches(tiny_images), all_batches(tiny_images, first_step)
    assert [batch.step for batch in rest] == list(range(first_step, 7))
    for one, other in zip(whole[first_step:], rest, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_chunks_do_not_change_a_batch(
    tiny_images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = all_batches(tiny_images)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 1)
    for one, other in zip(together, all_batches(tiny_images), strict=True):
        assert torch.equal(one.images, other.images)


def test_the_order_changes_with_the_epoch(tiny_images: ImageSet) -> None:
    first, second = all_batches(tiny_images)[0], all_batches(tiny_images, epoch=1)[0]
    assert first.positions.tolist() != second.positions.tolist()


@pytest.mark.parametrize(
    ("images", "batch_size", "steps"),
    [(64, 10, 7), (61, 10, 6), (60, 10, 6), (5, 10, 1), (1, 10, 1)],
)
def test_a_single_remaining_image_is_added_to_the_last_batch(
    images: int, batch_size: int, steps: int
) -> None:
    assert step_count(images, batch_size) == steps
    whole = make_images(images)
    sizes = [
        len(batch.labels)
        for batch in batches(
            prepare_images(whole, CPU), AUGMENT, batch_size=batch_size, seed=0, epoch=0
        )
    ]
    assert sum(sizes) == images
    assert len(sizes) == steps


def skewed_images() -> ImageSet:
    """Twelve images of each of three classes, and three of the last."""
    images = make_images(48)
    rare = np.flatnonzero(images.labels == 3)
    return take(images, np.sort(np.setdiff1d(np.arange(48), rare[3:])))


def balanced_batches(images: ImageSet, epoch: int, first_step: int = 0) -> list[module.Batch]:
    wanted = AugmentSettings(random_crop=2, horizontal_flip="alternating", cutmix=1.0)
    data = prepare_images(images, CPU, "balanced")
    return list(batches(data, wanted, batch_size=10, seed=0, epoch=epoch, first_step=first_step))


def test_balanced_batches_can_start_in_mid_epoch_and_match_their_labels() -> None:
    images = skewed_images()
    whole, rest = balanced_batches(images, 1), balanced_batches(images, 1, first_step=2)
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.labels.tolist() == images.labels[one.positions].tolist()
        assert other.labels.tolist() == one.labels.tolist()
    assert sum(len(batch.labels) for batch in whole) == len(images) == 39


def test_a_repeated_image_looks_different_and_is_mirrored_every_second_time() -> None:
    images = skewed_images()
    data = prepare_images(images, CPU, "balanced")
    only_flips = AugmentSettings(horizontal_flip="alternating")
    shown: list[tuple[int, bool]] = []
    for epoch in range(2):
        for batch in batches(data, only_flips, batch_size=10, seed=0, epoch=epoch):
            for place, image in zip(batch.positions.tolist(), batch.images, strict=True):
                own = torch.from_numpy(images.pixels[place])
                shown.append((place, not torch.equal(image, own.float())))
    rare = np.flatnonzero(images.labels == 3)
    flips = [[flipped for place, flipped in shown if place == one] for one in rare.tolist()]
    # About 20 draws of three images in two epochs: each is mirrored half of the time.
    assert sum(map(len, flips)) in (19, 20)
    assert all(abs(sum(found) - len(found) / 2) <= 0.5 for found in flips)


@pytest.mark.parametrize("mixing", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_a_repeated_image_is_mixed_differently_each_time(mixing: dict[str, float]) -> None:
    images = skewed_images()
    data = prepare_images(images, CPU, "balanced")
    wanted = AugmentSettings.model_validate(mixing)
    shares: dict[int, list[float]] = {}
    for batch in batches(data, wanted, batch_size=10, seed=0, epoch=0):
        assert batch.own_share is not None
        for place, share in zip(batch.positions.tolist(), batch.own_share.tolist(), strict=True):
            shares.setdefault(place, []).append(share)
    repeated = [found for found in shares.values() if len(found) > 1]
    assert len(repeated) == 3
    # Of a class with 3 images, each is drawn 3 or 4 times.
    assert all(len(set(found)) == len(found) > 2 for found in repeated)


def test_a_memory_mapped_set_gives_the_same_batches(tiny_images: ImageSet, tmp_path: str) -> None:
    path = f"{tmp_path}/images.npy"
    np.save(path, tiny_images.pixels)
    mapped = ImageSet(
        np.load(path, mmap_mode="r"), tiny_images.labels, tiny_images.ids, tiny_images.class_names
    )
    for one, other in zip(all_batches(tiny_images), all_batches(mapped), strict=True):
        assert torch.equal(one.images, other.images)
