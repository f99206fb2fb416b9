"""What concerns all workers, without any other process."""

import asyncio
from typing import Any

import pytest

from glasshouse.models.classifier import Classifier
from glasshouse.serving.service.all_workers import answer_worker, join_others, metrics_everywhere
from glasshouse.serving.service.peers import Message
from glasshouse.serving.service.served_models import ModelSource
from glasshouse.serving.service.service import Service, service_of


class Others:
    """The other workers, who answer what they were given."""

    number = 1

    def __init__(self, *answers: Message) -> None:
        self.answers = list(answers)
        self.asked: list[Message] = []

    async def ask(self, message: Message) -> list[Message]:
        self.asked.append(message)
        return self.answers


def worker(classifier: Classifier, *answers: Message) -> Service:
    others: Any = Others(*answers)
    return service_of([ModelSource(name, lambda: classifier) for name in "abc"], peers=others)


def test_a_new_worker_unloads_what_the_first_of_the_others_has_unloaded(
    classifier: Classifier,
) -> None:
    service = worker(classifier, {"unloaded": ["b"]}, {"unloaded": ["c"]})
    asyncio.run(join_others(service))
    assert [each.name for each in service.models.loaded()] == ["a", "c"]
    peers: Any = service.peers
    assert peers.asked == [{"do": "state"}]
    peers.answers = []
    asyncio.run(join_others(service))
    assert len(service.models.loaded()) == 2


def test_a_worker_does_what_another_asks_and_nothing_else(classifier: Classifier) -> None:
    async def story() -> None:
        service = worker(classifier)

        async def answer(do: str, name: str = "") -> Message:
            return await answer_worker(service, {"do": do, "name": name})

        assert await answer("state") == {"unloaded": []}
        assert await answer("unload", "b") == {}
        assert await answer("state") == {"unloaded": ["b"]}
        assert list(await answer("metrics")) == ["text"]
        assert [each.name for each in service.models.loaded()] == ["a", "c"]
        assert await answer("load", "b") == {}
        assert await answer("state") == {"unloaded": []}
        found = await answer("load", "other")
        assert list(found) == ["error"] and "Unknown model 'other'" in found["error"]

    asyncio.run(story())


@pytest.mark.parametrize("other", [0, 2])
def test_the_samples_of_each_worker_have_its_number(classifier: Classifier, other: int) -> None:
    service = worker(classifier)
    service.metrics.images.inc(3)
    theirs = service.metrics.text().decode().replace("images_total 3.0", "images_total 5.0")
    peers: Any = service.peers
    peers.answers = [{"text": theirs, "worker": other}]
    lines = asyncio.run(metrics_everywhere(service)).decode().splitlines()
    found = [line for line in lines if line.startswith("glasshouse_images_total")]
    assert sorted(found) == sorted(
        [
            'glasshouse_images_total{worker="1"} 3.0',
            f'glasshouse_images_total{{worker="{other}"}} 5.0',
        ]
    )
