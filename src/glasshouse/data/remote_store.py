"""A place that fsspec can read: its files with their versions, and their bytes."""

import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote

from glasshouse.data.addresses import expanded, has_braces, protocol_of
from glasshouse.data.remote_errors import described_failure, is_permanent, missing_package
from glasshouse.errors import DataError, UsageError, did_you_mean

THREADS = 16
# After 0.25 s, then twice as long each time: half a minute in all.
_ATTEMPTS, _FIRST_DELAY_S = 8, 0.25
# A place that does not answer at all is more often misspelt than busy.
_LISTING_ATTEMPTS = 4
# Whatever changes with the content, as the stores call it.
_VERSIONS = (
    "ETag", "etag", "VersionId", "md5Hash", "md5", "Content-MD5", "content_md5", "Digest", "crc32c",
    "generation", "blob_id", "xet_hash", "sha256", "checksum", "LastModified", "last_modified",
    "Last-Modified", "updated", "mtime", "modified", "created",
)  # fmt: skip
_WEB = ("http", "https")

T = TypeVar("T")


@dataclass(frozen=True)
class RemoteFile:
    """A file in a store. name: relative to the source; size: None where the store does not say.

    version: changes with the content; empty where the store says nothing.
    """

    path: str
    name: str
    size: int | None
    version: str


class RemoteStore:
    """The files below an address, or the ones that a pattern of shards stands for."""

    def __init__(self, address: str) -> None:
        """address: as `normal_address` returns it; raises UsageError for an unknown protocol."""
        self.address = address
        self.protocol = protocol_of(address)
        # Set when nobody waits for the bytes any more, so that nothing is tried again.
        self.closed = threading.Event()
        require_protocol(address)
        # Not imported above: start-up would wait for it.
        self._fs: Any = self._patiently(self._open, _LISTING_ATTEMPTS)

    def files(self) -> list[RemoteFile]:
        """All files in the order of their names; raises DataError where there are none."""
        found = self._patiently(self._found, _LISTING_ATTEMPTS)
        if not found:
            raise DataError(f"{self.address} has no files")
        return sorted(found, key=lambda file: file.name)

    def read(self, file: RemoteFile, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes of a file, all of them or from start up to stop; retried where that may help."""
        is_whole = start == 0 and stop is None

        def once() -> bytes:
            data = self._fs.cat_file(file.path, start=None if is_whole else start, end=stop)
            # A connection that ended early may leave less than was announced.
            wanted = file.size if is_whole else None if stop is None else stop - start
            if wanted is not None and len(data) < wanted:
                raise ConnectionError(f"{len(data):,} of {wanted:,} bytes of {file.name} arrived")
            return bytes(data)

        return self._patiently(once, _ATTEMPTS)

    def version_now(self, file: RemoteFile) -> str:
        """The present version of a file; stores may write it differently from a listing."""
        # A client may answer from the listing that it remembers.
        self._fs.invalidate_cache()
        return _file(file.path, file.name, self._info(file.path)).version

    def _open(self) -> Any:
        fsspec = importlib.import_module("fsspec")
        fs, _ = fsspec.core.url_to_fs(expanded(self.address)[0])
        # Listings are remembered within a process, and this one may have run for days.
        fs.invalidate_cache()
        return fs

    def _found(self) -> list[RemoteFile]:
        if has_braces(self.address):
            names = expanded(self.address)
            with ThreadPoolExecutor(THREADS) as pool:
                infos = list(pool.map(self._info, map(self._fs._strip_protocol, names)))
            # Relative to what they have in common, so that a name says where a shard is from.
            depth = len(self.address.partition("{")[0].rpartition("/")[0]) + 1
            pairs = zip(names, infos, strict=True)
            return [_file(info["name"], name[depth:], info) for name, info in pairs]
        root = self._fs._strip_protocol(self.address).rstrip("/")
        if self.protocol not in _WEB:
            info = self._fs.info(root)
            if info["type"] == "file":
                return [_file(info["name"], root.rpartition("/")[2], info)]
        elif self.address.endswith((".parquet", ".tar")):
            return [_file(self.address, unquote(root.rpartition("/")[2]), self._asked(root))]
        return self._below(root)

    def _below(self, root: str) -> list[RemoteFile]:
        # A web server lists a folder at the address that ends in a slash only.
        start = f"{root}/" if self.protocol in _WEB else root
        found: Mapping[str, Any] = (
            self._walked(start) if _omits_failures(self._fs) else self._fs.find(start, detail=True)
        )
        files = {path: info for path, info in found.items() if not path.endswith("/")}
        if self.protocol in _WEB:
            files = self._with_versions([path for path in files if not set("?#") & set(path)])
        names = {path: path[len(root) :].lstrip("/") for path in files}
        if self.protocol in _WEB:
            names = {path: unquote(name) for path, name in names.items()}
        return [_file(path, names[path], info) for path, info in files.items()]

    def _walked(self, start: str) -> dict[str, Any]:
        """What is below a folder, one list after the other; raises where one cannot be read."""
        found: dict[str, Any] = {}
        folders, seen = [start], {start.rstrip("/")}
        while folders:
            folder = folders.pop()
            # Once the first has been listed, the place is there.
            attempts = _LISTING_ATTEMPTS if folder == start else _ATTEMPTS
            for info in self._patiently(partial(self._listed, folder), attempts):
                path = info["name"]
                if info["type"] != "directory":
                    found[path] = info
                elif path.rstrip("/") not in seen and self._is_below(path):
                    seen.add(path.rstrip("/"))
                    folders.append(path)
        return found

    def _listed(self, folder: str) -> list[Any]:
        try:
            return list(self._fs.ls(folder, detail=True))
        except FileNotFoundError as error:
            # Of an empty page, fsspec asks again without the slash, where few servers answer.
            again = folder.rstrip("/")
            if self.protocol in _WEB and again != folder and error.args == (again,):
                return []
            raise

    def _is_below(self, path: str) -> bool:
        """Whether a folder is one of its own: a page may have links to itself, also sorted."""
        is_itself = path.rstrip("/").endswith(("/.", "/.."))
        return self.protocol not in _WEB or not (is_itself or set("?#") & set(path))

    def _with_versions(self, paths: Sequence[str]) -> dict[str, Any]:
        """What a web server says of each file: its page with the listing has neither."""
        with ThreadPoolExecutor(THREADS) as pool:
            return dict(zip(paths, pool.map(self._info, paths), strict=True))

    def _info(self, path: str) -> Any:
        return self._patiently(partial(self._asked, path), _ATTEMPTS)

    def _asked(self, path: str) -> Any:
        try:
            return self._fs.info(path)
        except FileNotFoundError as error:
            # Whatever a web server answers, fsspec calls the file missing, and keeps the cause.
            if self.protocol in _WEB and isinstance(error.__cause__, Exception):
                raise error.__cause__ from None
            raise

    def _patiently(self, call: Callable[[], T], attempts: int) -> T:
        """The result of a call that is tried again, after longer and longer, while that may help.

        Raises DataError or UsageError, without credentials.
        """
        for attempt in range(attempts):
            try:
                return call()
            # The packages behind fsspec raise errors that have no base class in common.
            except Exception as error:
                is_last = attempt == attempts - 1 or is_permanent(error)
                if is_last or self.closed.wait(_FIRST_DELAY_S * 2**attempt):
                    # Without its cause, whose text may hold a signed address.
                    raise described_failure(error, self.address, self.protocol) from None
        raise AssertionError("unreachable")


def require_protocol(address: str) -> None:
    """Raise UsageError for a protocol that is unknown, or whose package is not installed."""
    protocol = protocol_of(address)
    try:
        registry = importlib.import_module("fsspec.registry")
    except ImportError:
        raise UsageError(f"{address} needs fsspec: pip install 'glasshouse[remote]'") from None
    known = {*registry.known_implementations, *registry.registry}
    if protocol not in known:
        raise UsageError(
            f"unknown protocol {protocol}:// in {address}. {did_you_mean(protocol, known)}"
        )
    try:
        registry.get_filesystem_class(protocol)
    except ImportError:
        raise missing_package(address, protocol) from None


def _omits_failures(fs: Any) -> bool:
    """Whether a client finds files as fsspec does by default: without those of unread folders."""
    spec, asyn = (importlib.import_module(f"fsspec.{name}") for name in ("spec", "asyn"))
    default = spec.AbstractFileSystem.find, asyn.AsyncFileSystem._find
    own = getattr(type(fs), "find", None), getattr(type(fs), "_find", default[1])
    return own == default


def _file(path: str, name: str, info: Mapping[str, Any]) -> RemoteFile:
    size = info.get("size")
    # Hugging Face keeps large files elsewhere, by the digest of their content.
    lfs = info.get("lfs")
    known = {**(lfs if isinstance(lfs, Mapping) else {}), **info}
    version = " ".join(f"{key}={known[key]}" for key in _VERSIONS if known.get(key) is not None)
    return RemoteFile(path, name, None if size is None else int(size), version)
