"""The images of a request: a multipart form, or a single image as the body."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from glasshouse.data.decode import Pixels, decode
from glasshouse.data.headers import describe_losses, losses_of
from glasshouse.data.image_formats import format_of
from glasshouse.errors import BadImage
from glasshouse.models.preprocessing import Preprocessing, preprocess
from glasshouse.serving.service.capacity import Slot
from glasshouse.serving.service.content_encoding import ENCODINGS, Decompressor, Expanded
from glasshouse.serving.service.image_work import SMALL_PIXELS, ImageWork
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.problems import ClientLeft, Problem

_MAX_NAME = 200
_RAW = ("image/", "application/octet-stream")
_CURL_TYPE = "application/x-www-form-urlencoded"
_CURL_HINT = (
    " That is the type which curl --data-binary sends by itself: add -H 'Content-Type: "
    "application/octet-stream', or send a form with -F image=@photo.jpg."
)
_MAX_FIELDS = 1000
# AVIF and JPEG 2000 take far longer per pixel; a tile of a TIFF can be larger than its image.
_SIMPLE = ("JPEG", "PNG")
# In a form they would have no effect, which the answer says.
OPTIONS = frozenset(
    {
        *("top", "coverage", "sets", "class_conditional", "similar"),
        *("method", "class", "layer", "form", "checks", "model"),
    }
)


@dataclass(frozen=True)
class Upload:
    """An image file as it was sent, and the name that its sender gave it.

    warnings: sentences on the request and on the file, complete once it is decoded.
    """

    name: str
    data: bytes
    warnings: list[str] = field(default_factory=list)


async def read_uploads(
    request: Request, slot: Slot, limits: Limits, most: int | None = None
) -> list[Upload]:
    """The images of a request, at least one.

    most: the largest number of images; None: that of the limits. Raises Full, ClientLeft, and
    Problem 408, 413, 415 or 422.
    """
    kind = request.headers.get("content-type", "application/octet-stream")
    kind = kind.partition(";")[0].strip().lower()
    is_form = kind == "multipart/form-data"
    if not is_form and not kind.startswith(_RAW):
        raise Problem(
            415,
            "unsupported-media-type",
            f"Expected multipart/form-data, image/* or application/octet-stream, got "
            f"{kind[:_MAX_NAME]!r}.{_CURL_HINT if kind == _CURL_TYPE else ''}",
        )
    body = await read_body(request, slot, limits)
    if not is_form:
        if not body:
            raise Problem(422, "invalid", "The body is empty: expected an image file.")
        return [Upload("image", body)]
    return await _parts(request, body, most or limits.max_images)


async def read_body(request: Request, slot: Slot, limits: Limits) -> bytes:
    """The whole body, decompressed.

    Raises ClientLeft, Problem 408, 413, 415 or 422, and Full beyond the capacity.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limits.max_body:
        raise _too_large(limits)
    decompressor = _decompressor(request, limits)
    chunks, size = [], 0
    with _body_problems(request, limits):
        async with asyncio.timeout(limits.upload):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limits.max_body:
                    raise _too_large(limits)
                if decompressor is not None:
                    # A few bytes may expand to all that the limit allows: not in the event loop.
                    chunk = await asyncio.to_thread(decompressor.feed, chunk)
                # Chunk by chunk, since a client may declare less than it sends, or nothing.
                slot.grow(size=len(chunk))
                chunks.append(chunk)
        if decompressor is not None and size and not decompressor.is_whole:
            raise zlib.error("it is truncated")
    return b"".join(chunks)


@contextmanager
def _body_problems(request: Request, limits: Limits) -> Iterator[None]:
    """Exceptions while a body is read as those that `read_body` raises."""
    try:
        yield
    except TimeoutError as error:
        raise Problem(
            408, "upload-timeout",
            f"The request body did not arrive within {limits.upload:g} seconds.",
            headers={"Connection": "close"},
        ) from error  # fmt: skip
    except ClientDisconnect as error:
        raise ClientLeft from error
    except Expanded as error:
        raise _too_large(limits) from error
    except zlib.error as error:
        encoding = request.headers["content-encoding"]
        raise Problem(422, "invalid", f"The body is not valid {encoding}: {error}.") from error


def _decompressor(request: Request, limits: Limits) -> Decompressor | None:
    named = request.headers.get("content-encoding", "").strip().lower()
    encoding = "gzip" if named == "x-gzip" else named
    if encoding in ("", "identity"):
        return None
    if encoding not in ENCODINGS:
        raise Problem(
            415, "unsupported-encoding",
            f"Unsupported Content-Encoding {named[:_MAX_NAME]!r}: expected {' or '.join(ENCODINGS)}"
            ", or a body that is not compressed.",
            headers={"Accept-Encoding": ", ".join(ENCODINGS)},
        )  # fmt: skip
    return Decompressor(encoding, limits.max_body)


def image_work(upload: Upload, preprocessing: Preprocessing, limits: Limits) -> ImageWork:
    """How to make the pixels of an upload."""
    make, most = partial(pixels_of, upload, preprocessing), limits.max_pixels
    small = partial(make, min(most, SMALL_PIXELS)) if _is_simple(upload.data) else None
    return ImageWork(partial(make, most), len(upload.data), small)


def _is_simple(data: bytes) -> bool:
    """Whether the number of its pixels says how long a file takes to decode."""
    with suppress(BadImage):
        return format_of(data, "") in _SIMPLE
    return False


def pixels_of(upload: Upload, preprocessing: Preprocessing, max_pixels: int) -> Pixels:
    """The decoded image at the network's input size: uint8 ``(3, h, w)``; raises BadImage."""
    image = decode(upload.data, name=upload.name, max_pixels=max_pixels)
    losses = losses_of(upload.data, upload.name)
    upload.warnings.extend(describe_losses([(upload.name, losses)]))
    return preprocess(image, preprocessing)


async def _parts(request: Request, body: bytes, most: int) -> list[Upload]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    # The body is in memory already; spooling a part to a file would only copy it.
    parser = MultiPartParser(request.headers, stream(), max_files=most, max_fields=_MAX_FIELDS)
    parser.spool_max_size = parser.max_part_size = len(body) + 1
    try:
        form = await parser.parse()
    # A wrong boundary or part header makes the parser raise more than its own exception.
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", None) or "it cannot be parsed"
        raise Problem(
            422, "invalid",
            f"Invalid multipart form ({reason}): expected up to {most} files.",
        ) from error  # fmt: skip
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    fields = [name for name, value in form.multi_items() if not isinstance(value, UploadFile)]
    warnings = [
        f"the form field {name!r} was ignored: options go into the query string"
        for name in dict.fromkeys(fields)
        if name in OPTIONS
    ]
    uploads = [Upload(_name_of(file), await file.read(), [*warnings]) for file in files]
    await form.close()
    if not uploads:
        received = ", ".join(repr(name[:_MAX_NAME]) for name in fields[:5]) or "nothing"
        raise Problem(
            422, "invalid",
            f"The form has no files: expected at least one image, as curl -F image=@photo.jpg "
            f"sends it; received the fields {received}.",
        )  # fmt: skip
    return uploads


def _name_of(file: UploadFile) -> str:
    # Some encodings of a form yield lone surrogates, which JSON in UTF-8 cannot carry.
    name = (file.filename or "image").encode("utf-8", "replace").decode("utf-8")
    return name[:_MAX_NAME]


def _too_large(limits: Limits) -> Problem:
    return Problem(
        413,
        "too-large",
        f"The request body is larger than the limit of {limits.max_body / 2**20:g} MiB.",
        headers={"Connection": "close"},
    )
