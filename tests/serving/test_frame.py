"""Every page has the frame; only requests from this machine's own pages are accepted."""

import re
from importlib import resources
from pathlib import Path

import pytest
from nicegui.testing import User
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Receive, Scope, Send

from glasshouse.serving.app import PAGES
from glasshouse.serving.guard import OwnHostsOnly
from glasshouse.serving.reach import Reach
from glasshouse.serving.workbench import Workbench
from tests.serving.conftest import visit


def test_every_page_of_the_navigation_opens_and_leads_to_the_others(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        labels = [page.label for page in PAGES if page.label]
        for page in PAGES:
            if page.label:
                await user.open(page.path)
                for label in labels:
                    await user.should_see(label)

    visit(workbench, story)


def test_an_empty_folder_says_what_to_do(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        await user.should_see("No runs yet")
        await user.should_see("glasshouse train digits")

    visit(workbench, story)


LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8080"}, 200),
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": "127.0.0.1@evil.example"}, 421),
        ({"host": "[::bad"}, 421),
        ({"host": ""}, 421),
        ({"host": "evil.example:80@127.0.0.1"}, 421),
        ({"host": "127.0.0.1:80:80"}, 421),
        ({"host": "localhost\x00"}, 421),
        ({"origin": "http://127.0.0.1:8080"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example:80@127.0.0.1"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
        ({**LINK, "sec-fetch-dest": "document"}, 200),
        ({**LINK, "sec-fetch-dest": "iframe"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/", "/assets/workbench.css"])
def test_only_own_hosts_and_origins_are_accepted(
    workbench: Workbench, path: str, headers: dict[str, str], status: int
) -> None:
    async def story(user: User) -> None:
        assert (await user.http_client.get(path, headers=headers)).status_code == status

    visit(workbench, story)


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}])
def test_a_websocket_from_another_host_is_rejected(headers: dict[str, str]) -> None:
    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the request came through")

    client = TestClient(OwnHostsOnly(inside, Reach()), base_url="http://127.0.0.1")
    with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/", headers=headers):
        pass


@pytest.mark.parametrize("path", ["/", "/assets/workbench.css", "/report/first", "/nowhere"])
def test_no_site_can_frame_the_workbench(full: Workbench, path: str) -> None:
    async def story(user: User) -> None:
        headers = (await user.http_client.get(path)).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"

    visit(full, story)


@pytest.mark.parametrize(
    "path", ["/nowhere", "/runs/first", "/train/x", "/run/none", "/run/" + "a" * 5000, "/run/%00"]
)
def test_an_unknown_address_leads_back(workbench: Workbench, path: str) -> None:
    async def story(user: User) -> None:
        answer = await user.http_client.get(path)
        assert answer.status_code == 404
        for words in ("All runs", "Skip to content", "Train"):
            assert words in answer.text
        assert answer.text.count('"tag":"h1"') == 1

    visit(workbench, story)


@pytest.mark.parametrize(
    "path",
    ["/report/none", "/image/0/none", "/map/0/none?of=true", "/image/99999/first", "/assets/none"],
)
def test_a_missing_file_is_a_page_to_people_and_a_line_to_programs(
    full: Workbench, path: str
) -> None:
    async def story(user: User) -> None:
        page = await user.http_client.get(path, headers={"accept": "text/html,*/*;q=0.8"})
        assert page.status_code == 404
        for words in ("Page not found", "All runs", "Skip to content"):
            assert words in page.text
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        line = await user.http_client.get(path, headers={"accept": "image/*"})
        assert line.status_code == 404
        assert set(line.json()) == {"detail"}

    visit(full, story)


# Classes without a style of their own: tests find elements by them.
HOOKS = {
    "gh-at", "gh-checking", "gh-curves", "gh-dialog", "gh-runs", "gh-try-drop", "gh-why",
}  # fmt: skip
# Classes whose ends come from data: a status of a run, the level of a finding, a verdict, a split.
FROM_DATA = {
    "gh-damaged", "gh-deleted", "gh-doubtful", "gh-error", "gh-failed", "gh-finished",
    "gh-evaluating", "gh-split-1", "gh-split-2", "gh-starting", "gh-training", "gh-warning",
}  # fmt: skip


def test_every_class_of_the_pages_has_a_style_and_every_style_a_class() -> None:
    package = Path(str(resources.files("glasshouse.serving")))
    written = [*package.rglob("*.py"), *package.glob("pages/*.js")]
    code = "".join(path.read_text(encoding="utf-8") for path in written)
    style = (package / "assets" / "workbench.css").read_text(encoding="utf-8")
    used = set(re.findall(r"\bgh-[a-z0-9-]*[a-z0-9]\b", code)) - {"gh-split"}
    styled = set(re.findall(r"\.(gh-[a-z0-9-]+)", style))
    assert used - styled == HOOKS
    assert styled - used == FROM_DATA | {"gh-split-0"}


def test_no_page_names_another_host(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        for page in PAGES:
            if page.label:
                body = (await user.http_client.get(page.path)).text
                assert "//cdn" not in body
                assert "https://" not in body

    visit(workbench, story)
