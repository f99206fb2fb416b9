"""Small local web servers: of files, with or without ranges, and of a folder with its lists."""

import http.server
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Files:
    """What is served; breaks: responses that stop half way; ranges: whether they are supported."""

    contents: Mapping[str, bytes]
    breaks: int = 0
    ranges: bool = True
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(files: Files) -> Iterator[str]:
    """The address of a server that runs inside the block."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, files)

        def log_message(self, *arguments: object) -> None:
            pass

    with _running(Handler) as address:
        yield address


@contextmanager
def serving_folder(
    folder: Path,
    asked: Counter[tuple[str, str]],
    failing: Counter[str] | None = None,
    status: int = 503,
) -> Iterator[str]:
    """The address of Python's own server of a folder; asked: counts (method, path).

    failing: how many more requests of a path are answered with the status.
    """
    left = Counter[str]() if failing is None else failing

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def send_head(self) -> Any:
            with lock:
                asked[self.command, self.path] += 1
                is_failing = left[self.path] > 0
                left[self.path] -= is_failing
            if is_failing:
                self.send_error(status)
                return None
            return super().send_head()

        def log_message(self, *arguments: object) -> None:
            pass

    lock = threading.Lock()
    with _running(Handler) as address:
        yield address


@contextmanager
def _running(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # Often, as its end waits for the next look.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(handler: http.server.BaseHTTPRequestHandler, files: Files) -> None:
    wanted = handler.headers.get("Range", "")
    files.asked.append(wanted)
    content = files.contents.get(handler.path)
    if content is None:
        handler.send_error(404)
        return
    start = int(wanted[6:].rstrip("-")) if wanted and files.ranges else 0
    if start and start >= len(content):
        handler.send_error(416)
        return
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    stop = len(content)
    if files.breaks:
        files.breaks -= 1
        stop = start + (len(content) - start) // 2
    handler.wfile.write(content[start:stop])
    handler.close_connection = True
