"""Seeded damage to files: to their bytes, and to the values of JSON and TOML documents."""

import copy
import json
import random
import struct
import tomllib
from collections.abc import Callable
from typing import Any

import tomli_w

_WRONG: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "nan", "../../etc/passwd", "/dev/null", "\x00", "\x1b[31m", "\u202eabc",
    "caf\udce9", "a" * 10_000, [], {}, [[]], [None], {"": None}, [1, 2, 3], ["a"] * 1000,
)  # fmt: skip


def damaged(name: str, data: bytes, rng: random.Random) -> bytes:
    """The file with one thing wrong: by its structure for JSON, TOML and safetensors, or bytes."""
    kinds = _BY_SUFFIX.get(name.rpartition(".")[2], ())
    kind = rng.choice((*kinds, *kinds, _bytes)) if kinds else _bytes
    return kind(data, rng)


def changed_value(document: Any, rng: random.Random) -> Any:
    """A copy of nested lists and dicts, with one place removed, renamed, wrapped or replaced."""
    whole = {"": copy.deepcopy(document)}
    places = list(_places(whole))
    holder, key = rng.choice(places)
    operation = rng.randrange(8)
    if operation == 0 and holder is not whole:
        del holder[key]
    elif operation == 1 and isinstance(holder, dict) and holder is not whole:
        holder[f"{key}x"] = holder.pop(key)
    elif operation == 2:
        holder[key] = _nested(holder[key], rng.choice((1, 2, 50)))
    elif operation == 3 and isinstance(holder[key], (int, float)):
        holder[key] *= rng.choice((-1, 0, 2, 1000, 10**9))
    elif operation == 4 and isinstance(holder[key], list):
        holder[key] = holder[key] * rng.choice((0, 2, 30))
    else:
        holder[key] = copy.deepcopy(rng.choice(_WRONG))
    return whole[""]


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def _json(data: bytes, rng: random.Random) -> bytes:
    text = json.dumps(changed_value(json.loads(data), rng))
    return text.encode("utf-8", "surrogatepass")


def _json_lines(data: bytes, rng: random.Random) -> bytes:
    lines = [json.loads(line) for line in data.splitlines()]
    changed = changed_value(lines, rng)
    rows = changed if isinstance(changed, list) else [changed]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _toml(data: bytes, rng: random.Random) -> bytes:
    while True:
        changed = changed_value(tomllib.loads(data.decode()), rng)
        try:
            return tomli_w.dumps(changed).encode()
        except (TypeError, ValueError, AttributeError):
            continue  # TOML has no null and no surrogates, and its top is a table


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    if rng.random() < 0.3:
        known = header.get("__metadata__") or {}
        inner = {key: json.loads(text) for key, text in known.items() if text[:1] in "{["}
        changed = changed_value(inner, rng)
        if isinstance(changed, dict):
            header["__metadata__"] = {key: json.dumps(value) for key, value in changed.items()}
    else:
        header = changed_value(header, rng)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _bytes(data: bytes, rng: random.Random) -> bytes:
    operation = rng.randrange(6)
    place = rng.randrange(max(1, len(data)))
    if operation == 0:
        return b""
    if operation == 1:
        return data[:place]
    if operation == 2:
        return data + data[place:]
    if operation == 3:
        return data[:place] + rng.randbytes(rng.randrange(1, 9)) + data[place:]
    if operation == 4:
        return b"\xef\xbb\xbf" + data if rng.random() < 0.5 else b"\x00" * len(data)
    changed = bytearray(data or b" ")
    for _ in range(rng.choice((1, 1, 1, 16))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


Damage = Callable[[bytes, random.Random], bytes]
_BY_SUFFIX: dict[str, tuple[Damage, ...]] = {
    "json": (_json,),
    "jsonl": (_json_lines,),
    "toml": (_toml,),
    "safetensors": (_safetensors,),
}
