"""An interrupted build of the image cache goes on where it stopped, and never with wrong pixels."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glasshouse import file_lock
from glasshouse.cache_pruning import prune_cache
from glasshouse.data import cache, unfinished_build
from glasshouse.data.cache import Cached, cached_images, forget_files
from glasshouse.data.fitting import Fitting
from glasshouse.errors import StorageError
from glasshouse.storage import cache_folder
from tests.data.image_files import decoded, scene, write_folder

FITTING, COUNT, STOP = Fitting(8, 8, "crop"), 12, 7
PATIENCE_S = 600.0
BUILDER = """
import sys
from pathlib import Path
from glasshouse.data import unfinished_build
from glasshouse.data.cache import cached_images
from glasshouse.data.fitting import Fitting

def show(what, done, total):
    print(what, done, total, flush=True)
    if done == 7:
        sys.stdin.read()

unfinished_build._LINES = 1
paths = sorted(Path(sys.argv[1]).rglob("*.png"))
cached_images(paths, Fitting(8, 8, "crop"), progress=show, workers=1)
"""


class Interrupted(Exception):
    pass


class Progress:
    """What was shown of the last build; stops it after some images."""

    def __init__(self, stop: int = -1, at: str = "decoding images") -> None:
        self.stop = at, stop
        self.seen: list[tuple[str, int, int]] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        self.seen.append((what, done, total))
        if (what, done) == self.stop:
            raise Interrupted

    @property
    def decoded(self) -> int:
        return sum(what == "decoding images" for what, _, _ in self.seen)


@pytest.fixture(autouse=True)
def every_image_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished_build, "_LINES", 1)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return sorted((write_folder(tmp_path / "photos", {"cat": COUNT}) / "cat").iterdir())


def build(paths: list[Path], progress: Callable[[str, int, int], None] | None = None) -> Cached:
    return cached_images(paths, FITTING, progress=progress, workers=1)


def interrupt(paths: list[Path], progress: Progress | None = None) -> tuple[Path, Path]:
    """The log and the pixels that are left of a build, usually after STOP images."""
    with pytest.raises(Interrupted):
        build(paths, progress or Progress(STOP))
    (log,) = cache_folder().rglob(".building-*.jsonl")
    return log, log.with_suffix("")


def expect(cached: Cached, paths: list[Path]) -> None:
    assert np.array_equal(cached.images, np.stack([decoded(path, 8, 8) for path in paths]))
    assert not list(cache_folder().rglob(".building-*"))


def test_an_interrupted_build_decodes_only_what_is_missing(paths: list[Path]) -> None:
    interrupt(paths)
    progress = Progress()
    expect(build(paths, progress), paths)
    assert progress.seen[-1] == ("decoding images", COUNT - STOP, COUNT - STOP)


def test_it_may_be_interrupted_again_and_again(paths: list[Path]) -> None:
    for done in range(4):
        progress = Progress(2)
        with pytest.raises(Interrupted):
            build(paths, progress)
        assert progress.seen[-1] == ("decoding images", 2, COUNT - 2 * done)
    expect(build(paths), paths)


@contextmanager
def builder_of(paths: list[Path]) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has decoded STOP images and waits, until it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(paths[0].parent)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as builder:  # fmt: skip
        assert builder.stdout is not None
        while f"decoding images {STOP}" not in builder.stdout.readline():
            assert builder.poll() is None
        yield builder
        builder.kill()


def test_a_killed_build_continues(paths: list[Path]) -> None:
    with builder_of(paths):
        pass
    progress = Progress()
    expect(build(paths, progress), paths)
    assert progress.decoded == COUNT - STOP


def test_an_interruption_while_it_is_verified_loses_nothing(paths: list[Path]) -> None:
    interrupt(paths)
    interrupt(paths, Progress(2, "verifying decoded images"))
    progress = Progress()
    expect(build(paths, progress), paths)
    assert progress.decoded == COUNT - STOP


@pytest.mark.parametrize(
    ("at", "has_bad"),
    [
        *((at, False) for at in ("survey_of_blocks", "write_record", "_put", "write_json")),
        *((at, True) for at in ("survey_of_blocks", "write_record", "write_json")),
    ],
)
def test_an_error_at_the_end_loses_nothing(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, at: str, has_bad: bool
) -> None:
    if has_bad:  # the rows of all others are moved, as late as possible
        paths[0].write_bytes(b"no image")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    # So few images would be logged at the end only.
    monkeypatch.setattr(unfinished_build, "_LINES", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(cache, at, full)
        with pytest.raises(StorageError, match="No space left"):
            build(paths)
    progress = Progress()
    expect(build(paths, progress), paths[has_bad:])
    assert {what for what, _, _ in progress.seen} == {"verifying decoded images"}


def test_room_is_needed_only_for_what_is_missing(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = Fitting(128, 128, "crop")
    needed: list[int] = []
    monkeypatch.setattr(cache, "require_disk_space", lambda _, size, __: needed.append(size))
    with pytest.raises(Interrupted):
        cached_images(paths, large, progress=Progress(STOP), workers=1)
    cached_images(paths, large, workers=1)
    row = 3 * 128 * 128
    assert needed[0] == COUNT * row
    # A file takes whole blocks of the disk.
    assert (COUNT - STOP) * row - 4096 * STOP <= needed[1] < COUNT * row


def test_a_bad_file_is_remembered_and_leaves_no_gap(paths: list[Path]) -> None:
    paths[1].write_bytes(b"no image")
    interrupt(paths)
    progress = Progress()
    cached = build(paths, progress)
    assert progress.decoded == COUNT - STOP
    assert [Path(bad.path) for bad in cached.bad_files] == [paths[1]]
    expect(cached, [*paths[:1], *paths[2:]])


def test_a_file_that_changed_meanwhile_is_decoded_again(paths: list[Path]) -> None:
    interrupt(paths)
    Image.fromarray(255 - scene(8, 8)).save(paths[2])
    progress = Progress()
    expect(build(paths, progress), paths)
    assert progress.decoded == COUNT - STOP + 1


@pytest.mark.parametrize(
    "damage", ["pixels", "no pixels", "short pixels", "line cut off", "lines", "other values"]
)
def test_what_is_damaged_is_decoded_again(paths: list[Path], damage: str) -> None:
    log, pixels = interrupt(paths)
    lines = log.read_bytes().splitlines(keepends=True)
    again = STOP
    if damage == "pixels":
        data = bytearray(pixels.read_bytes())
        data[5] ^= 1
        pixels.write_bytes(data)
        again = 1
    elif damage == "no pixels":
        pixels.unlink()
    elif damage == "short pixels":
        os.truncate(pixels, 3 * 8 * 8 * (STOP - 1) + 5)
        again = 1
    elif damage == "line cut off":
        log.write_bytes(b"".join(lines)[:-9])
        again = 1
    elif damage == "lines":
        log.write_bytes(lines[0] + b"\xff\n" * STOP)
    else:
        values = [[10**9, 0], [-1, 0], {"a": 1}, 5, None, ["x", "y"], [[1], 2]]
        filler = [1, 2, 3, 4, "digest", "", 8, 8, [], ""]
        changed = [json.dumps([*v, *filler] if isinstance(v, list) else v) for v in values]
        log.write_bytes(lines[0] + "\n".join(changed).encode())
    progress = Progress()
    expect(build(paths, progress), paths)
    assert progress.decoded == COUNT - STOP + again


def test_a_damaged_line_spoils_none_that_follows(paths: list[Path]) -> None:
    log, _ = interrupt(paths)
    log.write_bytes(log.read_bytes()[:-9])
    with pytest.raises(Interrupted):
        build(paths, Progress(3))
    progress = Progress()
    expect(build(paths, progress), paths)
    assert progress.decoded == COUNT - STOP + 1 - 3


def test_other_files_begin_anew_and_leave_the_build_to_its_own(paths: list[Path]) -> None:
    log, pixels = interrupt(paths)
    progress = Progress()
    cached = build(paths[:-1], progress)
    assert progress.decoded == COUNT - 1
    assert np.array_equal(cached.images[0], decoded(paths[0], 8, 8))
    assert log.exists() and pixels.exists()


def test_rows_of_one_file_listed_twice_are_each_in_their_place(paths: list[Path]) -> None:
    twice = [*paths, *paths[:3]]
    interrupt(twice)
    expect(build(twice), twice)


def test_a_file_that_is_listed_twice_is_never_two_images(paths: list[Path]) -> None:
    twice = [*paths[:STOP], paths[0]]
    log, _ = interrupt(twice, Progress(STOP - 1))
    lines = log.read_bytes().splitlines(keepends=True)
    # As if the process had been killed between its two places.
    log.write_bytes(b"".join(line for line in lines if not line.startswith(b"[%d," % STOP)))

    def change(what: str, done: int, total: int) -> None:
        if (what, done) == ("verifying decoded images", 1):
            Image.fromarray(255 - scene(8, 8)).save(paths[0])

    expect(build(twice, change), twice)


def test_files_that_are_forgotten_are_all_read_again(paths: list[Path], tmp_path: Path) -> None:
    interrupt(paths)
    forget_files([tmp_path / "elsewhere" / "a" / "x.png"])
    assert list(cache_folder().rglob(".building-*.jsonl"))
    forget_files(paths[:1])
    progress = Progress()
    expect(build(paths, progress), paths)
    assert progress.decoded == COUNT


def test_names_relative_to_another_folder_are_another_build(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    write_folder(other / "photos", {"cat": COUNT})
    names = [path.relative_to(tmp_path) for path in paths]
    monkeypatch.chdir(tmp_path)
    interrupt(names)
    monkeypatch.chdir(other)
    progress = Progress()
    build(names, progress)
    assert progress.decoded == COUNT


def test_files_that_are_being_decoded_are_not_forgotten(paths: list[Path]) -> None:
    with builder_of(paths):
        (log,) = cache_folder().rglob(".building-*.jsonl")
        forget_files(paths)
        assert log.exists() and log.with_suffix("").exists()
    forget_files(paths)
    assert not list(cache_folder().rglob(".building-*-*"))


@pytest.mark.parametrize("order", [1, -1])
def test_builds_of_the_same_files_in_any_order_wait_and_others_do_not(
    paths: list[Path], tmp_path: Path, order: int
) -> None:
    others = sorted((write_folder(tmp_path / "others", {"dog": 3}) / "dog").iterdir())
    reached, go_on, waits = threading.Event(), threading.Event(), threading.Event()
    decoded_by: list[str] = []

    def pause(what: str, done: int, total: int) -> None:
        decoded_by.append("first")
        if done == STOP:
            reached.set()
            assert go_on.wait(PATIENCE_S)

    def show(what: str, done: int, total: int) -> None:
        if what == "waiting for another process that is decoding these images":
            waits.set()
        else:
            decoded_by.append("second")

    todo = ((paths, pause), (paths[::order], show))
    threads = [threading.Thread(target=build, args=each) for each in todo]
    threads[0].start()
    assert reached.wait(PATIENCE_S)
    threads[1].start()
    assert waits.wait(PATIENCE_S)
    progress = Progress()
    build(others, progress)
    assert progress.decoded == len(others)
    go_on.set()
    for thread in threads:
        thread.join()
    assert decoded_by == ["first"] * COUNT
    expect(build(paths), paths)


def test_builds_of_other_machines_are_copied_and_left_alone(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths[2].write_bytes(b"no image")
    log, pixels = interrupt(paths)
    before = log.read_bytes(), pixels.read_bytes()
    monkeypatch.setattr("platform.node", lambda: "another")
    progress = Progress()
    cached = build(paths, progress)
    assert progress.decoded == COUNT - STOP
    assert np.array_equal(cached.images[2], decoded(paths[3], 8, 8))
    assert (log.read_bytes(), pixels.read_bytes()) == before


def test_where_locks_are_of_a_machine_alone_no_build_is_shared_or_removed(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with builder_of(paths) as builder:
        (lock,) = cache_folder().rglob(".building-*.lock")
        (log,) = cache_folder().rglob(".building-*.jsonl")
        # As if another machine, which knows of no lock, had ended a build of the same files.
        lock.unlink()
        progress = Progress()
        cached = build(paths, progress)
        # What it has written so far is used all the same.
        assert progress.decoded == COUNT - STOP
        assert log.exists() and log.with_suffix("").exists()
        monkeypatch.setattr("platform.node", lambda: "another")
        monkeypatch.setattr(file_lock, "_try_lock", lambda handle: True)
        assert prune_cache(0).kept
        assert log.exists() and log.with_suffix("").exists()
        assert builder.poll() is None
    assert np.array_equal(cached.images[0], decoded(paths[0], 8, 8))


def test_where_there_are_no_locks_nothing_is_left_and_nothing_shared(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(handle: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(Interrupted):
        build(paths, Progress(STOP))
    assert not list(cache_folder().rglob(".building-*"))
    expect(build(paths), paths)
