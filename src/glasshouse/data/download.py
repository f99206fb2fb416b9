"""One file from the network, resumed where it broke off, and whole or absent."""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from glasshouse.errors import DataError
from glasshouse.progress import Progress

_BLOCK = 1 << 20
_ATTEMPTS = 5
_TIMEOUT_S = 30


def download(address: str, path: Path, *, md5: str, progress: Progress | None = None) -> Path:
    """Fetch a file to path and check its md5.

    What came before a break stays in ``<path>.part`` and is completed by the next call. Raises
    DataError when the network fails five times, or when the file is not the expected one.
    """
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(address, partial, progress)
        _check(partial, address, md5)
        partial.replace(path)
    except OSError as error:
        raise DataError(f"cannot download {address} to {path}: {error}") from error
    return path


def _fetch(address: str, partial: Path, progress: Progress | None) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            for done, total in _receive(address, partial):
                if progress:
                    progress(f"downloading {partial.stem}", done, total)
            return
        except urllib.error.HTTPError as error:
            with error:
                raise DataError(f"{address} answered {error.code} {error.reason}") from error
        # The rest is asked for anew; what has come stays.
        except (OSError, http.client.HTTPException) as error:
            if attempt == _ATTEMPTS - 1:
                raise DataError(
                    f"cannot download {address}: {error}. "
                    f"The part that came is kept in {partial}, and the next try goes on from it."
                ) from error


def _receive(address: str, partial: Path) -> Iterator[tuple[int, int]]:
    """Append what is missing; yields bytes done and in all. The server may not know ranges."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=_TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            error.close()
            return
        raise
    with answer:
        if answer.status != http.client.PARTIAL_CONTENT:
            have = 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        with partial.open("ab" if have else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                have += len(block)
                yield have, max(total, have)
    if have < total:
        raise ConnectionError(f"it broke off after {have:,} of {total:,} bytes")


def _check(partial: Path, address: str, md5: str) -> None:
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        partial.unlink()
        raise DataError(
            f"{address} is not the expected file: md5 {found}, expected {md5}. "
            "It was deleted; try again, or fetch it by another way."
        )
