import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import httpx
import pytest
from nicegui import ui
from nicegui.testing import User
from starlette.types import Message, Receive, Scope, Send

from glasshouse.serving import body_limits
from glasshouse.serving.taught_sets import add_class, classes_of, set_folder
from glasshouse.serving.workbench import Workbench
from tests.serving.conftest import visit
from tests.serving.test_taught_sets import png


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A small limit, and the sizes of the parts that were taken from clients."""
    monkeypatch.setattr(body_limits, "MOST_BODY_BYTES", 3 << 20)
    return []


def form(files: int, size: int) -> tuple[dict[str, str], bytes]:
    """The headers and the body of an upload."""
    one = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.png"\r\n\r\n'
    body = b"".join(one + bytes(size) + b"\r\n" for _ in range(files)) + b"--b--\r\n"
    return {"Content-Type": "multipart/form-data; boundary=b"}, body


async def upload_address(user: User, workbench: Workbench) -> str:
    add_class(set_folder(workbench, "pets"), "cat")
    await user.open("/teach?set=pets")
    uploads = [e for e in user.find(ui.upload).elements if e.props.get("batch")]
    return str(uploads[0].props["url"])


def test_an_upload_of_unknown_length_is_rejected_while_it_arrives(
    workbench: Workbench, sent: list[int]
) -> None:
    headers, body = form(12, 1 << 20)

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1 << 16):
            sent.append(1 << 16)
            yield body[start : start + (1 << 16)]

    async def story(user: User) -> None:
        address = await upload_address(user, workbench)
        answer = await user.http_client.post(address, headers=headers, content=parts())
        assert answer.status_code == 413
        assert "at most 3 MB and 1,000 files: send fewer" in answer.text
        assert answer.headers["connection"] == "close"
        assert sum(sent) <= (3 << 20) + (1 << 17)
        declared = await user.http_client.post(address, headers=headers, content=body)
        assert declared.status_code == 413
        assert classes_of(set_folder(workbench, "pets")) == {"cat": []}

    visit(workbench, story)


def test_an_upload_of_too_many_files_is_rejected(workbench: Workbench) -> None:
    headers, body = form(body_limits.MOST_FILES + 1, 10)

    async def story(user: User) -> None:
        address = await upload_address(user, workbench)
        answer = await user.http_client.post(address, headers=headers, content=body)
        assert answer.status_code == 400
        assert f"Maximum number of files is {body_limits.MOST_FILES}" in answer.text

    visit(workbench, story)


def test_an_upload_within_the_limits_is_taken(workbench: Workbench, sent: list[int]) -> None:
    async def story(user: User) -> None:
        address = await upload_address(user, workbench)
        files = [(f"f{k}", (f"{k}.png", png(k), "image/png")) for k in range(3)]
        answer = await user.http_client.post(address, files=files)
        assert answer.status_code == 200, answer.text
        # The page takes them in a task of its own.
        for _ in range(1200):
            if len(classes_of(set_folder(workbench, "pets"))["cat"]) == 3:
                return
            await asyncio.sleep(0.1)
        pytest.fail("the images were not added")

    visit(workbench, story)


def test_a_slow_body_is_rejected_and_a_wait_after_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body_limits, "_SECONDS", 0.1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        left = asyncio.create_task(receive())
        await asyncio.sleep(0.3)
        assert not left.done()
        left.cancel()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def never() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(600)

    async def story() -> None:
        transport = httpx.ASGITransport(body_limits.LimitedBodies(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            assert (await client.post("/", content=b"abc")).status_code == 204
            answer = await client.post("/", content=never())
            assert (answer.status_code, answer.headers["connection"]) == (408, "close")
            assert answer.text == "The request did not arrive within 0.1 seconds."

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["http.disconnect", "http.request"])
def test_an_application_may_fail_when_its_client_has_left(kind: str) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise KeyError("REQUEST_METHOD")  # as engineio does

    async def receive() -> Message:
        return {"type": kind}

    async def send(message: Message) -> None:
        raise AssertionError("nothing can be answered")

    scope = {"type": "http", "headers": []}
    asked = body_limits.LimitedBodies(fail)(scope, receive, send)
    with nullcontext() if kind == "http.disconnect" else pytest.raises(KeyError):
        asyncio.run(asked)
