"""Texts and colour profiles in a PNG that Pillow refuses to unpack, and with them the whole image.

Programs that make images write their settings there, editors their history: megabytes that no pixel
depends on. What can be read is kept, since it may say how the image is turned.
"""

import zlib

from PIL import PngImagePlugin

_SIGNATURE, _FRAME = 8, 12  # bytes; the latter are the length, the type and the checksum of a chunk
# As little as this of what Pillow allows all texts of a file, whose way to count is its own.
_MOST_BYTES = PngImagePlugin.MAX_TEXT_MEMORY // 2


def without_large_texts(data: bytes) -> bytes:
    """The bytes of a PNG without texts and profiles that are too large; as they are without any."""
    kept: list[bytes] = []
    start = position = _SIGNATURE
    total = 0
    while position + _FRAME <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + _FRAME + length
        packed = _packed(data[position + 4 : position + 8], data[position + 8 : end - 4])
        if packed is not None:
            # Also of those that are left out, no more is unpacked: a file may have a million.
            size, is_too_large = (0, True) if total > _MOST_BYTES else _unpacked_size(*packed)
            total += size
            if is_too_large or total > _MOST_BYTES:
                kept.append(data[start:position])
                start = end
        position = end
    return b"".join([data[:_SIGNATURE], *kept, data[start:]]) if kept else data


def _packed(kind: bytes, content: bytes) -> tuple[bytes, bool] | None:
    """The text or profile in a chunk, and whether it is compressed; None for any other chunk."""
    if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
        return None
    _, _, rest = content.partition(b"\0")
    if kind == b"iTXt":
        # After flag and method, the language and the translated keyword.
        return rest[2:].split(b"\0", 2)[-1], rest[:1] == b"\1"
    return (rest, False) if kind == b"tEXt" else (rest[1:], True)


def _unpacked_size(value: bytes, is_compressed: bool) -> tuple[int, bool]:
    """Its size in bytes, and whether there are more than Pillow unpacks."""
    if not is_compressed:
        return len(value), False
    unpacking = zlib.decompressobj()
    try:
        size = len(unpacking.decompress(value, PngImagePlugin.MAX_TEXT_CHUNK))
    except zlib.error:
        return 0, False
    return size, bool(unpacking.unconsumed_tail)
