"""Accepts only requests from the workbench's own pages on this machine, which no site can frame."""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# In full, port included: what a URL parser takes for the host name may be part of something else,
# such as the user name in evil.example:80@127.0.0.1.
_OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?")
_OWN_ORIGIN = re.compile(rf"https?://{_OWN_HOST.pattern}")
# A file may have a stricter policy of its own, which then has to forbid framing as well.
_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}


class OwnHostsOnly:
    """Rejects requests to another host name, and requests from pages of another host.

    A page elsewhere can let its host name resolve to 127.0.0.1 (DNS rebinding), which shows in the
    Host header, or send requests to 127.0.0.1 itself, which shows in the Origin header or, for
    images and frames, in Sec-Fetch-Site. Starlette's TrustedHostMiddleware checks the Host alone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond with 421 for another host and 403 for another origin."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not _OWN_HOST.fullmatch(headers.get("host", "")):
            rejection = PlainTextResponse("The workbench accepts 127.0.0.1 only.", 421)
        elif not _is_from_own_page(headers):
            rejection = PlainTextResponse("The workbench accepts its own pages only.", 403)
        else:
            await self.app(scope, receive, _with_headers(send))
            return
        await rejection(scope, receive, send)


def _is_from_own_page(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin and not _OWN_ORIGIN.fullmatch(origin):
        return False
    # Browsers add it to every request to this machine; other clients have no pages of others.
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return True
    # A link elsewhere may lead here, where the address bar then shows it.
    is_link = headers.get("sec-fetch-mode") == "navigate"
    return is_link and headers.get("sec-fetch-dest") == "document"


def _with_headers(send: Send) -> Send:
    async def send_message(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_message
