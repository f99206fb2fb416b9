"""The token of the workbench: presented once, in a link, and kept by the browser as a cookie."""

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from glasshouse.serving.reach import Reach
from glasshouse.serving.relative import relative_root

_WORDS = "This workbench needs its token: open the link that glasshouse ui printed"
_FORM = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Token · Glasshouse</title>
<style>:root {{ color-scheme: light dark; font-family: system-ui, sans-serif }}
body {{ max-width: 32rem; margin: 15vh auto; padding: 0 1rem }}</style>
<h1>Glasshouse</h1>
<p>{words}, or enter the token here.</p>
<form action="{root}/"><label>Token <input name="token" type="password" required autofocus></label>
<button>Open</button></form></html>
"""


class TokenRequired:
    """Lets requests through that carry the token: in a cookie, or as Authorization: Bearer TOKEN.

    The first page, opened with ?token=TOKEN, sets the cookie. The cookie has no path of its own,
    so browsers send it to the addresses below that page only, and not to what else a proxy serves
    under the same host name.
    """

    def __init__(self, app: ASGIApp, reach: Reach) -> None:
        self.app = app
        self._token = (reach.token or "").encode()
        # Cookies do not know ports: two workbenches on one machine would overwrite each other's.
        self._cookie = f"glasshouse-{hashlib.sha256(self._token).hexdigest()[:8]}"
        self._proof = hmac.new(self._token, b"cookie", "sha256").hexdigest()
        self._is_framed = any(source != "'self'" for source in reach.frames)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond with 401."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asks = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        response: Response
        if scope["path"] == "/" and self._is_token("".join(asks)) and scope["type"] == "http":
            response = self._signed_in(headers, scope)
        elif self._is_known(headers):
            await self.app(scope, receive, send)
            return
        elif "text/html" in headers.get("accept", ""):
            form = _FORM.format(words=_WORDS, root=relative_root(scope))
            response = HTMLResponse(form, 401, headers={"Cache-Control": "no-store"})
        else:
            response = PlainTextResponse(f"{_WORDS}.\n", 401)
        await response(scope, receive, send)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)

    def _is_known(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given):
            return True
        proof = _cookies(headers).get(self._cookie, "")
        return hmac.compare_digest(proof.encode("utf-8", "surrogateescape"), self._proof.encode())

    def _signed_in(self, headers: Headers, scope: Scope) -> Response:
        # Without the token: the address bar, the history and links to other pages do not have it.
        response = RedirectResponse("./", 303, headers={"Cache-Control": "no-store"})
        is_https = "https" in (scope["scheme"], headers.get("x-forwarded-proto"))
        attributes = "; HttpOnly; SameSite=Lax" + ("; Secure" if is_https else "")
        if self._is_framed and is_https:
            # In the page of another site, browsers keep and send no other cookie.
            attributes = "; HttpOnly; SameSite=None; Secure; Partitioned"
        response.headers["Set-Cookie"] = f"{self._cookie}={self._proof}{attributes}"
        return response


def _cookies(headers: Headers) -> dict[str, str]:
    found: SimpleCookie = SimpleCookie()
    for part in headers.get("cookie", "").split(";"):
        # One by one: the cookies of other programs on this host may not be well formed.
        try:
            found.load(part.strip())
        except CookieError:
            continue
    return {name: morsel.value for name, morsel in found.items()}
