"""The bodies of requests: how much of them is held, and which names they may have."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from glasshouse.models.classifier import Classifier
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.service import Service, make_service
from tests.serving.service.conftest import Caller, png

RAW = {"content-type": "image/png"}


@pytest.fixture
def narrow(classifier: Classifier) -> Service:
    """A service that holds no more than the bytes of one small image."""
    return make_service(classifier, "tiny", Limits(max_body=1 << 20, max_held=len(png(0))))


def test_bytes_beyond_those_of_all_bodies_together_are_rejected(narrow: Service) -> None:
    ask = Caller(create_api(narrow))
    assert ask("POST", "/predict", content=png(0), headers=RAW).status_code == 200
    answer = ask("POST", "/predict", content=png(0) + b"x", headers=RAW)
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:glasshouse:problem:overloaded"
    assert int(answer.headers["retry-after"]) >= 1
    assert (narrow.capacity.images, narrow.capacity.bytes) == (0, 0)
    assert ask("POST", "/predict", content=png(0), headers=RAW).status_code == 200


def test_bytes_count_as_they_arrive_whatever_was_declared(narrow: Service) -> None:
    held: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for byte in png(0) + b"end":
            yield bytes([byte])
            held.append(narrow.capacity.bytes)

    answer = Caller(create_api(narrow))("POST", "/predict", content=body(), headers=RAW)
    assert answer.status_code == 503
    assert max(held) == len(png(0))
    assert narrow.capacity.bytes == 0


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a" * 200, "a" * 200), ("b" * 201, "b" * 200), ("\N{SNOWMAN}" * 300, "\N{SNOWMAN}" * 200)],
)
def test_a_long_name_is_cut(ask: Caller, name: str, shown: str) -> None:
    answer = ask("POST", "/predict", files=[("image", (name, png(0), "image/png"))])
    assert answer.status_code == 200
    assert [each["image"] for each in answer.json()["predictions"]] == [shown]


class Stream:
    """A body of unknown length."""

    def __init__(self, *chunks: bytes, pause: float = 0.0) -> None:
        self.chunks = chunks
        self.pause = pause

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        await asyncio.sleep(self.pause)


@pytest.mark.parametrize(("excess", "status"), [(0, 422), (1, 413)])
def test_a_body_of_unknown_length_may_have_exactly_the_limit(
    ask: Caller, excess: int, status: int
) -> None:
    stream = Stream(bytes(1 << 19), bytes((1 << 19) + excess))
    assert ask("POST", "/predict", content=stream, headers=RAW).status_code == status


def test_a_body_that_does_not_arrive_in_time_is_refused(classifier: Classifier) -> None:
    service = make_service(classifier, "tiny", Limits(upload=0.01))
    ask = Caller(create_api(service))
    answer = ask("POST", "/predict", content=Stream(b"x", pause=600), headers=RAW)
    assert answer.status_code == 408 and answer.json()["type"].endswith(":upload-timeout")
    assert "within 0.01 seconds" in answer.json()["detail"]
    assert answer.headers["connection"] == "close"
    assert service.capacity.bytes == 0


def test_a_form_has_at_most_a_thousand_other_fields(ask: Caller) -> None:
    def status(count: int) -> int:
        fields: list[Any] = [(f"f{number}", (None, "x")) for number in range(count)]
        return ask("POST", "/predict", files=[*fields, ("a", ("a.png", png(0)))]).status_code

    assert (status(1000), status(1001)) == (200, 422)


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("multipart/form-data", b"x", "(Missing boundary in multipart.)"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", "received the fields nothing"),
        ("multipart/form-data; boundary=b", b"--b\r\nx\r\n", "(Invalid multipart data.)"),
    ],
)
def test_a_form_that_cannot_be_read_says_why(
    ask: Caller, kind: str, content: bytes, words: str
) -> None:
    answer = ask("POST", "/predict", content=content, headers={"content-type": kind})
    assert answer.status_code == 422 and words in answer.json()["detail"], answer.text


def test_too_many_files_of_a_form_are_named_as_the_reason(ask: Caller) -> None:
    form = [("a", (f"{number}.png", b"x")) for number in range(9)]
    detail = ask("POST", "/predict", files=form).json()["detail"]
    assert "(Too many files" in detail and detail.endswith("expected up to 8 files.")


def test_an_encoding_is_cut_in_the_message(ask: Caller) -> None:
    headers = RAW | {"content-encoding": "e" * 300}
    detail = ask("POST", "/predict", content=png(0), headers=headers).json()["detail"]
    assert "e" * 200 in detail and "e" * 201 not in detail
