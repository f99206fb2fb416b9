"""Folders that pieces of work leave."""

import shutil
import threading
import time
from pathlib import Path

import pytest

from glasshouse.cluster import folders
from glasshouse.cluster.folders import (
    Parcel,
    files_to_send,
    marked,
    put_in_place,
    read_files,
    unpacked,
    write_files,
)
from glasshouse.errors import ProcessError
from glasshouse.file_lock import PathLock

FILES = {"recipe.toml": b"name = 1", "plots/loss.png": b"\x89PNG"}


def test_on_a_shared_disk_the_folder_itself_is_worked_in(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    with marked(out) as marker:
        parcel = Parcel(out, *marker, {"old": b"1"})
        with unpacked(parcel) as folder:
            assert folder == out
            assert files_to_send(parcel, folder) is None
    assert list(out.parent.iterdir()) == []


def test_elsewhere_files_are_taken_along_and_sent_back(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    parcel = Parcel(out, tmp_path / "nothing", "text", FILES)
    with unpacked(parcel) as folder:
        assert read_files(folder) == FILES and folder != out and folder.name == "a"
        write_files({"model.json": b"{}"}, folder)
        sent = files_to_send(parcel, folder)
    assert sent == {**FILES, "model.json": b"{}"} and not folder.exists()
    write_files({"of an earlier attempt": b""}, out)
    put_in_place(sent, out)
    assert read_files(out) == sent
    assert [path.name for path in out.parent.iterdir()] == ["a"]


@pytest.mark.parametrize("step", ["rmtree", "first rename", "second rename", "last rmtree"])
def test_a_run_outlives_whoever_is_killed_while_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    out = tmp_path / "runs" / "a"
    old, new = {"recipe.toml": b"old", "x/y": b"old"}, {"recipe.toml": b"new", "x/y": b"new"}
    write_files(old, out)
    rename, rmtree, calls = Path.rename, shutil.rmtree, list[str]()

    def killed(name: str, *counts: int) -> bool:
        calls.append(name)
        return calls.count(name) in counts

    def rename_unless_killed(self: Path, target: Path) -> Path:
        if killed("rename", {"first rename": 1, "second rename": 2}.get(step, 0)):
            raise KeyboardInterrupt
        return rename(self, target)

    def rmtree_unless_killed(path: Path, **options: bool) -> None:
        # Those before it find nothing: of what is incoming, and of an older folder.
        if killed("rmtree", {"rmtree": 1, "last rmtree": 3}.get(step, 0)):
            (path / "recipe.toml").unlink(missing_ok=True)
            raise KeyboardInterrupt
        rmtree(path, ignore_errors=True)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", rename_unless_killed)
        patched.setattr(shutil, "rmtree", rmtree_unless_killed)
        put_in_place(new, out)
    assert read_files(out) == (new if step in ("second rename", "last rmtree") else old)
    put_in_place(new, out)
    assert read_files(out) == new
    assert [path.name for path in out.parent.iterdir()] == ["a"]


def test_a_marker_with_another_text_is_not_ours(tmp_path: Path) -> None:
    with marked(tmp_path / "a") as (path, text):
        assert Parcel(tmp_path / "a", path, text).is_shared()
        assert not Parcel(tmp_path / "a", path, text + "0").is_shared()
    assert not Parcel(tmp_path / "a", path, text).is_shared()


def test_a_folder_that_a_lost_process_still_holds_is_waited_for(tmp_path: Path) -> None:
    lock = PathLock(tmp_path)
    assert lock.acquire(wait=False)
    threading.Timer(1, lock.release).start()
    started = time.monotonic()
    with marked(tmp_path) as marker, unpacked(Parcel(tmp_path, *marker)):
        assert time.monotonic() - started > 0.9


def test_a_folder_that_stays_held_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_PATIENCE_S", 0.1)
    lock = PathLock(tmp_path)
    assert lock.acquire(wait=False)
    with (
        marked(tmp_path) as marker,
        pytest.raises(ProcessError, match="another process has been working in"),
        unpacked(Parcel(tmp_path, *marker)),
    ):
        pass
    lock.release()
