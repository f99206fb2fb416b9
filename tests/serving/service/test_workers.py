"""Several processes that serve together: what they share, and what they tell each other."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch

from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import predict_logits
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.peers import Peers
from glasshouse.serving.service.served_models import ModelSource, load_served
from glasshouse.serving.service.service import Service, service_of
from glasshouse.serving.service.shared_weights import share_weights
from glasshouse.serving.service.worker_processes import can_work, run_workers, this_worker
from tests.serving.service.conftest import png
from tests.serving.service.test_models import pets

pytestmark = pytest.mark.skipif(not can_work(), reason="a system without Unix sockets")
# Stands for a worker: it is ready at once, and ends as it is told.
WORKER = """
import json, os, signal, sys, time
given = json.loads(os.environ["GLASSHOUSE_WORKER"])
folder, number = given["folder"], given["number"]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[2])))
with open(sys.argv[1], "a") as log:
    print(number, os.getpid(), file=log)
if sys.argv[3] == "fails":
    sys.exit(3)
open(f"{folder}/{number}.ready", "w").write("pets, 3 classes")
time.sleep(600)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="g") as name:
        (Path(name) / "weights").mkdir()
        yield Path(name)


def worker(place: Path, number: int, count: int = 2) -> Service:
    peers = Peers(place, number, count)
    sources = [ModelSource(name, lambda: pets(0), None, peers.weights) for name in ("a", "b")]
    return service_of(sources, peers=peers)


@contextlib.asynccontextmanager
async def started(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    app = create_api(service)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client


async def classify(client: httpx.AsyncClient, query: str = "") -> int:
    headers = {"content-type": "image/png"}
    return (await client.post(f"/predict{query}", content=png(0), headers=headers)).status_code


def test_whichever_worker_is_asked_all_load_and_unload_and_one_that_is_new_follows(
    place: Path,
) -> None:
    async def states(*clients: httpx.AsyncClient) -> list[int]:
        return [await classify(each, "?model=b") for each in clients]

    async def story() -> None:
        services = [worker(place, number, 3) for number in range(3)]
        async with started(services[0]) as first, started(services[1]) as second:
            assert (place / "1.ready").read_text(encoding="utf-8") == "a, 3 classes, b, 3 classes"
            assert await states(first, second) == [200, 200]
            assert (await second.post("/v2/repository/models/b/unload")).status_code == 200
            assert await states(first, second) == [404, 404]
            async with started(services[2]) as third:
                assert await states(third) == [404]
                assert (await first.post("/v2/repository/models/b/load")).status_code == 200
                assert await states(first, second, third) == [200, 200, 200]
            # One that is gone is not waited for.
            assert (await first.post("/v2/repository/models/b/unload")).status_code == 200
            assert await states(first, second) == [404, 404]

    asyncio.run(story())


def test_a_load_that_one_worker_cannot_do_is_reported(place: Path) -> None:
    def refuse() -> Classifier:
        raise OSError("no disk")

    async def story() -> httpx.Response:
        services = [worker(place, number) for number in range(2)]
        sources = services[1].models.sources
        sources["a"] = replace(sources["a"], load=refuse)
        async with started(services[0]) as first, started(services[1]):
            return await first.post("/v2/repository/models/a/load")

    answer = asyncio.run(story())
    assert answer.status_code == 503 and "no disk" in answer.json()["detail"]


def test_metrics_name_the_worker_of_each_sample(place: Path) -> None:
    async def story() -> tuple[str, str]:
        services = [worker(place, number) for number in range(2)]
        async with started(services[0]) as first, started(services[1]) as second:
            for client, count in ((first, 1), (second, 2)):
                for _ in range(count):
                    assert await classify(client) == 200
            return (await first.get("/metrics")).text, (await second.get("/metrics")).text

    for text in asyncio.run(story()):
        lines = text.splitlines()
        for line in (
            "# TYPE glasshouse_images_total counter",
            'glasshouse_images_total{worker="0"} 1.0',
            'glasshouse_images_total{worker="1"} 2.0',
            'glasshouse_models_loaded{worker="1"} 2.0',
            'glasshouse_batch_size_bucket{le="1.0",worker="1"} 2.0',
        ):
            assert lines.count(line) == 1, line
        assert sum(line.startswith("# HELP glasshouse_images_total") for line in lines) == 1


def test_workers_map_the_same_weights_and_a_new_run_does_not_change_them(place: Path) -> None:
    folder = place / "weights"
    source = ModelSource("a", lambda: pets(0), None, folder)
    own, models = pets(0), [load_served(source, 4) for _ in range(2)]
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8).numpy()
    wanted = predict_logits(own.net, own.preprocessing, pixels)
    for model in models:
        found = predict_logits(model.classifier.net, own.preprocessing, pixels)
        assert torch.equal(found, wanted)
    # Both networks of the service have a file, and the second worker wrote no other.
    files = sorted(folder.iterdir())
    assert 1 <= len(files) <= 2 and all(each.suffix == ".safetensors" for each in files)
    if sys.platform == "linux":
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        assert all(maps.count(str(each)) >= 2 for each in files)
    # Values of one copy are its own.
    with torch.no_grad():
        next(models[0].classifier.net.parameters()).zero_()
    found = predict_logits(models[1].classifier.net, own.preprocessing, pixels)
    assert torch.equal(found, wanted)
    for each in files:
        os.utime(each, (0, 0))
    share_weights(pets(1).net, folder)
    assert len(list(folder.iterdir())) == 1
    assert torch.equal(predict_logits(models[1].classifier.net, own.preprocessing, pixels), wanted)


def crew(place: Path, code: int = 0, way: str = "runs") -> tuple[list[str], Path]:
    log = place / "log"
    log.touch()
    return [sys.executable, "-c", textwrap.dedent(WORKER), str(log), str(code), way], log


def test_all_workers_end_with_the_signal_and_one_that_dies_is_replaced(place: Path) -> None:
    command, log = crew(place)
    told: list[str] = []

    def begun() -> list[tuple[int, int]]:
        lines = log.read_text(encoding="utf-8").split("\n")[:-1]
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]

    def tell(text: str) -> None:
        told.append(text)
        # Handled once the loop runs again, which then has the replacement to end as well.
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.1)

    def end_when_replaced(*_: object) -> None:
        if len(begun()) == 3:
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, end_when_replaced)
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            code = run_workers(
                command, listener, 2, tell=tell,
                ready=lambda models: os.kill(begun()[1][1], signal.SIGKILL),
            )  # fmt: skip
    finally:
        signal.signal(signal.SIGALRM, before)
    assert code == 0
    assert [number for number, _ in begun()] == [0, 1, 1]
    assert told == ["worker 1 ended with code -9; another takes its place"]
    for _, process in begun():
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.parametrize(("way", "code", "count"), [("fails", 3, 1), ("runs", 5, 2)])
def test_the_exit_code_is_that_of_the_workers(place: Path, way: str, code: int, count: int) -> None:
    command, log = crew(place, 5, way)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        found = run_workers(
            command, listener, 2, tell=print,
            ready=lambda models: os.kill(os.getpid(), signal.SIGTERM),
        )  # fmt: skip
    # A first worker that cannot start is the only one that says why.
    assert (found, len(log.read_text(encoding="utf-8").splitlines())) == (code, count)


def test_what_a_worker_is_given_does_not_reach_the_processes_that_it_starts(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert this_worker() is None
    with socket.socket() as listener:
        given = {"folder": str(place), "number": 1, "count": 2, "lifeline": 9,
                 "listener": listener.detach()}  # fmt: skip
    monkeypatch.setenv("GLASSHOUSE_WORKER", json.dumps(given))
    found = this_worker()
    assert found is not None and found.peers == Peers(place, 1, 2)
    found.listener.close()
    assert "GLASSHOUSE_WORKER" not in os.environ


STANDING_BY = """
import json, os, signal, time
from pathlib import Path
given = json.loads(os.environ["GLASSHOUSE_WORKER"])
written = Path(given["folder"], f"{given['number']}.new")
written.write_text(f"worker {given['number']} of {given['count']}")
written.replace(written.with_suffix(".ready"))
time.sleep(60)
"""


def test_what_the_first_worker_serves_is_told_and_signals_are_handled_as_before() -> None:
    told: list[str] = []

    def ready(words: str) -> None:
        told.append(words)
        os.kill(os.getpid(), signal.SIGTERM)  # noted at the next line of this process

    noted: list[int] = []
    both = (signal.SIGINT, signal.SIGTERM)
    before = {each: signal.signal(each, lambda number, _: noted.append(number)) for each in both}
    try:
        own = {each: signal.getsignal(each) for each in both}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            command = [sys.executable, "-c", STANDING_BY]
            assert run_workers(command, listener, 2, ready=ready, tell=told.append) == 0
        assert {each: signal.getsignal(each) for each in both} == own and not noted
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert told == ["worker 0 of 2"]
