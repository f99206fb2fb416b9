"""Decoding in child processes, so that a file that crashes or hangs a decoder is only skipped.

Each process decodes one file at a time, so that it is known which file ended it. They are plain
child processes: a pool would either fork a process that has threads, or import the script of the
caller a second time.
"""

import hashlib
import json
import os
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from glasshouse.child_python import child_environment
from glasshouse.data.decode import decode, read_file
from glasshouse.data.embedded import EmbeddedImage, ImageFile, reading_order
from glasshouse.data.fitting import Fitting, fit
from glasshouse.data.headers import Header, read_header
from glasshouse.errors import BadImage, DataError

TIMEOUT_S = 30.0
_STEP_S = 1.0
# A process also dies when memory runs out: only a file with which two of them end is to blame.
_TRIES = 2
# Enough for the largest image that decode accepts, several times over.
_MEMORY_BYTES = 6 << 30
# Every message is its length followed by that many bytes: no pickle crosses the pipe.
_LENGTH = struct.Struct("<I")
_READY = b"ready"


@dataclass(frozen=True)
class Decoded:
    """One file: the SHA-256 of its bytes, and its pixels or the reason why there are none.

    header: the size of the image in the file and what is unusual about it, if it was decoded.
    """

    position: int
    sha256: str
    pixels: bytes
    reason: str
    header: Header | None = None


def decode_files(
    paths: Sequence[ImageFile],
    fitting: Fitting,
    *,
    workers: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Decoded]:
    """Decode every file and yield the results in any order.

    A file that twice crashes its process or takes longer than timeout_s is a bad file. workers:
    number of processes; by default, one for each processor that this process may use.
    """
    count = max(1, min(workers or _processors(), len(paths)))
    todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    # Bounded, so that decoding waits when the consumer writes more slowly to disk.
    done: queue.Queue[Decoded | BaseException] = queue.Queue(maxsize=4 * count)
    # One None per thread, which ends it.
    for number in [*reading_order(paths), *[None] * count]:
        todo.put(number)
    with _stopping() as stop:
        for _ in range(count):
            arguments = (paths, fitting, timeout_s, todo, done, stop)
            threading.Thread(target=_feed, args=arguments, daemon=True).start()
        for _ in range(len(paths)):
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            yield result


def serve_decoding() -> None:
    """The main function of a child process: requests from stdin, answers to stdout."""
    _bound_memory()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    _send(answers, _READY)
    # The requests end when the parent closes the pipe, or dies.
    with suppress(EOFError, BrokenPipeError):
        while True:
            path, is_embedded, fitting = json.loads(_receive(requests))
            data = _receive(requests) if is_embedded else None
            for part in _decode_one(Path(path), data, Fitting(**fitting)):
                _send(answers, part)


def _decode_one(
    path: Path, data: bytes | None, fitting: Fitting
) -> tuple[bytes, bytes, bytes, bytes]:
    """data: the bytes of an image that is no file of its own."""
    digest = pixels = reason = header = b""
    try:
        data = read_file(path) if data is None else data
        digest = hashlib.sha256(data).hexdigest().encode()
        image = decode(data, name=str(path))
        header = json.dumps(asdict(read_header(data, str(path)))).encode()
        pixels = fit(image, fitting).tobytes()
    except BadImage as error:
        reason = error.reason.encode("utf-8", "replace")
    except MemoryError:
        reason = b"decoding exceeds the memory limit"
    return digest, pixels, reason, header


def _feed(
    paths: Sequence[ImageFile],
    fitting: Fitting,
    timeout_s: float,
    todo: "queue.SimpleQueue[int | None]",
    done: "queue.Queue[Decoded | BaseException]",
    stop: threading.Event,
) -> None:
    """Pass files to one process, and replace the process when it dies."""
    process = None
    try:
        while (number := todo.get()) is not None and not stop.is_set():
            try:
                data = _embedded_bytes(paths[number])
            except BadImage as error:
                _offer(done, Decoded(number, "", b"", error.reason), stop)
                continue
            for _ in range(_TRIES):
                process = process or _start()
                result = _ask(process, number, (str(paths[number]), data), fitting, timeout_s)
                if result.pixels or result.reason:
                    break
                _end(process)
                process = None
            else:
                result = Decoded(number, "", b"", _death(timeout_s))
            _offer(done, result, stop)
    except BaseException as error:
        _offer(done, error, stop)
    finally:
        if process:
            _end(process)


def _embedded_bytes(path: ImageFile) -> bytes | None:
    """The bytes of an image within another file, which this process reads; None for a file."""
    return path.read() if isinstance(path, EmbeddedImage) else None


def _ask(
    process: "subprocess.Popen[bytes]",
    number: int,
    image: tuple[str, bytes | None],
    fitting: Fitting,
    timeout_s: float,
) -> Decoded:
    """The result, with neither pixels nor reason if the process died or did not answer in time."""
    path, data = image
    # As JSON, a name that is not in the encoding of the locale arrives as it was sent.
    request = json.dumps([path, data is not None, asdict(fitting)])
    assert process.stdin and process.stdout
    answered = threading.Event()
    # A blocking read of a pipe takes no timeout on every system, but ends with the process.
    clock = (process, timeout_s, answered)
    threading.Thread(target=_kill_after, args=clock, daemon=True).start()
    try:
        _send(process.stdin, request.encode())
        if data is not None:
            _send(process.stdin, data)
        digest, pixels, reason, header = (_receive(process.stdout) for _ in range(4))
    except (OSError, EOFError):
        return Decoded(number, "", b"", "")
    finally:
        answered.set()
    return Decoded(number, digest.decode(), pixels, reason.decode(), _as_header(header))


def _kill_after(
    process: "subprocess.Popen[bytes]", timeout_s: float, answered: threading.Event
) -> None:
    waited = 0.0
    # In steps, of which a machine that sleeps or a stopped process lengthens only one: the child
    # has stood still as well.
    while waited < timeout_s:
        step = min(_STEP_S, timeout_s - waited)
        if answered.wait(step):
            return
        waited += step
    process.kill()


def _as_header(data: bytes) -> Header | None:
    values = json.loads(data) if data else None
    return values and Header(
        height=values["height"],
        width=values["width"],
        oddities=tuple(values["oddities"]),
        narrow=values["narrow"],
    )


def _death(timeout_s: float) -> str:
    return f"the decoder crashed or took longer than {timeout_s:g} s"


def _start() -> "subprocess.Popen[bytes]":
    """Start a process and wait until it is ready: no file is to blame if it cannot start."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from {__name__} import {serve_decoding.__name__} as serve; serve()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # The C libraries print warnings there; the reason of a failure is part of the answer.
        stderr=subprocess.DEVNULL,
        env={**child_environment(), "OPENBLAS_NUM_THREADS": "1"},
        # Ctrl-C is meant for the parent, which then ends its children. A session keeps it from
        # them on Linux and macOS, where the flag is 0; a process group does so on Windows.
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    assert process.stdout
    try:
        _receive(process.stdout)
    except EOFError as error:
        _end(process)
        raise DataError(
            f"cannot start a process to decode images: {sys.executable} ended with "
            f"{process.returncode}"
        ) from error
    return process


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            # Closing flushes a request that the dead process will not read.
            with suppress(OSError):
                pipe.close()


def _offer(
    done: "queue.Queue[Decoded | BaseException]",
    result: Decoded | BaseException,
    stop: threading.Event,
) -> None:
    """Put a result into the queue once there is room, unless nobody reads it any more."""
    while not stop.is_set():
        with suppress(queue.Full):
            done.put(result, timeout=0.2)
            return


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    stop = threading.Event()
    try:
        yield stop
    finally:
        stop.set()


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _processors() -> int:
    # Linux only; a container or taskset may allow fewer processors than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _bound_memory() -> None:
    """Limit the memory of this process, where supported: a damaged file may ask for any amount."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
