import hashlib
import http.client
import io
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

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


class Answer(io.BytesIO):
    """What a web server answers."""

    def __init__(self, content: bytes, status: int = 200, length: int | None = None) -> None:
        super().__init__(content)
        self.status = status
        self.headers = {} if length is None else {"Content-Length": str(length)}


def received(
    monkeypatch: pytest.MonkeyPatch, partial: Path, answer: Answer | int
) -> list[tuple[int, int]]:
    def opened(request: Any, timeout: float) -> Answer:
        assert timeout == 30
        if isinstance(answer, int):
            raise urllib.error.HTTPError("x", answer, "said", Message(), io.BytesIO())
        return answer

    monkeypatch.setattr(urllib.request, "urlopen", opened)
    return list(module._receive("http://host/x", partial))


def test_every_block_is_counted_with_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module._BLOCK == 1024 * 1024
    monkeypatch.setattr(module, "_BLOCK", 4)
    part = tmp_path / "x.part"
    assert received(monkeypatch, part, Answer(b"", length=None)) == []
    assert received(monkeypatch, part, Answer(b"abcde", length=None)) == [(4, 4), (5, 5)]
    assert received(monkeypatch, part, Answer(b"fghij", 206, 5)) == [(9, 10), (10, 10)]
    assert part.read_bytes() == b"abcdefghij"
    # The whole file replaces the part.
    assert received(monkeypatch, part, Answer(b"abcde", 200, 5)) == [(4, 5), (5, 5)]
    assert part.read_bytes() == b"abcde"
    with pytest.raises(ConnectionError, match=r"^the connection ended after 7 of 1,005 bytes$"):
        received(monkeypatch, part, Answer(b"fg", 206, 1000))


def test_only_a_part_may_be_beyond_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "x.part"
    with pytest.raises(urllib.error.HTTPError):
        received(monkeypatch, part, 416)
    part.write_bytes(b"whole")
    assert received(monkeypatch, part, 416) == []
    with pytest.raises(urllib.error.HTTPError):
        received(monkeypatch, part, 404)


def test_a_broken_answer_is_tried_again_and_progress_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Exception | tuple[int, int]] = [
        http.client.IncompleteRead(b""),
        OSError(),
        (3, 9),
    ]

    def receive(address: str, partial: Path) -> Iterator[tuple[int, int]]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield answer

    seen: list[tuple[str, int, int]] = []
    monkeypatch.setattr(module, "_receive", receive)
    module._fetch("x", tmp_path / "a.tar.gz.part", lambda *news: seen.append(news))
    assert seen == [("downloading a.tar.gz", 3, 9)] and answers == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"^cannot download http://h/x to .*file/x: .*exist"):
        download("http://h/x", tmp_path / "file" / "x", md5=MD5)
