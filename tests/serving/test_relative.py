"""Addresses behind a prefix, without a browser; the oracle is the standard library's urljoin."""

from urllib.parse import urljoin

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from glasshouse.serving.relative import RelativeAddresses, relative_root


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    path = Request(scope).url.path
    await PlainTextResponse(f"{path} {relative_root(scope)}")(scope, receive, send)


CLIENT = TestClient(RelativeAddresses(tell, ("/apps/glass", "/hub/me@x")), follow_redirects=False)
PAGES = ("/", "/train", "/run/a", "/run/sub/b", "/run/a%2Fb", "/run/a%20b/", "/teach/")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("prefix", ["", "/user/me/proxy/8080", "/a%2Fb"])
@pytest.mark.parametrize("claim", ["", "/user/me/proxy/8080", "/wrong", "/x/x", "//evil.example"])
def test_behind_a_proxy_that_removes_the_prefix(page: str, prefix: str, claim: str) -> None:
    told = CLIENT.get(page, headers={"x-forwarded-prefix": claim}).text.split(" ")
    there = urljoin(f"https://hub.example{prefix}{page}", f"{told[-1]}/train?x=1")
    assert there == f"https://hub.example{prefix}/train?x=1"


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("prefix", ["/apps/glass", "/hub/me@x", "/hub/me%40x"])
def test_behind_a_proxy_that_keeps_the_prefix(page: str, prefix: str) -> None:
    told = CLIENT.get(f"{prefix}{page}").text.split(" ")
    there = urljoin(f"https://hub.example{prefix}{page}", f"{told[-1]}/train")
    assert there == f"https://hub.example{prefix}/train"
    assert told[0].startswith("/") and not told[0].startswith(("/apps", "/hub"))


def test_a_prefix_without_its_slash_leads_to_the_one_with_it() -> None:
    answer = CLIENT.get("/apps/glass?token=x")
    assert answer.status_code == 307
    there = urljoin("https://hub.example/apps/glass", answer.headers["location"])
    assert there == "https://hub.example/apps/glass/?token=x"


def test_a_path_that_only_begins_like_a_prefix_is_a_page() -> None:
    assert CLIENT.get("/apps/glasshouse").text == "/apps/glasshouse .."
