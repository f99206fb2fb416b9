"""The bodies of requests: how much of them is held, and which names they may have."""

from collections.abc import AsyncIterator

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
