"""Download of one file: resumed after an interruption, and complete or absent."""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from glasshouse.errors import DataError
from glasshouse.progress import Progress

_BLOCK = 1 << 20
# A connection that ends early is resumed, so that each attempt makes progress.
_ATTEMPTS = 5
_TIMEOUT_S = 30


def download(address: str, path: Path, *, md5: str, progress: Progress | None = None) -> Path:
    """Download a file to path and verify its MD5.

    A partial download stays in ``<path>.part`` and is resumed by the next call. Raises DataError
    when the connection fails five times, or when the file is not the expected one.
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
        # The next attempt requests the rest; what was received is kept.
        except (OSError, http.client.HTTPException) as error:
            if attempt == _ATTEMPTS - 1:
                said = f"cannot download {address}: {error}."
                if partial.exists():
                    said += f" What was received is kept in {partial} for the next attempt."
                raise DataError(said) from error


def _receive(address: str, partial: Path) -> Iterator[tuple[int, int]]:
    """Append what is missing, and yield the bytes done and in total.

    A server that does not support ranges sends the whole file, which then replaces the old part.
    """
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=_TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        # The partial file is complete already: there is nothing left to send.
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
        raise ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def _check(partial: Path, address: str, md5: str) -> None:
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        partial.unlink()
        raise DataError(
            f"{address} is not the expected file: md5 {found}, expected {md5}. "
            "It was deleted; try again, or download it by other means."
        )
