"""Accepts only requests for the workbench's own names, from its own pages, which few can frame."""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glasshouse.serving.reach import Reach, host_name

# A file may have a stricter policy of its own, which then has to forbid framing as well.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}
_FOREIGN_PAGE = (
    "The workbench accepts its own pages only. If a proxy replaces the Host header, name the host "
    "in the address bar: glasshouse ui --allow-host HOST\n"
)


class OwnHostsOnly:
    """Rejects requests to another host name, and requests from pages of another host.

    A page elsewhere can let its host name resolve to 127.0.0.1 (DNS rebinding), which shows in the
    Host header, or send requests to 127.0.0.1 itself, which shows in the Origin header or, for
    images and frames, in Sec-Fetch-Site. Starlette's TrustedHostMiddleware checks the Host alone.
    """

    def __init__(self, app: ASGIApp, reach: Reach) -> None:
        self.app = app
        self._reach = reach
        self._headers = {**_HEADERS, **_framing(reach)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond with 421 for another host and 403 for another origin."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if len(headers.getlist("host")) > 1 or not self._reach.answers_to(_host(headers)):
            rejection = PlainTextResponse(_unknown_host(_host(headers)), 421)
        elif not self._is_from_own_page(headers):
            rejection = PlainTextResponse(_FOREIGN_PAGE, 403)
        else:
            await self.app(scope, receive, self._with_headers(send))
            return
        await rejection(scope, receive, send)

    def _is_from_own_page(self, headers: Headers) -> bool:
        if not all(self._is_own_origin(each, headers) for each in headers.getlist("origin")):
            return False
        # Browsers add it to every request to this machine, and to every one over https; other
        # clients have no pages of others.
        if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
            return True
        # A link elsewhere may lead here, where the address bar then shows it. For a frame, the
        # browser compares the page around it with the policy.
        places = ("document", "iframe") if self._reach.frames else ("document",)
        is_navigation = headers.get("sec-fetch-mode") == "navigate"
        return is_navigation and headers.get("sec-fetch-dest") in places

    def _is_own_origin(self, origin: str, headers: Headers) -> bool:
        if not origin:
            return True
        found = re.fullmatch(r"https?://(.+)", origin)
        name = host_name(found[1]) if found else ""
        # Proxies that replace the Host leave the Origin. A pattern is not enough then: the names
        # that it stands for belong to many.
        return bool(name) and (name == _host(headers) or name in self._reach.hosts)

    def _with_headers(self, send: Send) -> Send:
        async def send_message(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        return send_message


def _host(headers: Headers) -> str:
    return host_name(headers.get("host", ""))


def _framing(reach: Reach) -> dict[str, str]:
    if reach.frames:
        return {"Content-Security-Policy": f"frame-ancestors {' '.join(reach.frames)}"}
    # The second, for old browsers, knows no list of hosts.
    return {"Content-Security-Policy": "frame-ancestors 'none'", "X-Frame-Options": "DENY"}


def _unknown_host(name: str) -> str:
    # What is no host name is not repeated.
    shown = name or "HOST"
    return (
        f"The workbench does not answer to the host name {name or 'of this request'}. If this is "
        f"how you reach it, start it with: glasshouse ui --allow-host {shown}\n"
    )
