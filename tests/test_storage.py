import errno
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glasshouse.errors import StorageError
from glasshouse.storage import (
    cache_folder,
    data_folder,
    mark_used,
    read_array,
    read_json,
    read_tensors,
    read_text,
    remove_unfinished,
    replace_folder,
    require_disk_space,
    restore_folder,
    sha256_of_bytes,
    sha256_of_file,
    tensors_to_bytes,
    write_bytes,
    write_json,
    write_tensors,
    write_text,
)

# The files that this process has open.
OPEN = Path("/proc/self/fd")


def fail(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes are free on every disk."""
    size = 1_234_567_800_000
    usage = SimpleNamespace(free=size)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Path(folder).stat() and usage)
    return size


def test_a_full_disk_leaves_the_old_file_and_says_how_much_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", fail)
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
    monkeypatch.setattr(os, "fsync", fail)
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


def test_a_file_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "c" / "file", b"x")
    assert (tmp_path / "a" / "b" / "c" / "file").read_bytes() == b"x"


@pytest.mark.skipif(not OPEN.exists(), reason="needs /proc")
def test_the_bytes_and_then_the_new_name_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def fsync(handle: int) -> None:
        path = (OPEN / str(handle)).readlink()
        synced.append((path == tmp_path, (tmp_path / "file").exists()))

    handles = len(list(OPEN.iterdir()))
    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(tmp_path / "file", b"x")
    assert synced == [(False, False), (True, True)]
    assert len(list(OPEN.iterdir())) == handles


def test_a_folder_that_cannot_be_synced_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", fail)
    write_bytes(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_what_cannot_be_removed_does_not_hide_why_writing_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(Path, "unlink", broken)
    with pytest.raises(StorageError, match="No space left"):
        write_bytes(tmp_path / "file", b"x")


def test_an_unwritable_file_names_the_space_on_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(StorageError, match=r"\(1,234,567\.8 MB free\)"):
        write_bytes(tmp_path / "none" / "below" / "file", b"x")
    monkeypatch.setattr(shutil, "disk_usage", fail)
    with pytest.raises(StorageError) as caught:
        write_bytes(tmp_path / "none" / "below" / "file", b"x")
    path = tmp_path / "none" / "below" / "file"
    assert str(caught.value).startswith(f"cannot write {path}: No space left on device. Free some")


def test_only_a_full_disk_is_told_to_be_freed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError) as failure:
        write_json(tmp_path / "file" / "below.json", {})
    assert "free" not in str(failure.value).lower()
    assert "Name another folder with --out" in str(failure.value)


def test_space_that_just_suffices_is_enough(tmp_path: Path, free: int) -> None:
    require_disk_space(tmp_path, free, "the cache")
    with pytest.raises(StorageError) as caught:
        require_disk_space(tmp_path, free + 500_000, "the cache")
    wanted = f"the cache needs 1,234,568.3 MB, but {tmp_path} has 1,234,567.8 MB free. "
    assert str(caught.value).startswith(wanted)
    with pytest.raises(StorageError):
        require_disk_space(tmp_path, free + 1, "the cache")


@pytest.mark.parametrize(("outer", "inner"), [("CACHE", "DATA"), ("DATA", "CACHE")])
def test_the_innermost_folder_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, outer: str, inner: str
) -> None:
    monkeypatch.setenv(f"GLASSHOUSE_{outer}", str(tmp_path))
    monkeypatch.setenv(f"GLASSHOUSE_{inner}", str(tmp_path / "inner"))
    for folder, setting in ((tmp_path / "inner", inner), (tmp_path / "other", outer)):
        folder.mkdir()
        with pytest.raises(StorageError, match=f"another folder with GLASSHOUSE_{setting}"):
            require_disk_space(folder, free + 1, "it")


def test_the_folders_are_those_of_the_environment_or_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in (("GLASSHOUSE_CACHE", cache_folder), ("GLASSHOUSE_DATA", data_folder)):
        monkeypatch.setenv(name, str(tmp_path / name))
        assert folder() == tmp_path / name
        monkeypatch.setenv(name, "")
        usual = folder()
        monkeypatch.delenv(name)
        assert folder() == usual
        assert usual.is_absolute() and "glasshouse" in usual.parts


def test_a_folder_that_was_set_aside_comes_back_and_one_that_is_replaced_goes(
    tmp_path: Path,
) -> None:
    def make(name: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "of").write_text(name)

    def left() -> dict[str, str]:
        return {path.name: (path / "of").read_text() for path in tmp_path.iterdir()}

    restore_folder(tmp_path / "none")
    make(".run.replaced")
    restore_folder(tmp_path / "run")
    assert left() == {"run": ".run.replaced"}
    make(".run.incoming")
    restore_folder(tmp_path / "run")
    assert left() == {"run": ".run.replaced", ".run.incoming": ".run.incoming"}
    replace_folder(tmp_path / "run")
    assert left() == {"run": ".run.incoming"}
    # As one of several seeds, of which only the folder around them is named.
    shutil.rmtree(tmp_path / "run")
    make(".seed-1.replaced")
    make(".seed-1.incoming")
    restore_folder(tmp_path)
    assert left() == {"seed-1": ".seed-1.incoming"}


def test_a_folder_that_is_called_like_a_piece_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".a.json.1-2").mkdir()
    (tmp_path / ".b.json.1-2").touch()
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".a.json.1-2"]


def test_a_cache_that_cannot_be_marked_as_used_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "pixels"
    mark_used(path)
    assert not path.exists()
    path.touch()
    os.utime(path, (0, 0))
    mark_used(path)
    assert path.stat().st_mtime > 1e9


def test_a_name_that_is_not_utf8_is_an_escape(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "x.json", {"name": name})
    assert read_json(tmp_path / "x.json") == {"name": name}
    write_text(tmp_path / "x.txt", name)
    assert read_text(tmp_path / "x.txt") == "caf\\udce9"


def test_json_is_indented_and_ends_with_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1]})
    assert (tmp_path / "x.json").read_bytes() == b'{\n  "a": [\n    1\n  ]\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_file_gets_a_number_that_other_readers_refuse(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", value)
    with pytest.raises(ValueError, match="not JSON compliant"):
        tensors_to_bytes({"x": torch.ones(1)}, {"loss": value})
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_not_utf8_and_nesting_without_end_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'"caf\xe9"')
    with pytest.raises(StorageError, match=r"x\.json is damaged: .*utf-8"):
        read_text(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(b"[" * 1_000_000)
    with pytest.raises(StorageError, match=r"x\.json is damaged: .*recursion"):
        read_json(tmp_path / "x.json")


def test_tensors_of_others_have_no_metadata(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "none", None)
    save_file({"x": torch.ones(2)}, tmp_path / "other", {"format": "pt"})
    for name in ("none", "other"):
        tensors, metadata = read_tensors(tmp_path / name)
        assert tensors["x"].tolist() == [1.0, 1.0]
        assert metadata == {}
    save_file({"x": torch.ones(2)}, tmp_path / "wrong", {"glasshouse": "{"})
    with pytest.raises(StorageError, match="wrong is damaged"):
        read_tensors(tmp_path / "wrong")
    with pytest.raises(StorageError, match="gone does not exist"):
        read_tensors(tmp_path / "gone")


def test_tensors_that_need_gradients_or_are_views_are_written_whole(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    tensors = {"view": whole.T, "trained": torch.nn.Parameter(whole)}
    write_tensors(tmp_path / "t", tensors)
    found, metadata = read_tensors(tmp_path / "t")
    assert found["view"].tolist() == whole.T.tolist()
    assert found["trained"].tolist() == whole.tolist()
    assert metadata == {}


def test_an_array_is_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(5))
    found = read_array(path)
    np.save(path, np.zeros(5, dtype=int))
    assert found.tolist() == [0, 1, 2, 3, 4]
    found[0] = 7
    assert read_array(path).tolist() == [0] * 5


def test_an_array_of_objects_or_one_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="memory-mapped"):
        read_array(path)
    np.save(path, np.arange(1000))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="greater than file size"):
        read_array(path)


def test_a_hash_is_that_of_the_standard(tmp_path: Path) -> None:
    # FIPS 180-2, appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_bytes(b"abc") == expected
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "abc") == expected


def test_what_only_writes_files_does_not_import_torch() -> None:
    code = (
        "import sys, glasshouse.storage; sys.exit({'torch', 'numpy'} & set(sys.modules) != set())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
