import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from glasshouse.data import download as module
from glasshouse.data.download import download
from glasshouse.errors import DataError
from tests.data.servers import Files, serving

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


def test_a_file_is_downloaded_completely(tmp_path: Path) -> None:
    with serving(Files({"/file": CONTENT})) as address:
        download(f"{address}/file", tmp_path / "deep" / "file", md5=MD5)
    assert (tmp_path / "deep" / "file").read_bytes() == CONTENT
    assert not (tmp_path / "deep" / "file.part").exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_resumed(tmp_path: Path, ranges: bool) -> None:
    files = Files({"/file": CONTENT}, breaks=2, ranges=ranges)
    with serving(files) as address:
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert files.asked[:2] == ["", "bytes=150000-"]


def test_the_partial_download_of_an_earlier_attempt_is_completed(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:200_000])
    files = Files({"/file": CONTENT})
    with serving(files) as address:
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert files.asked == ["bytes=200000-"]


def test_a_partial_download_that_is_complete_is_only_verified(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    with serving(Files({"/file": CONTENT})) as address:
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_the_wrong_file_is_refused_and_not_kept(tmp_path: Path) -> None:
    with (
        serving(Files({"/file": CONTENT[::-1]})) as address,
        pytest.raises(DataError, match="is not the expected file: md5"),
    ):
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_keeps_failing_keeps_the_partial_download(tmp_path: Path) -> None:
    files = Files({"/file": CONTENT}, breaks=99)
    with (
        serving(files) as address,
        pytest.raises(DataError, match=r"connection ended.*file\.part.*next attempt"),
    ):
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert len(files.asked) == 5
    kept = (tmp_path / "file.part").read_bytes()
    assert 0 < len(kept) < len(CONTENT)
    assert CONTENT.startswith(kept)


def test_nothing_is_said_to_be_kept_where_nothing_was_received(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> Iterator[tuple[int, int]]:
        raise ConnectionRefusedError("refused")
        yield

    monkeypatch.setattr(module, "_receive", refused)
    with pytest.raises(DataError, match=r"cannot download .*: refused\.$"):
        download("http://127.0.0.1/file", tmp_path / "file", md5=MD5)


def test_a_file_that_does_not_exist_is_reported_at_once(tmp_path: Path) -> None:
    files = Files({})
    with serving(files) as address, pytest.raises(DataError, match="answered 404"):
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert len(files.asked) == 1
