"""Requests that must not get in: of foreign hosts and pages, with wrong tokens."""

from itertools import product

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from glasshouse.serving.app import protect
from glasshouse.serving.reach import LOOPBACK, Reach

TOKEN = "a-token-that-nobody-guesses"
OTHER = "a-token-that-nobody-guesseS"
LOCAL = Reach()
NAMED = Reach((*LOOPBACK, "hub.example", "*.cdsw.example"), root_paths=("/apps/glass",))
KEYED = Reach((*LOOPBACK, "*"), token=TOKEN, root_paths=("/apps/glass",))
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "websocket")
Headers = dict[str, str]

FOREIGN_HOSTS = (
    "", "evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "[::bad", "127.1",
    "evil.example:80@127.0.0.1", "127.0.0.1:80:80", "localhost\x00", "localhost.", "0.0.0.0",
    "2130706433", "hub.example.evil.example", "evilhub.example", "cdsw.example", "*",
    "*.cdsw.example", "evilcdsw.example", "a.cdsw.example.evil", "a.cdsw.example/x",
    ".cdsw.example", "hub.example#", "hub.example, evil.example", "hub.example evil",
    "http://hub.example", "[::1].hub.example", "a..cdsw.example",
)  # fmt: skip
FOREIGN_ORIGINS = (
    "null", "https://evil.example", "http://evil.example:80@127.0.0.1", "https://127.0.0.1.evil",
    "https://evil.hub.example", "https://hub.example.evil.example", "https://other.cdsw.example",
    "file://", "https://", "hub.example", "https://hub.example/", "https://hub.example:80:80",
    "chrome-extension://abcdef", "ws://hub.example", "https://hub.example https://evil.example",
)  # fmt: skip
FOREIGN_PAGES: tuple[Headers, ...] = tuple(
    {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": destination}
    for site, (mode, destination) in product(
        ("cross-site", "same-site"),
        (("no-cors", "image"), ("no-cors", "script"), ("no-cors", "empty"), ("cors", "empty"),
         ("navigate", "iframe"), ("navigate", "embed"), ("websocket", "websocket")),
    )
)  # fmt: skip
WRONG_TOKENS: tuple[tuple[str, Headers], ...] = (
    ("/", {}), ("/?token=", {}), (f"/?token={OTHER}", {}), (f"/?token={TOKEN}x", {}),
    (f"/?token={TOKEN[:-1]}", {}), (f"/?Token={TOKEN}", {}), ("/?token=%00", {}),
    (f"/train?token={TOKEN}", {}), (f"/?token={TOKEN}&token=x", {}), ("/?token=%ff%fe", {}),
    ("/", {"authorization": "Bearer"}), ("/", {"authorization": f"Bearer {OTHER}"}),
    ("/", {"authorization": f"Basic {TOKEN}"}), ("/", {"authorization": TOKEN}),
    ("/", {"cookie": f"glasshouse={TOKEN}"}), ("/", {"cookie": "glasshouse-00000000=x"}),
    ("/", {"x-forwarded-user": "admin"}), ("/", {"x-forwarded-for": "127.0.0.1"}),
    ("/apps/glass/../", {}), ("/assets/workbench.js", {}), ("/apps/glass/train", {}),
)  # fmt: skip


async def served(request: Request) -> PlainTextResponse:
    return PlainTextResponse("inside")


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


def client_of(reach: Reach) -> TestClient:
    """A browser in front of the doors, behind which everything answers."""
    every = list(METHODS[:-1])
    app = Starlette(
        routes=[
            WebSocketRoute("/{path:path}", talk),
            Route("/{path:path}", served, methods=every),
        ]
    )
    protect(app, reach)
    return TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


def status_of(client: TestClient, method: str, path: str, headers: Headers) -> int:
    if method != "websocket":
        return client.request(method, path, headers=headers).status_code
    try:
        with client.websocket_connect(f"ws://127.0.0.1{path}", headers=headers):
            return 101
    except WebSocketDenialResponse as refused:
        return refused.status_code


def attacks() -> list[tuple[str, Reach, str, str, Headers, int]]:
    found: list[tuple[str, Reach, str, str, Headers, int]] = []
    for method, host in product(METHODS, FOREIGN_HOSTS):
        found.append(("host", NAMED, method, "/", {"host": host}, 421))
        found.append(("host", LOCAL, method, "/", {"host": host}, 421))
    for method, origin in product(METHODS, FOREIGN_ORIGINS):
        for host in ("127.0.0.1:8080", "hub.example", "mine.cdsw.example"):
            headers = {"host": host, "origin": origin}
            found.append(("origin", NAMED, method, "/", headers, 403))
    for method, page in product(METHODS, FOREIGN_PAGES):
        found.append(("page", NAMED, method, "/train", {"host": "hub.example", **page}, 403))
        found.append(("page", LOCAL, method, "/apps/glass/train", page, 403))
    for method, (path, headers) in product(METHODS, WRONG_TOKENS):
        found.append(("token", KEYED, method, path, {"host": "hub.example", **headers}, 401))
    return found


@pytest.mark.parametrize("kind", ["host", "origin", "page", "token"])
def test_every_attack_is_refused(kind: str) -> None:
    clients = {reach: client_of(reach) for reach in (LOCAL, NAMED, KEYED)}
    tried = [each for each in attacks() if each[0] == kind]
    assert len(tried) >= 140
    through = [
        (method, path, headers, status)
        for _, reach, method, path, headers, wanted in tried
        if (status := status_of(clients[reach], method, path, headers)) != wanted
    ]
    assert through == []


@pytest.mark.parametrize(
    ("reach", "headers"),
    [
        (LOCAL, {"host": "127.0.0.1:8080"}),
        (LOCAL, {"host": "localhost:1", "origin": "http://localhost:8080"}),
        (LOCAL, {"host": "[::1]:8080", "origin": "http://[::1]:8080"}),
        (NAMED, {"host": "HUB.example:8443", "origin": "https://hub.example:8443"}),
        (NAMED, {"host": "me.cdsw.example", "origin": "https://me.cdsw.example"}),
        (NAMED, {"host": "127.0.0.1:8080", "origin": "https://hub.example"}),
        (NAMED, {"host": "hub.example", "sec-fetch-site": "same-origin"}),
        (KEYED, {"host": "any.example", "authorization": f"Bearer {TOKEN}"}),
    ],
)
@pytest.mark.parametrize("path", ["/", "/train"])
def test_its_own_visitors_are_let_in(reach: Reach, headers: Headers, path: str) -> None:
    client = client_of(reach)
    assert status_of(client, "GET", path, headers) == 200
    assert status_of(client, "websocket", path, headers) == 101


def test_the_refusal_names_the_option_that_lets_the_host_in() -> None:
    refused = client_of(LOCAL).get("/", headers={"host": "hub.example:8443"})
    assert "--allow-host hub.example\n" in refused.text
    assert "<" not in client_of(LOCAL).get("/", headers={"host": "<b>"}).text


def test_a_link_with_the_token_opens_every_page_and_leaves_no_token_behind() -> None:
    client = client_of(KEYED)
    opened = client.get(f"/?token={TOKEN}")
    assert (opened.status_code, opened.headers["location"]) == (303, "./")
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path" not in cookie
    assert TOKEN not in cookie
    assert client.get("/train").text == "inside"
    with client.websocket_connect("ws://127.0.0.1/"):
        pass
    client.cookies.clear()
    assert client.get("/train").status_code == 401


def test_a_person_without_the_token_can_enter_it() -> None:
    page = client_of(KEYED).get("/run/a/b", headers={"accept": "text/html"})
    assert page.status_code == 401
    assert '<form action="../../../"' not in page.text and '<form action="../../"' in page.text


def test_the_cookie_of_a_framed_workbench_is_sent_from_other_sites_over_https_only() -> None:
    client = client_of(Reach(token=TOKEN, frames=("colab.example:*",)))
    plain = client.get(f"/?token={TOKEN}").headers["set-cookie"]
    assert "SameSite=Lax" in plain and "Secure" not in plain
    safe = client.get(f"/?token={TOKEN}", headers={"x-forwarded-proto": "https"})
    assert "SameSite=None; Secure; Partitioned" in safe.headers["set-cookie"]


def test_only_named_hosts_may_frame_it() -> None:
    frame = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    frame["sec-fetch-dest"] = "iframe"
    framed = client_of(Reach(frames=("colab.example:*",))).get("/", headers=frame)
    assert framed.status_code == 200
    assert framed.headers["content-security-policy"] == "frame-ancestors colab.example:*"
    assert "x-frame-options" not in framed.headers
    assert client_of(LOCAL).get("/", headers=frame).status_code == 403
