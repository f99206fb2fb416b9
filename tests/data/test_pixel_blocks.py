import os
from pathlib import Path

import numpy as np
import pytest

from glasshouse.data.cache import cached_images
from glasshouse.data.fitting import Fitting
from glasshouse.data.pixel_blocks import Images, blocks, gather, images_per_block
from glasshouse.errors import StorageError
from tests.data.image_files import write_folder


@pytest.fixture
def mapped(tmp_path: Path) -> Images:
    """Ten images of 8x8 pixels, memory-mapped."""
    paths = sorted((write_folder(tmp_path, {"cat": 10}) / "cat").iterdir())
    return cached_images(paths, Fitting(8, 8, "crop"), workers=1).images


def test_gather_reads_rows_of_arrays_maps_and_their_slices(mapped: Images) -> None:
    plain = np.array(mapped)
    positions = np.array([3, 0, 3, 1])
    for images, expected in ((plain, plain), (mapped, plain), (mapped[4:], plain[4:])):
        rows = gather(images, positions)
        assert np.array_equal(rows, expected[positions])
        assert not isinstance(rows, np.memmap)
        assert rows.flags.writeable


def test_gather_releases_the_pages_of_a_map(tmp_path: Path) -> None:
    shape = (64, 3, 512, 512)
    np.memmap(tmp_path / "big", np.uint8, mode="w+", shape=shape).flush()
    images = np.memmap(tmp_path / "big", np.uint8, mode="r", shape=shape)
    before = _resident_bytes()
    for start in range(0, 64, 4):
        gather(images, np.arange(start, start + 4))
    assert _resident_bytes() - before < 12 << 20
    for _ in range(2):
        assert images.sum() == 0
    assert _resident_bytes() - before > 40 << 20


def test_blocks_cover_everything_once(mapped: Images) -> None:
    parts = list(blocks(mapped, 3 * 8 * 8 * 4))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert np.array_equal(np.concatenate(parts), mapped)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_block_has_eight_mebibytes_and_at_least_one_image() -> None:
    assert images_per_block((1, 1, 1)) == 8 * 1024 * 1024
    assert [images_per_block((3, 8, 8), size) for size in (1, 191, 383, 384)] == [1, 1, 1, 2]
    assert images_per_block((3, 0, 8), 7) == 7


def test_a_file_that_has_become_shorter_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "pixels"
    path.write_bytes(bytes(2 * 3 * 64 * 64))
    images = np.memmap(path, np.uint8, mode="r", shape=(2, 3, 64, 64))
    assert gather(images, np.array([1])).shape == (1, 3, 64, 64)
    os.truncate(path, 2 * 3 * 64 * 64 - 1)
    with pytest.raises(StorageError, match=r"pixels was truncated while it was in use"):
        gather(images[1:], np.array([0]))
    with pytest.raises(StorageError, match=r"^a cache file was truncated"):
        gather(np.asarray(images), np.array([0]))
