"""Accepts only requests from the workbench's own pages on this machine."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OWN_HOSTS = frozenset({"127.0.0.1", "localhost"})


class OwnHostsOnly:
    """Rejects requests to another host name, and requests from pages of another host.

    A page elsewhere can let its host name resolve to 127.0.0.1 (DNS rebinding), which shows in the
    Host header, or send requests to 127.0.0.1 itself, which shows in the Origin header. Starlette's
    TrustedHostMiddleware checks the Host header alone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond with 421 for another host and 403 for another origin."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not _is_own(f"//{headers.get('host', '')}"):
            rejection = PlainTextResponse("The workbench accepts 127.0.0.1 only.", 421)
        elif not _is_own(headers.get("origin") or "//localhost"):
            rejection = PlainTextResponse("The workbench accepts its own pages only.", 403)
        else:
            await self.app(scope, receive, send)
            return
        await rejection(scope, receive, send)


def _is_own(address: str) -> bool:
    try:
        return urlsplit(address).hostname in OWN_HOSTS
    except ValueError:
        return False
