"""Relative addresses: the workbench works behind any prefix without knowing it."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# NiceGUI puts what this header says in front of its addresses.
_PREFIX = "x-forwarded-prefix"


class RelativeAddresses:
    """Removes the prefixes that a proxy leaves in the path, and makes addresses relative.

    root_paths: those prefixes. A prefix that the proxy removes need not be known: the way from a
    page to the first one follows from the number of slashes in its own address, so what a proxy
    says about its prefix, rightly or twice, is not used.
    """

    def __init__(self, app: ASGIApp, root_paths: tuple[str, ...] = ()) -> None:
        self.app = app
        self._root_paths = root_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on as if there were no proxy."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        found = next((r for r in self._root_paths if f"{path}/".startswith(f"{r}/")), "")
        if found and path == found:
            # Relative addresses need the slash at the end.
            query = scope["query_string"].decode("latin-1")
            there = f"./{found.rpartition('/')[2]}/" + (f"?{query}" if query else "")
            await RedirectResponse(there)(scope, receive, send)
            return
        # Undecoded: browsers do not take %2F for a slash.
        slashes = scope.get("raw_path", path.encode()).count(b"/") - found.count("/")
        inner = {**scope, "path": path[len(found) :], "root_path": ""}
        inner.pop("raw_path", None)
        headers = MutableHeaders(scope=inner)
        headers[_PREFIX] = "/".join([".."] * (slashes - 1)) or "."
        await self.app(inner, receive, send)


def relative_root(scope: Scope) -> str:
    """The way from the page of this request to the first page, without a slash at the end."""
    return Headers(scope=scope).get(_PREFIX, "")
