"""Bounds the bodies of requests to the workbench while they arrive: their bytes, and their time."""

import asyncio
import time

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Of a form with files; the parts of one file that a browser adds are small.
MOST_BODY_BYTES = 512 << 20
# Starlette parses no form with more files than this.
MOST_FILES = 1000
_SECONDS = 300.0


class LimitedBodies:
    """Rejects a body as soon as it is too large or too slow; NiceGUI first stores all of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond with 413 or 408."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > MOST_BODY_BYTES:
            await _too_large()(scope, receive, send)
            return
        body = _Body(receive)
        try:
            await self.app(scope, body.receive, body.sender(send))
        except Exception:
            # The application sees a client that has left, and may say so by any exception.
            if body.rejection is None and not body.has_client_left:
                raise
        if body.rejection is not None:
            await body.rejection(scope, receive, send)


class _Body:
    """The body of one request as far as it is within the limits; after that, the client is gone.

    An exception would be the natural way to end it, but middleware between here and the page wraps
    and loses it.
    """

    def __init__(self, receive: Receive) -> None:
        self.rejection: Response | None = None
        self.has_client_left = False
        self._receive = receive
        self._size, self._is_whole = 0, False
        self._ends = time.monotonic() + _SECONDS

    async def receive(self) -> Message:
        """One ASGI message."""
        # After the body there is only the end of the connection, which may be hours away.
        if self._is_whole:
            return self._noticed(await self._receive())
        if self.rejection is None:
            try:
                left = self._ends - time.monotonic()
                message = await asyncio.wait_for(self._receive(), left)
            except TimeoutError:
                self.rejection = _too_slow()
            else:
                self._size += len(message.get("body", b""))
                if self._size <= MOST_BODY_BYTES:
                    self._is_whole = not message.get("more_body", False)
                    return self._noticed(message)
                self.rejection = _too_large()
        return {"type": "http.disconnect"}

    def _noticed(self, message: Message) -> Message:
        self.has_client_left |= message["type"] == "http.disconnect"
        return message

    def sender(self, send: Send) -> Send:
        """Sends what the application answers, unless the request is rejected."""

        async def unless_rejected(message: Message) -> None:
            if self.rejection is None:
                await send(message)

        return unless_rejected


def _too_slow() -> Response:
    text = f"The request did not arrive within {_SECONDS:g} seconds."
    return PlainTextResponse(text, 408, {"Connection": "close"})


def _too_large() -> Response:
    return PlainTextResponse(
        f"One upload has at most {MOST_BODY_BYTES >> 20} MB and {MOST_FILES:,} files: send fewer "
        "files at a time.",
        413,
        {"Connection": "close"},
    )
