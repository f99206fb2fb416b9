"""Seeded requests that no well-meaning client sends, as raw bytes."""

import json
import random
from collections.abc import Callable
from typing import Any

from tests.serving.service.conftest import png

_PATHS = (
    "/predict", "/explain", "/v2/models/tiny/infer", "/healthz", "/metrics", "/", "/docs",
    "/predict?top=-1", "/predict?top=1e9", "/explain?method=" + "x" * 3000, "/explain?class=%00",
    "/explain?form=both&checks=true&method=all", "/predict?top=%F0%28%8C%28", "//predict", "/%2e",
)  # fmt: skip
_METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "P\0ST", "X" * 500)
_HEADERS = (
    "Host: evil.example", "Host: 127.0.0.1:80@evil", "Host: ", "Origin: https://evil.example",
    "Sec-Fetch-Site: cross-site", "Expect: 100-continue", "Expect: x", "Upgrade: websocket",
    "Connection: upgrade", "Connection: close", "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked", "Content-Length: -1", "Content-Length: 1e9",
    "Content-Length: 99999999999999999999", "Content-Length: 5\r\nContent-Length: 6",
    "Content-Type: multipart/form-data", "Content-Type: multipart/form-data; boundary=",
    "Content-Type: multipart/form-data; boundary=b", "Content-Type: application/json; charset=x",
    "Content-Encoding: gzip", "Range: bytes=0-0,-1", "X-Request-ID: a\tb",
    "Authorization: Bearer \xff",
    "X-API-Key: " + "k" * 9000, "Cookie: " + "c=d; " * 2000, "X-Forwarded-For: ::1", ": x", "A",
    "X: " + "\x01", " folded: x", "Accept: " + "*/*," * 500,
)  # fmt: skip


def hostile_request(rng: random.Random) -> bytes:
    """One request: a head with up to four odd headers, and a body that may fit it or not."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(1, 3000)) + b"\r\n\r\n"
    body = rng.choice(_BODIES)(rng)
    lines = [f"{rng.choice(_METHODS[:2] * 9 + _METHODS)} {rng.choice(_PATHS)} HTTP/1.1"]
    if rng.random() < 0.8:
        lines.append("Host: 127.0.0.1")
    if rng.random() < 0.7:
        lines.append(f"Content-Length: {len(body) if rng.random() < 0.9 else rng.randrange(99)}")
    lines += rng.choices(_HEADERS, k=rng.choice((0, 0, 0, 1, 1, 2, 4)))
    head = "\r\n".join(lines).encode("latin-1")
    if rng.random() < 0.05:
        place = rng.randrange(len(head))
        head = head[:place] + rng.randbytes(1) + head[place + 1 :]
    return head + b"\r\n\r\n" + body


def _image(rng: random.Random) -> bytes:
    data = bytearray(png(rng.randrange(9)))
    for _ in range(rng.randrange(4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(1, len(data) + 1)] if rng.random() < 0.3 else data)


def _form(rng: random.Random) -> bytes:
    name = rng.choice(("a.png", "../../etc/passwd", "\0", "\udcff", '"', "x" * 5000, "a\r\nb: c"))
    kind = rng.choice(('; filename="{}"', "; filename*=utf-8''{}", "; {}", ""))
    part = f'Content-Disposition: form-data; name="p"{kind.format(name)}\r\n\r\n'
    one = b"--b\r\n" + part.encode("utf-8", "surrogateescape") + _image(rng) + b"\r\n"
    return one * rng.choice((1, 1, 2, 40)) + rng.choice((b"--b--\r\n", b"--b", b""))


def _json(rng: random.Random) -> bytes:
    tensor: dict[str, Any] = {
        "name": "pixels",
        "datatype": "UINT8",
        "shape": [1, 3, 16, 16],
        "data": [0] * 768,
    }
    wrong: Any = rng.choice(([], None, -1, 2**70, 1e308, "x" * 10_000, {"a": 1}, [[[]]], "\ud800"))
    tensor[rng.choice((*tensor, "parameters", "extra"))] = wrong
    text = json.dumps({"inputs": [tensor] * rng.choice((0, 1, 1, 2)), "id": wrong})
    return rng.choice((text, "[" * 50_000, text[:-3], "NaN", "{" + '"a":' * 900)).encode()


def _chunks(rng: random.Random) -> bytes:
    sizes = ("5", "-5", "FFFFFFFFFFFFFFFF", "5;ext=" + "x" * 300, "0", "g", "")
    return b"".join(f"{rng.choice(sizes)}\r\nhello\r\n".encode() for _ in range(4)) + b"0\r\n\r\n"


_BODIES: tuple[Callable[[random.Random], bytes], ...] = (
    _image,
    _form,
    _json,
    _chunks,
    lambda rng: rng.randbytes(rng.randrange(5000)),
    lambda rng: b"",
    lambda rng: bytes(2 << 20),
)
