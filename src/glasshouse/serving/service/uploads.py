"""The images of a request: a multipart form, or one image as the body itself."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from glasshouse.data.decode import Pixels, decode
from glasshouse.models.preprocessing import Preprocessing, preprocess
from glasshouse.serving.service.capacity import Slot
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.problems import Problem

_LONGEST_NAME = 200
_RAW = ("image/", "application/octet-stream")


@dataclass(frozen=True)
class Upload:
    """An image file as it came, and what its sender calls it."""

    name: str
    data: bytes


async def read_uploads(
    request: Request, place: Slot, limits: Limits, most: int | None = None
) -> list[Upload]:
    """The images of a request, at least one.

    most: how many may come, else the limits'. Raises Problem 400, 408, 413, 415 or 422, and Full.
    """
    kind = request.headers.get("content-type", "application/octet-stream")
    kind = kind.partition(";")[0].strip().lower()
    is_form = kind == "multipart/form-data"
    if not is_form and not kind.startswith(_RAW):
        raise Problem(
            415,
            "unsupported-media-type",
            f"Expected multipart/form-data, image/* or application/octet-stream, got {kind!r}.",
        )
    body = await read_body(request, place, limits)
    if not is_form:
        if not body:
            raise Problem(422, "invalid", "The body is empty: expected the bytes of an image.")
        return [Upload("image", body)]
    return await _parts(request, body, most or limits.max_images)


async def read_body(request: Request, place: Slot, limits: Limits) -> bytes:
    """The whole body; raises Problem 408 or 413, and Full when there is no room for it."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limits.max_body:
        raise _too_large(limits)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(limits.upload):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limits.max_body:
                    raise _too_large(limits)
                place.grow(size=len(chunk))
                chunks.append(chunk)
    except TimeoutError as error:
        raise Problem(
            408, "upload-timeout", f"The body did not arrive within {limits.upload:g} seconds.",
            headers={"Connection": "close"},
        ) from error  # fmt: skip
    except ClientDisconnect as error:
        raise Problem(400, "bad-request", "The connection ended inside the body.") from error
    return b"".join(chunks)


def pixels_of(upload: Upload, preprocessing: Preprocessing, limits: Limits) -> Pixels:
    """The decoded image at the net's size: uint8 ``(3, h, w)``; raises BadImage."""
    image = decode(upload.data, name=upload.name, max_pixels=limits.max_pixels)
    return preprocess(image, preprocessing)


async def _parts(request: Request, body: bytes, most: int) -> list[Upload]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    # In memory in any case, so never spooled to a file.
    parser = MultiPartParser(request.headers, stream(), max_files=most, max_fields=0)
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    # A wrong boundary or header of a part shows in many ways, not all of them the parser's own.
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", None) or "it cannot be parsed"
        raise Problem(
            422, "invalid",
            f"The form is not as expected ({reason}): up to {most} files, and no other fields; "
            "options go into the query.",
        ) from error  # fmt: skip
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    uploads = [Upload(_name_of(file), await file.read()) for file in files]
    await form.close()
    if not uploads:
        raise Problem(422, "invalid", "The form holds no file: expected at least one image.")
    return uploads


def _name_of(file: UploadFile) -> str:
    # Some encodings of a form can give half characters, which no answer could carry.
    name = (file.filename or "image").encode("utf-8", "replace").decode("utf-8")
    return name[:_LONGEST_NAME]


def _too_large(limits: Limits) -> Problem:
    return Problem(
        413,
        "too-large",
        f"The body is larger than the {limits.max_body / 2**20:g} MiB that this service takes.",
        headers={"Connection": "close"},
    )
