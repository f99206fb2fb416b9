import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from glasshouse.errors import StorageError
from glasshouse.storage import (
    read_json,
    read_tensors,
    remove_unfinished,
    tensors_to_bytes,
    write_bytes,
    write_json,
    write_tensors,
)


def test_a_full_disk_leaves_the_old_file_and_says_how_much_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*file: No space left.*MB free"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("place", "setting"),
    [("cache", "GLASSHOUSE_CACHE"), ("data", "GLASSHOUSE_DATA"), ("runs", "--out")],
)
def test_a_full_disk_names_the_setting_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, setting: str
) -> None:
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GLASSHOUSE_DATA", str(tmp_path / "data"))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=f"name another folder with {setting};"):
        write_json(tmp_path / place / "images" / "index.json", {})


def test_threads_may_write_the_same_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: write_bytes(path, bytes(100_000)), range(80)))
    assert path.read_bytes() == bytes(100_000)
    assert list(tmp_path.iterdir()) == [path]


def test_equal_tensors_and_metadata_give_equal_bytes() -> None:
    tensors = {"b": torch.arange(3), "a": torch.ones(2, 2)}
    metadata = {f"key{i}": i for i in range(20)}
    turned = dict(reversed(metadata.items()))
    assert tensors_to_bytes(tensors, metadata) == tensors_to_bytes(tensors, turned)


def test_tensors_and_metadata_are_read_as_written(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t", {"x": torch.tensor([1.5, -2.0])}, {"epoch": 3})
    tensors, metadata = read_tensors(tmp_path / "t")
    assert tensors["x"].tolist() == [1.5, -2.0]
    assert metadata == {"epoch": 3}


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"", lambda b: b"junk" * 9])
def test_damaged_tensors_are_named(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "t.safetensors"
    write_bytes(path, damage(tensors_to_bytes({"x": torch.ones(4)})))
    with pytest.raises(StorageError, match=r"t\.safetensors is damaged"):
        read_tensors(path)


def test_damaged_and_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*none\.json"):
        read_json(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(StorageError, match=r"half\.json is damaged"):
        read_json(tmp_path / "half.json")


def test_json_is_written_as_plain_text(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"name": "Käse", "n": 1})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "Käse" in text
    assert json.loads(text) == {"name": "Käse", "n": 1}


def test_pieces_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [".gitignore", ".hidden.txt", "a.json", "plots/b.png"]
    pieces = [".a.json.123-140000", "plots/.b.png.4-5"]
    for name in (*kept, *pieces):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert left == set(kept)


def test_a_writer_that_is_killed_leaves_a_name_that_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    # A process that is killed removes nothing itself.
    monkeypatch.setattr(Path, "replace", killed)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a.json", b"{}")
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 1
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []
