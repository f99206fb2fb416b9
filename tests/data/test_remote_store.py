"""What a store is asked for, how often, and what is made of its answers."""

import importlib
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from glasshouse.data import remote_store
from glasshouse.data.remote_store import RemoteFile, RemoteStore, require_protocol
from glasshouse.errors import DataError, UsageError


class Clock(threading.Event):
    """Notes for how long it is waited, and takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        return self.is_set()


def store_of(address: str, **methods: Any) -> RemoteStore:
    """A store whose client has these methods."""
    store = object.__new__(RemoteStore)
    store.address, store.protocol = address, address.partition(":")[0]
    store.closed = Clock()
    store._fs = SimpleNamespace(**methods)
    return store


def waited(store: RemoteStore) -> list[float | None]:
    assert isinstance(store.closed, Clock)
    return store.closed.waited


def busy(*_: object, **__: object) -> Any:
    raise TimeoutError("busy")


FILE = RemoteFile("bucket/a.png", "a.png", 10, "v")


def test_reads_are_tried_eight_times_within_half_a_minute_and_listings_four_times() -> None:
    store = store_of("s3://bucket", cat_file=busy)
    with pytest.raises(DataError, match="cannot read s3://bucket: busy"):
        store.read(FILE)
    assert waited(store) == [0.25, 0.5, 1, 2, 4, 8, 16]
    store = store_of("s3://bucket", info=busy, _strip_protocol=lambda address: address[5:])
    with pytest.raises(DataError, match="busy"):
        store._info("x")
    assert len(waited(store)) == 7
    store.closed = Clock()
    with pytest.raises(DataError, match="busy"):
        store.files()
    assert waited(store) == [0.25, 0.5, 1]


def test_nothing_is_tried_again_once_nobody_waits_or_where_it_cannot_help() -> None:
    store = store_of("s3://bucket", cat_file=busy)
    store.closed.set()
    with pytest.raises(DataError, match="busy") as found:
        store.read(FILE)
    assert waited(store) == [0.25]
    # Its text may hold a signed address.
    assert found.value.__cause__ is None and found.value.__suppress_context__

    def refused(*_: object, **__: object) -> Any:
        raise PermissionError("no")

    store = store_of("s3://bucket", cat_file=refused)
    with pytest.raises(DataError, match="refused"):
        store.read(FILE)
    assert waited(store) == []


def test_what_is_read_is_what_was_asked_for() -> None:
    asked: list[tuple[object, ...]] = []
    data = b"0123456789"

    def cat_file(path: str, *, start: int | None, end: int | None) -> bytearray:
        asked.append((path, start, end))
        return bytearray(data[start:end])

    store = store_of("s3://bucket", cat_file=cat_file)
    whole = store.read(FILE)
    assert whole == data and isinstance(whole, bytes)
    assert store.read(FILE, 3, 7) == b"3456"
    assert store.read(FILE, 8) == b"89"
    assert store.read(FILE, 0, 2) == b"01"
    path = FILE.path
    assert asked == [(path, None, None), (path, 3, 7), (path, 8, None), (path, 0, 2)]
    assert store.read(RemoteFile(path, "a.png", None, "")) == data
    assert store.read(RemoteFile(path, "a.png", 4, "")) == data, "more than announced is no loss"
    assert waited(store) == []
    with pytest.raises(DataError, match=r"10 of 1,000 bytes of a\.png arrived"):
        store.read(RemoteFile(path, "a.png", 1000, ""))
    with pytest.raises(DataError, match=r"2 of 3 bytes of a\.png arrived"):
        store.read(FILE, 8, 11)


def test_the_version_is_the_one_of_now() -> None:
    done: list[object] = []

    def info(path: str) -> dict[str, str]:
        done.append(path)
        return {"ETag": "2"}

    store = store_of("s3://b", info=info, invalidate_cache=lambda: done.append("forgotten"))
    assert store.version_now(FILE) == "ETag=2"
    assert done == ["forgotten", "bucket/a.png"]


def test_a_file_has_the_size_and_the_versions_that_a_store_says() -> None:
    made = remote_store._file
    assert made("p", "n", {}) == RemoteFile("p", "n", None, "")
    info = {"size": "12", "mtime": 0, "etag": None, "ETag": "x", "name": "other"}
    assert made("p", "n", info) == RemoteFile("p", "n", 12, "ETag=x mtime=0")
    lfs = {"size": 0, "lfs": {"sha256": "a", "ETag": "old"}, "ETag": "new"}
    assert made("p", "n", lfs) == RemoteFile("p", "n", 0, "ETag=new sha256=a")
    assert made("p", "n", {"size": 1, "lfs": "yes"}) == RemoteFile("p", "n", 1, "")


def strip(address: str) -> str:
    return address.partition("://")[2]


def of_the_path(path: str) -> dict[str, object]:
    return {"name": path, "size": len(path), "type": "file"}


def named(address: str, **methods: Any) -> list[tuple[str, str]]:
    store = store_of(address, _strip_protocol=strip, **methods)
    return [(file.path, file.name) for file in store.files()]


def test_shards_are_named_below_what_they_have_in_common() -> None:
    assert named("s3://b/data/x-{1..0}.tar".replace("{1..0}", "{1,0}"), info=of_the_path) == [
        ("b/data/x-0.tar", "x-0.tar"),
        ("b/data/x-1.tar", "x-1.tar"),
    ]
    assert named("s3://b/{u,v}/x.tar", info=of_the_path) == [
        ("b/u/x.tar", "u/x.tar"),
        ("b/v/x.tar", "v/x.tar"),
    ]


def test_a_file_is_itself_and_a_folder_is_what_is_below_it() -> None:
    assert named("s3://b/data/x.tar", info=of_the_path) == [("b/data/x.tar", "x.tar")]
    below: dict[str, dict[str, Any]] = {"b/data/z/1.png": {}, "b/data/z/": {}, "b/data/a.png": {}}

    def find(start: str, detail: bool) -> dict[str, dict[str, Any]]:
        assert detail
        return below if start == "b/data" else {}

    found = named("s3://b/data", info=lambda path: {"type": "directory"}, find=find)
    assert found == [("b/data/a.png", "a.png"), ("b/data/z/1.png", "z/1.png")]
    with pytest.raises(DataError, match=r"^s3://b/none has no files$"):
        named("s3://b/none", info=lambda path: {"type": "directory"}, find=find)


def test_where_the_client_passes_over_folders_that_it_cannot_list_each_is_listed() -> None:
    lists = {
        "b/data": [("b/data", "directory"), ("b/data/ant", "directory"), ("b/data/x", "file")],
        "b/data/ant": [("b/data/ant/1.png", "file")],
    }
    broken: list[Exception] = [TimeoutError("busy"), OSError(5, "busy")]

    def ls(self: object, path: str, detail: bool = True) -> list[dict[str, object]]:
        if path == "b/data/ant" and broken:
            raise broken.pop()
        return [{"name": name, "type": kind, "size": 1} for name, kind in lists[path]]

    base = importlib.import_module("fsspec").AbstractFileSystem
    store = store_of("hdfs://b/data")
    store._fs = type("Client", (base,), {"ls": ls, "cachable": False})()
    assert [file.name for file in store._below("b/data")] == ["x", "ant/1.png"]
    assert waited(store) == [0.25, 0.5]
    broken += [PermissionError("closed")]
    with pytest.raises(DataError, match="access was refused: closed"):
        store._below("b/data")


def test_a_web_server_is_asked_at_a_slash_and_for_each_file() -> None:
    def find(start: str, detail: bool) -> dict[str, Any]:
        assert start == "h/data/"
        names = ("my%20cat.png", "dog.png?C=N", "cow.png#top", "sub/", "dog.png")
        return {f"h/data/{name}": {"size": 99} for name in names}

    found = named("https://h/data", info=of_the_path, find=find)
    assert found == [("h/data/dog.png", "dog.png"), ("h/data/my%20cat.png", "my cat.png")]
    address = "http://h/my%20rows.parquet"
    assert named(address, info=of_the_path) == [(address, "my rows.parquet")]


def test_the_packages_that_a_protocol_needs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> Any:
        raise ImportError("x")

    registry = importlib.import_module("fsspec.registry")
    monkeypatch.setattr(registry, "get_filesystem_class", missing)
    with pytest.raises(
        UsageError, match=r"^s3://b needs s3fs: pip install 'glasshouse\[remote\]'$"
    ):
        require_protocol("s3://b")
    monkeypatch.setattr(registry, "registry", {"myown": None})
    with pytest.raises(UsageError, match=r"^myown://b needs the fsspec package for myown$"):
        require_protocol("myown://b")
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        UsageError, match=r"^s3://b needs fsspec: pip install 'glasshouse\[remote\]'$"
    ):
        require_protocol("s3://b")


def test_a_store_is_opened_at_its_first_shard_and_remembers_no_listing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[object] = []
    fs = SimpleNamespace(invalidate_cache=lambda: done.append("forgotten"))

    def opened(address: str) -> tuple[Any, str]:
        done.append(address)
        return fs, "path"

    core = importlib.import_module("fsspec").core
    monkeypatch.setattr(core, "url_to_fs", opened)
    store = RemoteStore("memory://b/{3..4}.tar")
    assert store._fs is fs and store.protocol == "memory" and not store.closed.is_set()
    assert done == ["memory://b/3.tar", "forgotten"]
