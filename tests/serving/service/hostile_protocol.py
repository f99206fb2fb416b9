"""Seeded requests to the paths of the Open Inference Protocol that are nearly right."""

import gzip
import json
import random
import struct
import zlib
from typing import Any

from tests.serving.service.conftest import png

_PATHS = (
    "/v2/models/tiny/infer", "/v2/models/tiny/versions/1/infer", "/v2/models/tiny",
    "/v2/models/tiny/ready", "/v2", "/v2/health/ready", "/v2/models/%00/infer",
    "/v2/models/" + "x" * 3000, "/v2/models//infer", "/v2/models/tiny/versions/%2e%2e/infer",
    "/v2/repository/index", "/v2/repository/models/tiny/load", "/v2/repository/models/x/unload",
    "/v2/logging", "/v2/models/tiny/config", "/v2/models/tiny/stats",
)  # fmt: skip
_METHODS = ("POST",) * 12 + ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
_DATATYPES = (
    "UINT8", "UINT8", "FP32", "FP16", "BF16", "FP64", "BOOL", "INT8", "INT64", "UINT64", "BYTES",
    "BYTES", "STRING", "", None, 7,
)  # fmt: skip
_SIZES = {"UINT8": 1, "INT8": 1, "BOOL": 1, "FP16": 2, "BF16": 2, "FP32": 4, "BYTES": 1}
_ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 2**31, 2**70, 1e308, 0.5, "", "1", "x" * 5000, [], [[]], {}, "\ud800",
    {"a": {"b": []}},
)  # fmt: skip
_ENCODINGS = ("gzip", "deflate", "x-gzip", "br", "gzip, deflate", "identity", "\xff", "")
_LENGTHS = ("0", "-1", "1e3", "9" * 30, "", "\xb2", "0x10", " 12", "12,12")


def nearly_right(rng: random.Random) -> tuple[str, str, dict[str, str], bytes]:
    """Method, path, headers and body of a request, of which a third is right."""
    if rng.random() < 0.33:
        return _right(rng)
    tensor, binary = _tensor(rng)
    document: dict[str, Any] = {"inputs": [tensor]}
    if rng.random() < 0.5:
        document["outputs"] = [_output(rng) for _ in range(rng.randrange(4))]
    if rng.random() < 0.5:
        document["parameters"] = {"binary_data_output": rng.choice((True, False, *_ODD))}
    if rng.random() < 0.2:
        document[rng.choice(("id", "inputs", "outputs", "parameters"))] = rng.choice(_ODD)
    text = json.dumps(document).encode()
    headers = {}
    if binary or rng.random() < 0.05:
        headers["Inference-Header-Content-Length"] = str(len(text))
    if rng.random() < 0.05:
        headers["Inference-Header-Content-Length"] = rng.choice(_LENGTHS)
    body = _spoiled(rng, text + binary)
    if rng.random() < 0.2:
        headers["Content-Encoding"] = rng.choice(_ENCODINGS)
        body = _spoiled(rng, _compressed(rng, headers["Content-Encoding"], body))
    path = rng.choice(_PATHS[:2] * 12 + _PATHS)
    return rng.choice(_METHODS), path, headers, body


def _right(rng: random.Random) -> tuple[str, str, dict[str, str], bytes]:
    datatype, count = rng.choice(("UINT8", "BOOL")), rng.choice((1, 2, 3))
    data = rng.choices(range(2 if datatype == "BOOL" else 256), k=768 * count)
    shape = [count, 3, 16, 16]
    tensor: dict[str, Any] = {
        "name": "pixels", "datatype": datatype, "shape": shape, "data": data,
    }  # fmt: skip
    document = {"inputs": [tensor], "parameters": {"binary_data_output": rng.random() < 0.5}}
    if rng.random() < 0.5:
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": len(data)}
        text = json.dumps(document).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        return "POST", _PATHS[0], headers, text + bytes(data)
    body = gzip.compress(json.dumps(document).encode())
    return "POST", _PATHS[0], {"Content-Encoding": "gzip"}, body


def _tensor(rng: random.Random) -> tuple[dict[str, Any], bytes]:
    datatype = rng.choice(_DATATYPES)
    count = rng.choice((1, 1, 2, 3, 0, 9))
    is_files = datatype == "BYTES"
    shape: Any = [count] if is_files else [count, 3, 16, 16]
    tensor: dict[str, Any] = {"name": "pixels", "datatype": datatype, "shape": shape}
    binary = b""
    if rng.random() < 0.6:
        binary = _files(rng, count) if is_files else _numbers(rng, str(datatype), count)
        tensor["parameters"] = {"binary_data_size": len(binary)}
    else:
        tensor["data"] = [rng.choice((0, 1, 7, 0.5)) for _ in range(count * 768)]
    if rng.random() < 0.2:
        key = rng.choice(("name", "datatype", "shape", "data", "parameters"))
        tensor[key] = rng.choice((*_ODD, {"binary_data_size": rng.choice(_ODD)}))
    if rng.random() < 0.1 and isinstance(tensor["shape"], list) and tensor["shape"]:
        tensor["shape"][rng.randrange(len(tensor["shape"]))] = rng.choice(_ODD)
    return tensor, binary


def _numbers(rng: random.Random, datatype: str, count: int) -> bytes:
    size = _SIZES.get(datatype, 8) * 768 * count
    if rng.random() < 0.3:
        return bytes(size)
    if datatype == "FP32" and rng.random() < 0.5:
        special = (float("nan"), float("inf"), -0.0, 1e-40, 255.0, 256.0, 0.5)
        return struct.pack("<f", rng.choice(special)) * (size // 4)
    return rng.randbytes(size + rng.choice((0, 0, 0, -1, 1)) if size else 0)


def _files(rng: random.Random, count: int) -> bytes:
    whole = b""
    for _ in range(count):
        file = _spoiled(rng, png(rng.randrange(9)))
        length = len(file) if rng.random() < 0.9 else rng.choice((0, 5, 2**32 - 1))
        whole += length.to_bytes(4, "little") + file
    return whole


def _output(rng: random.Random) -> dict[str, Any]:
    output: dict[str, Any] = {"name": rng.choice(("class", "probabilities", "logits", "x"))}
    if rng.random() < 0.7:
        key = rng.choice(("binary_data", "classification", "shared_memory_region"))
        output["parameters"] = {key: rng.choice((1, 3, True, *_ODD))}
    return output


def _compressed(rng: random.Random, encoding: str, body: bytes) -> bytes:
    if rng.random() < 0.05:
        body = bytes(3 << 20)
    if encoding == "deflate":
        return zlib.compress(body)
    return gzip.compress(body)


def _spoiled(rng: random.Random, data: bytes) -> bytes:
    chance = rng.random()
    if chance < 0.05:
        return data[: rng.randrange(len(data) + 1)]
    if chance < 0.1 and data:
        at = rng.randrange(len(data))
        return data[:at] + rng.randbytes(1) + data[at + 1 :]
    return data + rng.randbytes(5) if chance < 0.12 else data
