"""Compressed bodies: every format, broken ones, and those that expand without end."""

import gzip
import zlib

import numpy as np
import pytest

from glasshouse.serving.service.content_encoding import (
    Decompressor,
    Expanded,
    _has_zlib_header,
)
from glasshouse.serving.service.service import Service
from tests.serving.service.conftest import Caller, png

DATA = png(1) * 5
# What is repeated lies far back, as the largest window allows.
FAR = np.random.default_rng(0).integers(0, 256, 30_000, dtype=np.uint8).tobytes() * 2


def raw(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(DATA)),
        ("gzip", gzip.compress(DATA[:999]) + gzip.compress(DATA[999:])),
        ("deflate", zlib.compress(DATA)),
        ("deflate", raw(DATA)),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_pieces_of_any_size_give_the_data(encoding: str, body: bytes, size: int) -> None:
    decompressor = Decompressor(encoding, len(DATA))
    pieces = [decompressor.feed(body[at : at + size]) for at in range(0, len(body), size)]
    assert b"".join(pieces) == DATA and decompressor.is_whole


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(FAR)), ("deflate", zlib.compress(FAR)), ("deflate", raw(FAR))],
)
def test_data_may_refer_to_what_came_long_before(encoding: str, body: bytes) -> None:
    assert len(body) < 40_000
    assert Decompressor(encoding, len(FAR)).feed(body) == FAR


def test_gzip_is_no_other_format() -> None:
    for body in (zlib.compress(DATA), raw(DATA)):
        with pytest.raises(zlib.error):
            Decompressor("gzip", len(DATA)).feed(body)


@pytest.mark.parametrize(
    ("head", "is_zlib"),
    [
        (b"\x78\x9c", True), (b"\x68\x05", True), (b"\x78\x9d", False), (b"\x78\x9b", False),
        (b"\x79\x18", False), (b"\x77\x09", False), (b"\x01\x1d", False),
    ],
)  # fmt: skip
def test_the_header_of_zlib(head: bytes, is_zlib: bool) -> None:
    assert _has_zlib_header(head) == is_zlib


def test_the_shortest_body_of_all_is_whole_and_empty() -> None:
    body = raw(b"")
    assert len(body) == 2
    decompressor = Decompressor("deflate", 0)
    assert decompressor.feed(body) == b"" and decompressor.is_whole


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_one_byte_more_than_the_limit_is_too_much(encoding: str) -> None:
    body = gzip.compress(DATA) if encoding == "gzip" else zlib.compress(DATA)
    with pytest.raises(Expanded):
        Decompressor(encoding, len(DATA) - 1).feed(body)


@pytest.mark.parametrize(
    ("encoding", "content", "status", "words"),
    [
        ("gzip", gzip.compress(png(0)), 200, ""),
        ("X-GZip", gzip.compress(png(0)), 200, ""),
        ("deflate", zlib.compress(png(0)), 200, ""),
        ("deflate", raw(png(0)), 200, ""),
        ("identity", png(0), 200, ""),
        ("gzip", png(0), 422, "not valid gzip"),
        ("deflate", zlib.compress(png(0)) + b"more", 422, "after the end"),
        ("gzip", gzip.compress(png(0))[:-9], 422, "truncated"),
        ("deflate", b"x", 422, "truncated"),
        ("gzip", b"", 422, "empty"),
        ("gzip", gzip.compress(bytes(3 << 20)), 413, "1 MiB"),
        ("br", png(0), 415, "'br': expected gzip or deflate"),
        ("gzip, gzip", png(0), 415, "'gzip, gzip'"),
        ("zstd", png(0), 415, "'zstd'"),
    ],
)
def test_a_compressed_image(
    ask: Caller, service: Service, encoding: str, content: bytes, status: int, words: str
) -> None:
    headers = {"content-type": "image/png", "content-encoding": encoding}
    answer = ask("POST", "/predict", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert status != 415 or answer.headers["accept-encoding"] == "gzip, deflate"
    assert (service.capacity.images, service.capacity.bytes) == (0, 0)
