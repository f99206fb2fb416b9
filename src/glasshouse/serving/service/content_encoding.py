"""Compressed request bodies: gzip and deflate, within the limit of what they expand to."""

import zlib

ENCODINGS = ("gzip", "deflate")
_GZIP, _ZLIB, _RAW = 31, 15, -15


class Expanded(Exception):
    """A body expands to more than it may."""


class Decompressor:
    """Decompresses a body piece by piece; encoding: one of ENCODINGS, most: bytes in total.

    `feed` raises Expanded beyond `most`, and zlib.error for what is not in this encoding.
    """

    def __init__(self, encoding: str, most: int) -> None:
        self._is_gzip = encoding == "gzip"
        self._left = most
        self._head = b""
        self._stream = zlib.decompressobj(_GZIP) if self._is_gzip else None

    @property
    def is_whole(self) -> bool:
        """Whether the compressed data has ended where it should."""
        return self._stream is not None and self._stream.eof

    def feed(self, data: bytes) -> bytes:
        """The next piece, decompressed."""
        if self._stream is None:
            self._head += data
            if len(self._head) < 2:
                return b""
            data = self._head
            self._stream = zlib.decompressobj(_ZLIB if _has_zlib_header(data) else _RAW)
        pieces = []
        while data:
            # A gzip file may consist of several members, one after the other.
            if self._stream.eof and self._is_gzip:
                self._stream = zlib.decompressobj(_GZIP)
            elif self._stream.eof:
                raise zlib.error("data after the end")
            # One byte more than is left, so that reaching the limit differs from exceeding it.
            piece = self._stream.decompress(data, self._left + 1)
            self._left -= len(piece)
            if self._left < 0:
                raise Expanded
            pieces.append(piece)
            data = self._stream.unused_data
        return b"".join(pieces)


def _has_zlib_header(data: bytes) -> bool:
    # "deflate" means the zlib format (RFC 9110), but some clients send it without header.
    return data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0
