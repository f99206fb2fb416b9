import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glasshouse.data import cache as module, cache_entry, file_index
from glasshouse.data.cache import Cached, cached_images, forget_files
from glasshouse.data.fitting import Fitting
from glasshouse.data.pixel_blocks import gather
from glasshouse.data.survey import survey as survey_of, survey_to_bytes
from glasshouse.errors import StorageError
from glasshouse.storage import cache_folder
from tests.data.image_files import decoded, encoded, scene, write_folder

FITTING = Fitting(8, 8, "crop")


def _images(folder: Path, count: int) -> list[Path]:
    return sorted((write_folder(folder, {"cat": count}) / "cat").iterdir())


class Decoding:
    """Counts how many files are decoded."""

    def __init__(self) -> None:
        self.last = (0, 0)

    def __call__(self, what: str, done: int, total: int) -> None:
        self.last = (done, total)


def _cached(paths: list[Path], progress: Decoding | None = None) -> Cached:
    return cached_images(paths, FITTING, progress=progress, workers=1)


def _expect(cached: Cached, paths: list[Path]) -> None:
    expected = np.stack([decoded(path, 8, 8) for path in paths])
    assert np.array_equal(cached.images, expected)
    # What comes from the cache is what a survey of these pixels finds.
    assert survey_to_bytes(cached.survey) == survey_to_bytes(survey_of(expected))


def test_the_cache_holds_what_the_decoder_gives_in_order(tmp_path: Path) -> None:
    paths = _images(tmp_path, 9)[::-1]
    cached = _cached(paths)
    _expect(cached, paths)
    assert isinstance(cached.images, np.memmap)
    assert cached.good.tolist() == list(range(9))
    assert not cached.images.flags.writeable


def test_a_second_time_nothing_is_decoded_or_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, progress = _images(tmp_path, 5), Decoding()
    first = np.array(_cached(paths).images)
    monkeypatch.setattr(module, "decode_files", None)
    second = _cached(paths, progress)
    assert np.array_equal(first, second.images)
    assert progress.last == (0, 0)


def test_only_new_and_changed_files_are_decoded(tmp_path: Path) -> None:
    paths, progress = _images(tmp_path, 6), Decoding()
    _cached(paths[:4])
    paths[1].write_bytes(paths[5].read_bytes())
    os.utime(paths[1], ns=(1, 1))
    order = [paths[n] for n in (5, 1, 0, 4, 3, 2)]
    _expect(_cached(order, progress), order)
    assert progress.last == (3, 3)


def test_another_size_is_another_cache(tmp_path: Path) -> None:
    paths = _images(tmp_path, 3)
    _cached(paths)
    other = cached_images(paths, Fitting(6, 10, "stretch"), workers=1)
    assert other.images.shape == (3, 3, 6, 10)
    assert np.array_equal(other.images[2], decoded(paths[2], 6, 10, "stretch"))


@pytest.mark.parametrize(
    "others",
    [
        [Fitting(8, 8, resize) for resize in ("crop", "letterbox", "stretch")],
        # Equally many bytes per image.
        [Fitting(6, 10, "crop"), Fitting(10, 6, "crop")],
    ],
)
def test_the_same_files_fitted_differently_do_not_get_each_other_s_pixels(
    tmp_path: Path, others: list[Fitting]
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded("PNG", Image.fromarray(scene()[number:])))
    expected = [
        np.stack([decoded(path, each.height, each.width, each.resize) for path in paths])
        for each in others
    ]
    assert len({pixels.tobytes() for pixels in expected}) == len(others)
    for _ in range(2):
        for each, pixels in zip(others, expected, strict=True):
            assert np.array_equal(cached_images(paths, each, workers=1).images, pixels)


def test_pixels_are_on_the_disk_before_they_get_their_name(
    tmp_path: Path, disk_events: dict[int, list[str]]
) -> None:
    _cached(_images(tmp_path, 2))
    (pixels,) = cache_folder().rglob("*.pixels")
    assert disk_events[pixels.stat().st_ino] == ["on the disk", "named"]


def test_another_decoder_is_another_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, progress = _images(tmp_path, 3), Decoding()
    _cached(paths)
    monkeypatch.setattr(module, "DECODER_VERSION", "next")
    _cached(paths, progress)
    assert progress.last == (3, 3)


def test_bad_files_leave_no_gap_and_are_remembered(tmp_path: Path) -> None:
    paths, progress = _images(tmp_path, 6), Decoding()
    paths[0].write_bytes(b"")
    paths[3].write_bytes(b"text")
    for _ in range(2):
        cached = _cached(paths, progress)
        assert cached.good.tolist() == [1, 2, 4, 5]
        _expect(cached, [paths[n] for n in (1, 2, 4, 5)])
        assert [bad.path for bad in cached.bad_files] == [str(paths[0]), str(paths[3])]
        assert cached.bad_files[0].reason == "the file is empty"
    assert progress.last == (6, 6)
    paths[0].write_bytes(paths[1].read_bytes())
    assert _cached(paths).good.tolist() == [0, 1, 2, 4, 5]


def test_nothing_but_bad_files_gives_an_empty_set(tmp_path: Path) -> None:
    paths = [tmp_path / "no.png", tmp_path / "nor.png"]
    cached = _cached(paths)
    assert cached.images.shape == (0, 3, 8, 8)
    assert [bad.reason for bad in cached.bad_files] == ["the file does not exist"] * 2


@pytest.mark.parametrize("damage", ["flip", "cut", "grown", "no pixels", "no record", "bad record"])
def test_a_damaged_cache_is_built_again(tmp_path: Path, damage: str) -> None:
    paths = _images(tmp_path / "data", 4)
    _cached(paths)
    (pixels,) = cache_folder().rglob("*.pixels")
    if damage == "flip":
        data = bytearray(pixels.read_bytes())
        data[100] ^= 1
        pixels.write_bytes(data)
    elif damage == "cut":
        os.truncate(pixels, 100)
    elif damage == "grown":
        os.truncate(pixels, pixels.stat().st_size + 1)
    elif damage == "no pixels":
        pixels.unlink()
    elif damage == "no record":
        pixels.with_suffix(".json").unlink()
    else:
        pixels.with_suffix(".json").write_text('{"digests": 3}')
    _expect(_cached(paths), paths)


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "other images"])
def test_a_damaged_survey_is_made_again_and_nothing_decoded(tmp_path: Path, damage: str) -> None:
    paths, progress = _images(tmp_path / "data", 4), Decoding()
    _cached(paths)
    (survey,) = cache_folder().rglob("*.survey")
    whole = survey.read_bytes()
    if damage == "flip":
        survey.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "cut":
        os.truncate(survey, 20)
    elif damage == "missing":
        survey.unlink()
    else:
        survey.write_bytes(survey_to_bytes(survey_of(np.zeros((4, 3, 8, 8), np.uint8))))
    _expect(_cached(paths, progress), paths)
    assert progress.last == (0, 0)
    assert survey.read_bytes() == whole


def test_a_cache_that_cannot_be_written_to_can_still_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise StorageError(f"cannot write {path}")

    paths, progress = _images(tmp_path / "data", 4), Decoding()
    _cached(paths)
    (survey,) = cache_folder().rglob("*.survey")
    survey.unlink()
    monkeypatch.setattr(cache_entry, "write_bytes", refuse)
    _expect(_cached(paths, progress), paths)
    assert progress.last == (0, 0)


def test_a_file_listed_twice_is_not_built_again(tmp_path: Path) -> None:
    paths, progress = _images(tmp_path, 4), Decoding()
    twice = [*paths, *paths[:2]]
    _expect(_cached(twice), twice)
    (pixels,) = cache_folder().rglob("*.pixels")
    before = pixels.stat().st_mtime_ns
    _expect(_cached(twice, progress), twice)
    assert pixels.stat().st_mtime_ns == before
    assert progress.last == (0, 0)


def test_where_a_mapped_file_cannot_be_replaced_the_equal_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where a file cannot be replaced while a process has mapped it."""

    def refuse(self: Path, target: Path) -> Path:
        if target.suffix == ".pixels" and target.exists():
            raise PermissionError(13, "Access is denied")
        return replaced(self, target)

    paths = _images(tmp_path / "data", 4)
    mapped = _cached(paths)
    (record,) = (path for path in cache_folder().rglob("*.json") if "index" not in path.name)
    record.unlink()
    replaced = Path.replace
    monkeypatch.setattr(Path, "replace", refuse)
    _expect(_cached(paths), paths)
    _expect(mapped, paths)
    assert not list(cache_folder().rglob(".building*"))


def test_a_damaged_index_is_written_again(tmp_path: Path) -> None:
    paths = _images(tmp_path / "data", 4)
    _cached(paths)
    (index,) = cache_folder().rglob("index-*.json")
    index.write_text("[1, 2")
    _expect(_cached(paths), paths)


def test_two_processes_may_build_the_same_cache_at_once(tmp_path: Path) -> None:
    paths = _images(tmp_path / "data", 40)
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_cached, args=(paths,)) for _ in range(2)]
    for other in others:
        other.start()
    _expect(_cached(paths), paths)
    for other in others:
        other.join()
        assert other.exitcode == 0
    _expect(_cached(paths), paths)
    assert not list(cache_folder().rglob(".*"))


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    paths = _images(tmp_path / "data", 2)
    cache_folder().write_text("a file, where a folder should be")
    wanted = r"cannot write the cache in .*\. Name another folder with GLASSHOUSE_CACHE"
    with pytest.raises(StorageError, match=wanted):
        _cached(paths)


def test_new_pixels_in_files_of_equal_size_and_time_are_seen(tmp_path: Path) -> None:
    paths, progress = _images(tmp_path / "data", 4), Decoding()
    for path in paths:
        path.write_bytes(encoded("BMP", Image.fromarray(scene(8, 8))))
        os.utime(path, ns=(10**18, 10**18))
    _cached(paths)
    before = paths[1].stat()
    paths[1].write_bytes(encoded("BMP", Image.fromarray(255 - scene(8, 8))))
    os.utime(paths[1], ns=(10**18, 10**18))
    after = paths[1].stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    _expect(_cached(paths, progress), paths)
    assert progress.last == (1, 1)


def test_another_file_in_the_place_of_one_is_seen_whatever_its_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, progress = _images(tmp_path / "data", 3), Decoding()
    _cached(paths)
    stamp = file_index.file_stamp

    def moved(path: Path) -> tuple[int, int, int, int]:
        size, changed, stamped, inode = stamp(path)
        return size, changed, stamped, inode + (path == paths[2])

    monkeypatch.setattr(module, "file_stamp", moved)
    monkeypatch.setattr(file_index, "file_stamp", moved)
    _expect(_cached(paths, progress), paths)
    assert progress.last == (1, 1)


def test_files_that_are_forgotten_are_read_again_and_others_are_not(tmp_path: Path) -> None:
    paths, others = _images(tmp_path / "data", 3), _images(tmp_path / "others", 2)
    progress = Decoding()
    _cached(paths)
    _cached(others)
    forget_files(paths[:1])
    _cached(others, progress)
    assert progress.last == (0, 0)
    _expect(_cached(paths, progress), paths)
    assert progress.last == (3, 3)


def test_files_that_somebody_else_is_forgetting_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, read = _images(tmp_path / "data", 3), file_index.read_index
    _cached(paths)

    def read_and_removed(path: Path) -> file_index.FileIndex:
        found = read(path)
        path.unlink()
        return found

    monkeypatch.setattr(module, "read_index", read_and_removed)
    forget_files(paths)
    assert not list(cache_folder().rglob("index-*.json"))


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    paths = _images(tmp_path / "data", 2)
    _cached(paths)
    (pixels,) = cache_folder().rglob("*.pixels")
    left = pixels.with_name(".building-1-1")
    left.write_bytes(b"x" * 1000)
    _cached(_images(tmp_path / "others", 3))
    assert not left.exists()


def test_a_cache_that_shrinks_while_it_is_in_use_is_an_error(tmp_path: Path) -> None:
    paths = _images(tmp_path / "data", 40)
    images = cached_images(paths, Fitting(64, 64, "crop"), workers=1).images
    (pixels,) = cache_folder().rglob("*.pixels")
    os.truncate(pixels, 4096)
    with pytest.raises(StorageError, match=r"\.pixels was truncated while it was in use: run ag"):
        gather(images[20:], np.arange(20))
    _expect(_cached(paths), paths)
