"""An S3 server on this machine: moto's, with failures on request."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Answer = Iterable[bytes]
Start = Callable[..., Any]


class Flaky:
    """A WSGI application that fails a share of the requests for objects, and counts the others.

    served: how often each object was sent in full. refuses: whether nobody may do anything. hidden:
    the end of the names of objects that are listed, but that nobody may read.
    """

    refuses = False
    hidden: str | None = None

    def __init__(self, app: Callable[[dict[str, Any], Start], Answer], share: float) -> None:
        self.app, self.share = app, share
        self.random = random.Random(0)
        self.lock = threading.Lock()
        self.served: Counter[str] = Counter()
        self.failed = 0

    def __call__(self, environ: dict[str, Any], start: Start) -> Answer:
        path = environ["PATH_INFO"]
        if self.refuses or (self.hidden is not None and path.endswith(self.hidden)):
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"]
        is_object = environ["REQUEST_METHOD"] == "GET" and path.strip("/").count("/") > 0
        with self.lock:
            fails = self.random.random() < self.share
            kind = self.random.randrange(3)
            self.failed += fails
            if is_object and not fails:
                self.served[path] += 1
        if not fails:
            return self.app(environ, start)
        if kind == 0:
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>busy</Message></Error>"]
        if kind == 1:
            start("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"broken"]
        # The connection ends before the body does.
        start("200 OK", [("Content-Length", "100000"), ("Content-Type", "image/png")])
        return [b"cut off"]


@contextmanager
def s3_server(share: float = 0.0, port: int = 0) -> Iterator[tuple[str, Flaky]]:
    """The address of a server in a thread, and what it has done; share: of requests that fail."""
    import moto.server
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None:
            pass

    # Through a dictionary: how the names are exported depends on the version.
    parts = vars(moto.server)
    app = Flaky(parts["DomainDispatcherApplication"](parts["create_backend_app"]), share)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", app
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
