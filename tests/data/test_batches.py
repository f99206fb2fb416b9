from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from glasshouse.data import batches as module
from glasshouse.data.batches import (
    WHOLE,
    Cut,
    TrainingImages,
    _whole as whole_on,
    batches,
    prepare_images,
    step_count,
)
from glasshouse.data.images import ImageSet, take
from glasshouse.data.pixel_blocks import blocks
from glasshouse.errors import UsageError
from glasshouse.rng import keys_of
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


def test_a_last_batch_has_two_images_per_shard_or_is_added_to_the_one_before() -> None:
    assert [step_count(n, 10) for n in (1, 10, 11, 12, 20)] == [1, 1, 1, 2, 2]
    assert [step_count(n, 10, 2) for n in (4, 13, 14, 23, 24)] == [1, 1, 2, 2, 3]


def test_parts_of_a_batch_are_as_equal_as_can_be() -> None:
    assert [Cut(3, range(3)).rows(10, 20, n) for n in range(3)] == [(10, 13), (13, 16), (16, 20)]
    assert [Cut(4, range(4)).rows(4, 9, n) for n in range(4)] == [(4, 5), (5, 6), (6, 7), (7, 9)]
    assert (WHOLE.count, WHOLE.own) == (1, range(1))


def test_a_batch_that_is_cut_has_its_images_in_shards() -> None:
    images = make_images(9)
    plain: dict[str, Any] = {"batch_size": 4, "seed": 0, "epoch": 0}
    whole = list(batches(prepare_images(images, CPU), AugmentSettings(), **plain))
    assert [len(batch.images) for batch in whole] == [4, 5]
    assert all((batch.shards, batch.number, batch.share) == ((), 0, 1.0) for batch in whole)
    data = prepare_images(images, CPU, cut=Cut(2, range(2)))
    found = list(batches(data, AugmentSettings(), **plain))
    assert [batch.step for batch in found] == [0, 1]
    for one, cut, shares in zip(whole, found, ((0.5, 0.5), (0.4, 0.6)), strict=True):
        assert cut.positions.tolist() == one.positions.tolist()
        assert (len(cut.images), len(cut.labels)) == (0, 0)
        assert tuple(shard.share for shard in cut.shards) == shares
        assert [shard.number for shard in cut.shards] == [0, 1]
        for name in ("images", "labels"):
            parts = torch.cat([getattr(shard, name) for shard in cut.shards])
            assert torch.equal(parts, getattr(one, name))
    own = prepare_images(images, CPU, cut=Cut(2, range(1, 2)))
    (rest,) = batches(own, AugmentSettings(), **plain, first_step=1)
    assert (rest.step, [shard.number for shard in rest.shards]) == (1, [1])
    assert torch.equal(rest.shards[0].images, found[1].shards[1].images)


def test_every_shard_needs_two_images() -> None:
    with pytest.raises(UsageError, match=r"shards = 3 needs .*, 6 in all, but there are 5: lower"):
        prepare_images(make_images(5), CPU, cut=Cut(3, range(3)))
    assert len(prepare_images(make_images(6), CPU, cut=Cut(3, range(3)))) == 6
    assert len(prepare_images(make_images(1), CPU)) == 1


@pytest.mark.parametrize(
    ("batch_size", "first_step", "read"),
    [(1, 0, [4, 4, 2]), (2, 0, [4, 4, 2]), (2, 3, [4, 2]), (5, 0, [5, 5]), (5, 1, [5])],
)
def test_four_mebibytes_are_augmented_at_once(
    batch_size: int, first_step: int, read: list[int]
) -> None:
    counts = []

    def reading(wanted: Iterable[np.ndarray[Any, Any]]) -> Iterator[torch.Tensor]:
        for positions in wanted:
            counts.append(len(positions))
            yield torch.from_numpy(positions).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)

    labels = np.arange(10)
    keys = keys_of(labels.astype(np.str_))
    data = TrainingImages(reading, labels, torch.from_numpy(labels), keys, 1 << 20)
    made = batches(
        data, AugmentSettings(), batch_size=batch_size, seed=0, epoch=0, first_step=first_step
    )
    for step, batch in enumerate(made, first_step):
        assert batch.step == step
        assert batch.images[:, 0, 0, 0].tolist() == batch.positions.tolist()
        assert batch.labels.tolist() == batch.positions.tolist()
        assert len(batch.labels) == batch_size
    assert counts == read


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((5, 3, 17 * 257, 65537), True), ((1, 3, 2, 715827883), False)],
    ids=["a byte less than four gibibytes", "two bytes more"],
)
def test_up_to_four_gibibytes_are_kept_on_a_device(
    shape: tuple[int, ...], fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_whole", lambda *_: None)
    monkeypatch.setattr(module, "_reads_of", lambda _: "kept")
    monkeypatch.setattr(module, "_reads_ahead", lambda *_: "ahead")
    labels = np.zeros(shape[0], np.int64)
    # One value that is said to be everywhere.
    pixels = np.broadcast_to(np.uint8(0), shape)
    images = ImageSet(pixels, labels, np.arange(shape[0]).astype(np.str_), ("a",))
    assert prepare_images(images, torch.device("meta")).read == ("kept" if fits else "ahead")  # type: ignore[comparison-overlap]
    assert prepare_images(images, CPU).read == "kept"  # type: ignore[comparison-overlap]


def test_a_set_is_copied_to_a_device_block_by_block(
    tiny_images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere(str):
        """A device whose memory is that of the CPU, as far as torch is asked for it."""

        type = "elsewhere"

    size = 5 * tiny_images.pixels[0].nbytes
    monkeypatch.setattr(module, "blocks", lambda images: blocks(images, size))
    device: Any = Elsewhere("cpu")
    assert np.array_equal(whole_on(tiny_images.pixels, device).numpy(), tiny_images.pixels)
