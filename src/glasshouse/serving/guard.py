"""Only this machine's own pages may talk to the workbench."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OWN_HOSTS = frozenset({"127.0.0.1", "localhost"})


class OwnHostsOnly:
    """Refuses requests that name another host, or come from a page of another host.

    A page elsewhere can let its own name point to 127.0.0.1 (DNS rebinding), or open a connection
    to 127.0.0.1 itself; the browser says so in the Host and the Origin header.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 421 for another host and 403 for another origin."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not _is_own(f"//{headers.get('host', '')}"):
            answer = PlainTextResponse("The workbench answers to 127.0.0.1 only.", 421)
        elif not _is_own(headers.get("origin") or "//localhost"):
            answer = PlainTextResponse("The workbench answers to its own pages only.", 403)
        else:
            await self.app(scope, receive, send)
            return
        await answer(scope, receive, send)


def _is_own(address: str) -> bool:
    try:
        return urlsplit(address).hostname in OWN_HOSTS
    except ValueError:
        return False
