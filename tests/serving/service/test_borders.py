"""What lies just within and just beyond each limit of the service."""

import asyncio
import base64
import math
import os
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from starlette.datastructures import Headers

from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.serving import connections
from glasshouse.serving.connections import _OTHER_FILES, ConnectionLimits, limited_protocol
from glasshouse.serving.service import model_loading, server, worker_processes
from glasshouse.serving.service.access import AccessRules, require_control
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.capacity import Capacity
from glasshouse.serving.service.docs_page import Operation, operations_of
from glasshouse.serving.service.image_work import SMALL_PIXELS, ImageWork
from glasshouse.serving.service.infer_requests import _best
from glasshouse.serving.service.input_tensors import _pixels
from glasshouse.serving.service.lean_route import _reader
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.peers import Peers, first_error
from glasshouse.serving.service.predict_routes import PredictOptions
from glasshouse.serving.service.problems import Problem, not_valid
from glasshouse.serving.service.prometheus import Metrics
from glasshouse.serving.service.schemas import IndexRequest, InferRequest, InputTensor
from glasshouse.serving.service.served_models import Models, ModelSource, ServedModel
from glasshouse.serving.service.server import Server, ShutdownPolicy, reserve
from glasshouse.serving.service.service import Service, make_service
from glasshouse.serving.service.shared_weights import share_weights
from tests.kept import require_kept
from tests.serving.service.conftest import Caller, png
from tests.serving.service.test_protocol import PATH, body, in_binary, tensor

DOCS = Path(__file__).parents[3] / "docs" / "serving.md"
KEPT = Path(__file__).parent / "described.txt"
RAW = {"content-type": "image/png"}


def stated(words: str) -> list[float]:
    """The numbers in the row of the documented limits that has these words."""
    table = DOCS.read_text(encoding="utf-8").partition("\n## Limits")[2]
    (row,) = (line.split("|")[1] for line in table.splitlines() if words in line)
    return [float(number) for number in re.findall(r"\d+", row)]


def test_the_limits_are_those_of_the_documentation() -> None:
    own, connections = Limits(), ConnectionLimits()
    assert stated("--max-queue 256") == [own.max_queue]
    assert stated("--deadline") == [own.deadline]
    assert stated("--max-body-mb") == [own.max_body / 2**20, own.max_held / 2**20]
    assert stated("--max-megapixels") == [own.max_pixels / 1e6]
    assert stated("--max-images") == [own.max_images, own.explain_images]
    assert stated("for the headers") == [connections.head, own.upload]
    assert stated("of a response") == [connections.unread, 64]
    assert stated("connections, or") == [connections.most, _OTHER_FILES]
    assert stated("explanations in flight") == [own.explain_queue, own.explain_deadline]
    assert (own.passes, own.max_batch, own.max_wait) == (1, 16, 0.002)
    assert asdict(ShutdownPolicy()) == {"drain": 0.0, "grace": 30.0}
    # Small files are decoded by the thread that runs the network.
    assert ImageWork(lambda: np.zeros(1), 16 << 10).is_quick
    assert not ImageWork(lambda: np.zeros(1), (16 << 10) + 1).is_quick
    assert ImageWork(lambda: np.zeros(1)).size == 0
    assert SMALL_PIXELS == 256 * 256


BOUNDS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength",
    "minItems", "maxItems", "default", "additionalProperties",
)  # fmt: skip


def endpoint(one: Operation) -> list[str]:
    """An endpoint in lines."""
    return [
        f"{one.method} {one.path}: {one.summary}",
        *(f"  {e.name}: {e.kind}{', required' * e.is_required}" for e in one.parameters),
        *(f"  sends {media}: {kind}" for media, kind in one.bodies),
        *(f"  gets {status}: {kind}" for status, kind in one.responses),
        f"  $ curl {one.example}",
    ]


def bounds(schema: Any, where: str) -> list[str]:
    """The bounds of all values in a schema, in lines."""
    if isinstance(schema, list):
        return [line for one in schema for line in bounds(one, where)]
    if not isinstance(schema, dict):
        return []
    found = {key: schema[key] for key in BOUNDS if key in schema}
    inner = [
        line
        for key, one in schema.items()
        for line in bounds(
            one, where if key in ("properties", "anyOf", "items") else f"{where}.{key}"
        )
    ]
    return [*([f"{where}: {found}"] if found else []), *inner]


def described(document: dict[str, Any]) -> str:
    """Every endpoint and schema of a description, with the bounds of their values."""
    lines = [line for one in operations_of(document, "tiny") for line in endpoint(one)]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += bounds(schema, name)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for each in operation.get("parameters", ()):
                lines += bounds(each["schema"], f"{method} {path} {each['name']}")
    return "\n".join(lines) + "\n"


def test_the_description_is_what_it_was(ask: Caller) -> None:
    """What clients rely on."""
    document = ask("GET", "/openapi.json").json()
    found = described(document)
    require_kept(KEPT, found)


@pytest.mark.parametrize(
    ("query", "is_valid"),
    [("top=1", True), ("top=1000", True), ("top=1001", False), (f"model={'x' * 200}", True),
     (f"model={'x' * 201}", False)],
)  # fmt: skip
def test_the_bounds_of_a_query(query: str, is_valid: bool) -> None:
    assert (_reader(PredictOptions)(query.encode()) is not None) == is_valid


@pytest.mark.parametrize(("length", "is_read"), [(1000, True), (1001, False)])
def test_a_long_query_is_left_to_fastapi(length: int, is_read: bool) -> None:
    query = b"top=3&x=" + b"y" * (length - 8)
    assert len(query) == length
    assert (_reader(PredictOptions)(query) is not None) == is_read
    usual: Any = _reader(PredictOptions)(b"")
    assert usual.top == 5 and not usual.class_conditional and not usual.similar
    assert usual.coverage is usual.sets is usual.model is None


@pytest.mark.parametrize(
    ("document", "is_valid"),
    [
        ({"name": "x" * 256, "shape": [1]}, True), ({"name": "x" * 257, "shape": [1]}, False),
        ({"name": "x", "shape": []}, False), ({"name": "x", "shape": [1] * 8}, True),
        ({"name": "x", "shape": [1] * 9}, False),
    ],
)  # fmt: skip
def test_the_bounds_of_a_tensor(document: dict[str, Any], is_valid: bool) -> None:
    try:
        one = InputTensor.model_validate(document | {"datatype": "UINT8"})
    except ValidationError:
        assert not is_valid
        return
    assert is_valid
    InferRequest(id="x" * 256, inputs=[one])
    many: list[dict[str, Any]] = [{"inputs": [one, one]}, {"inputs": []}]
    for wrong in (*many, {"inputs": [one], "id": "x" * 257}):
        with pytest.raises(ValidationError):
            InferRequest.model_validate(wrong)
    assert not IndexRequest().ready


def test_a_request_that_is_wrong_in_many_places_names_the_first_twenty() -> None:
    shape = {"name": "x", "datatype": "UINT8", "shape": ["a"] * 8}
    wrong: dict[str, Any] = {"inputs": [shape], "outputs": [{"name": "none"}] * 30}
    with pytest.raises(ValidationError) as raised:
        InferRequest.model_validate(wrong)
    problem = not_valid(raised.value)
    assert len(problem.more["errors"]) == 20
    assert problem.more["errors"][0]["where"] == "inputs.0.shape.0"
    assert problem.detail.count("; ") == 19


@pytest.mark.parametrize(
    ("held", "answered", "in_flight", "seconds"),
    [
        ([], 10.0, 9, 1),  # nothing is known yet
        ([4], 10.0, 9, 1),  # one answer has no duration
        ([4, 4], 2.0, 8, 2),  # 8 images in 2 seconds, and 8 wait
        ([4, 4], 2.0, 9, 3),  # rounded up
        ([4, 4], 2.0, 0, 1),
        ([1, 1], 100.0, 1, 50),
        ([1, 1], 119.0, 1, 60),
        ([1, 1], 121.0, 1, 60),  # a minute at most
    ],
)
def test_when_to_try_again(
    monkeypatch: pytest.MonkeyPatch, held: list[int], answered: float, in_flight: int, seconds: int
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    capacity = Capacity(100, 100)
    for count in held:
        with capacity.enter() as slot:
            slot.grow(images=count)
    now[0] = answered
    capacity.images = in_flight
    assert capacity.retry_after() == seconds


def test_only_recent_answers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    capacity = Capacity(100, 100)
    for step in range(66):
        with capacity.enter() as slot:
            slot.grow(images=1)
        now[0] = step + 1.0
    capacity.images = 64
    assert capacity.retry_after() == 60
    capacity.images = 32
    assert capacity.retry_after() == 32  # the last 64 answers, from the third on, in 64 seconds


def test_a_slot_takes_all_that_is_left_and_no_more() -> None:
    capacity = Capacity(5, 50)
    with capacity.enter() as first, capacity.enter() as second:
        first.grow(images=3, size=30)
        second.grow(images=2, size=20)
        assert (capacity.images, capacity.bytes) == (5, 50)
        assert (first.images, first.bytes, second.images, second.bytes) == (3, 30, 2, 20)
        first.grow()
    assert (capacity.images, capacity.bytes) == (0, 0)


def test_the_buckets_of_the_metrics() -> None:
    metrics = Metrics()
    metrics.batch_sizes.observe(1)
    metrics.request_seconds.labels("/").observe(1)
    metrics.forward_seconds.observe(1)
    text = metrics.text().decode()

    def buckets(name: str) -> list[float]:
        found = re.findall(rf'{name}_bucket{{le="([^"]+)"', text)
        found += re.findall(rf'{name}_bucket{{.*,le="([^"]+)"', text)
        found += re.findall(rf'{name}_bucket{{le="([^"]+)",route', text)
        return [float(each) for each in dict.fromkeys(found)]

    assert buckets("glasshouse_batch_size") == [1, 2, 4, 8, 16, 32, 64, 128, math.inf]
    ones = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, math.inf)
    assert buckets("glasshouse_request_duration_seconds") == list(ones)
    assert buckets("glasshouse_forward_duration_seconds") == list(ones)


@pytest.mark.parametrize(("length", "is_kept"), [(1, True), (128, True), (129, False)])
def test_the_length_of_a_request_id(ask: Caller, length: int, is_kept: bool) -> None:
    given = "x" * length
    found = ask("GET", "/healthz", headers={"x-request-id": given}).headers["x-request-id"]
    assert (found == given) == is_kept


def test_methods_that_clients_make_up_are_counted_together(ask: Caller) -> None:
    for method in ("BREW", "WHEN", "PATCH"):
        assert ask(method, "/healthz").status_code == 405
    text = ask("GET", "/metrics").text
    assert 'glasshouse_requests_total{method="other",route="/healthz",status="405"} 2.0' in text
    assert 'method="PATCH"' in text and "BREW" not in text
    assert 'glasshouse_request_duration_seconds_count{route="/healthz"} 3.0' in text


def test_a_page_lists_a_thousand_classes_and_counts_all(tiny_net: torch.nn.Sequential) -> None:
    class Wide(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs.flatten(1).mean(1, keepdim=True).expand(-1, 1001)

    names = tuple(f"kind-{number:04}" for number in range(1001))
    service = make_service(Classifier(Wide(), Preprocessing(8, 8), names), "wide")
    page = Caller(create_api(service))("GET", "/").text
    assert "kind-0999" in page and "kind-1000" not in page and re.search(r"1,?001", page)


@pytest.mark.parametrize(("load", "is_refused"), [(3, False), (4, True), (5, True)])
def test_few_models_wait_to_be_loaded(load: int, is_refused: bool) -> None:
    service: Any = SimpleNamespace(
        models=SimpleNamespace(source=lambda name: name), loader=SimpleNamespace(load=load)
    )

    async def nothing(*_: object, **__: object) -> None:
        return None

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model_loading, "_try_to_load", nothing)
        try:
            asyncio.run(model_loading.load_by_name(service, "a"))
        except Problem as problem:
            assert is_refused and problem.status == 503 and problem.headers["Retry-After"] == "1"
        else:
            assert not is_refused


def test_newer_weights_are_looked_for_every_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def stop(service: object) -> None:
        raise KeyError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(model_loading, "reload_changed", stop)
    nothing: Any = None
    with pytest.raises(KeyError):
        asyncio.run(model_loading.keep_up_to_date(nothing))
    assert waited == [2.0]


@pytest.mark.parametrize(
    ("loaded", "now", "failed", "is_outdated"),
    [
        (((1, 2, 3),), ((1, 2, 3),), None, False),
        (((1, 2, 3),), ((1, 2, 4),), None, True),
        (((1, 2, 3),), None, None, False),
        (((1, 2, 3),), ((1, 2, 4),), ((1, 2, 4),), False),
        (((1, 2, 3),), ((1, 2, 5),), ((1, 2, 4),), True),
        (None, ((1, 2, 4),), None, False),
    ],
)
def test_what_is_newer(loaded: Any, now: Any, failed: Any, is_outdated: bool) -> None:
    nothing: Any = None
    models = Models([ModelSource("a", lambda: nothing)])
    if loaded is not None:
        models.put(ServedModel("a", nothing, nothing, loaded))
    if failed is not None:
        models.note_failure("a", failed, "why")
        assert models.failure("a") == "why"
    assert models.is_outdated("a", now) == is_outdated
    assert models.failure("b") == ""


@pytest.mark.parametrize(("age", "stays"), [(600.0, True), (600.5, False)])
def test_shared_weights_are_kept_for_ten_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, stays: bool
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e6)
    old = tmp_path / "old.safetensors"
    old.touch()
    os.utime(old, (1e6 - age, 1e6 - age))
    share_weights(torch.nn.Linear(2, 2), tmp_path)
    assert old.exists() == stays
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 + stays
    assert not list(tmp_path.glob("*.draft"))


def test_what_no_file_can_hold_is_not_shared(tmp_path: Path) -> None:
    net = torch.nn.Module()
    net.empty = torch.nn.Parameter(torch.zeros(0))
    net.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)
    net.register_buffer("sparse", torch.eye(2).to_sparse())
    share_weights(net, tmp_path)
    assert list(tmp_path.iterdir()) == []
    net.register_buffer("one", torch.ones(1))
    share_weights(net, tmp_path)
    (file,) = tmp_path.iterdir()
    assert torch.equal(net.get_buffer("one"), torch.ones(1))
    assert net.get_buffer("turned").shape == (3, 2)
    same = torch.nn.Module()
    same.register_buffer("one", torch.ones(1))
    share_weights(same, tmp_path)
    assert list(tmp_path.iterdir()) == [file]
    for other in (torch.ones(1, 1), torch.ones(1, dtype=torch.float64), torch.zeros(1)):
        net = torch.nn.Module()
        net.register_buffer("one", other)
        share_weights(net, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_the_server_is_set_up_as_its_reasons_say(service: Service) -> None:
    for grace, whole in ((30.0, 30), (0.2, 1), (2.6, 3)):
        config = Server(None, service, ShutdownPolicy(grace=grace)).config
        assert config.timeout_graceful_shutdown == whole
    assert config.timeout_keep_alive == 75 and config.backlog == 2048
    assert config.access_log is False and config.server_header is False
    assert config.lifespan == "on" and config.ws == "none"


def test_each_signal_shortens_the_shutdown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stopping = Server(None, service, ShutdownPolicy(drain=5.0))
    ticks: list[bool] = []

    async def tick() -> bool:
        return await stopping.on_tick(1)

    def is_stopping() -> bool:
        asyncio.run(tick())
        ticks.append(stopping.should_exit)
        return stopping.should_exit

    assert not is_stopping() and not service.is_closing.is_set()
    stopping.handle_exit(15, None)
    assert service.is_closing.is_set()
    for moment, ends in ((100.0, False), (104.9, False), (105.0, True)):
        now[0], stopping.should_exit = moment, False
        assert is_stopping() == ends
    now[0], stopping.should_exit = 101.0, False
    stopping.handle_exit(15, None)
    assert is_stopping() and not stopping.force_exit
    stopping.handle_exit(15, None)
    assert stopping.force_exit


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", "INET"), ("::1", "INET6")])
def test_a_port_is_reserved_in_either_family(host: str, family: str) -> None:
    try:
        listener = reserve(host, 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert listener.family == getattr(socket, f"AF_{family}")
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert listener.getsockname()[1] > 0


def quiet(monkeypatch: pytest.MonkeyPatch, states: Sequence[tuple[int, int, int]]) -> float:
    """How long a shutdown waits; states: connections, tasks and requests, of each look."""
    now, left = [0.0], list(states)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class State:
        connections, tasks, total_requests = states[0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds
        if left:
            State.connections, State.tasks, State.total_requests = left.pop(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    stopping: Any = SimpleNamespace(
        server_state=State, _policy=ShutdownPolicy(grace=3.0), force_exit=False
    )
    asyncio.run(Server._wait_until_quiet(stopping))
    return round(now[0], 2)


def test_a_shutdown_waits_until_no_request_has_come_for_half_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert quiet(monkeypatch, [(0, 0, 0)]) == 0
    assert quiet(monkeypatch, [(1, 0, 7)]) == pytest.approx(0.5, abs=0.06)
    # A request after 0.2 s, and one that is still computed.
    assert quiet(monkeypatch, [(1, 0, 7)] * 4 + [(1, 0, 8)]) == pytest.approx(0.7, abs=0.11)
    assert quiet(monkeypatch, [(1, 1, 7)]) == pytest.approx(3.0, abs=0.06)
    assert quiet(monkeypatch, [(1, 1, 7)] * 3 + [(0, 0, 7)]) == pytest.approx(0.2, abs=0.06)


def test_a_process_of_its_own_switches_threads_after_a_tenth_of_a_millisecond() -> None:
    assert server._SWITCH_SECONDS == 0.0001


def test_workers_wait_for_each_other_long_enough_to_load_a_model(tmp_path: Path) -> None:
    peers = Peers(tmp_path, 1, 3)
    asked: list[Any] = []

    async def open_connection(path: Path, limit: int) -> Any:
        asked.append((path.name, limit))
        raise OSError

    timeouts: list[float] = []
    usual = asyncio.timeout

    def timeout(seconds: float) -> Any:
        timeouts.append(seconds)
        return usual(seconds)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asyncio, "open_unix_connection", open_connection)
        patched.setattr(asyncio, "timeout", timeout)
        assert asyncio.run(peers.ask({"do": "state"})) == []
    assert asked == [("0.sock", 64 << 20), ("2.sock", 64 << 20)] and timeouts == [300.0] * 2
    assert first_error([{}, {"error": "a"}, {"error": "b"}]) == "a" and first_error([{}]) is None


class Ended:
    """A process that has ended with a code, or has not (None)."""

    def __init__(self, code: int | None) -> None:
        self.code = code
        self.is_terminated = False

    def poll(self) -> int | None:
        return self.code

    def wait(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.is_terminated = True


def test_a_worker_that_ends_is_started_again_after_two_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [10.0]
    told: list[str] = []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    nothing: Any = None
    crew = worker_processes._Crew([], nothing, nothing, 2, told.append)
    started: list[int] = []
    monkeypatch.setattr(worker_processes._Crew, "start", lambda _, number: started.append(number))
    stays: Any = Ended(None)
    gone: Any = Ended(1)
    crew.processes = {0: stays, 1: gone}
    for moment, begun in ((10.0, []), (11.9, []), (12.0, [1]), (12.1, [1])):
        now[0] = moment
        crew.replace_ended()
        assert started == begun
    assert told[0] == "worker 1 ended with code 1; another takes its place"
    crew.signals = 1
    now[0] = 100.0
    crew.replace_ended()
    assert started == [1]
    worker_processes._end(crew)
    assert stays.is_terminated and not gone.is_terminated
    for descriptor in crew.lifeline:
        with pytest.raises(OSError):
            os.fstat(descriptor)
    for code, shown in ((0, 0), (-15, 0), (3, 3), (-9, 9)):
        ended: Any = Ended(code)
        assert worker_processes._code(ended) == shown


@pytest.mark.parametrize(
    ("values", "datatype", "first", "is_warned"),
    [
        ([0, 255], "UINT8", 255, False), ([0, 1], "UINT8", 1, True), ([0, 2], "UINT8", 2, False),
        ([0, 0], "UINT8", 0, False), ([0, 1], "FP32", 255, False), ([0, 0.5], "FP32", 127.5, False),
        ([0, 1.5], "FP32", 1.5, False), ([0, 0], "FP32", 0, False), ([0, 255], "FP32", 255, False),
        ([False, True], "BOOL", 255, False),
    ],
)  # fmt: skip
def test_the_range_of_pixels(
    values: list[Any], datatype: str, first: float, is_warned: bool
) -> None:
    found, value_range, warning = _pixels(np.array(values), datatype)
    assert found.max() == first and found.min() == 0
    assert (warning is not None) == is_warned
    is_unit = datatype == "BOOL" or (datatype == "FP32" and 0 < max(values) <= 1)
    assert value_range == ("0 to 1" if is_unit else "0 to 255")


@pytest.mark.parametrize("values", [[0, 255.01], [-0.01, 1], [0, 256], [-1, 0]])
def test_pixels_beyond_the_range_are_refused(values: list[float]) -> None:
    with pytest.raises(Problem) as raised:
        _pixels(np.array(values), "FP32")
    assert ("before normalisation" in raised.value.detail) == (min(values) < 0)


def test_as_many_images_as_are_allowed(ask: Caller) -> None:
    texts = [base64.b64encode(png(0)).decode()] * 8
    assert ask("POST", PATH, json=body("BYTES", [8], texts)).status_code == 200
    assert ask("POST", PATH, json=body("BYTES", [8, 1], texts)).status_code == 200
    assert ask("POST", PATH, json=body("BYTES", [4, 2], texts)).status_code == 422
    whole = [[[0] * 16] * 16] * 3
    hints = {
        "channels": body("UINT8", [1, 16, 16, 3], [0] * 768),
        "resize to 16x16": body("UINT8", [1, 1, 1, 1], [0]),
        "got [1, 3, 16]": body("UINT8", [1, 3, 16], [0] * 48),
        "add a dimension": body("UINT8", [3, 16, 16], whole),
    }
    for words, document in hints.items():
        answer = ask("POST", PATH, json=document)
        assert answer.status_code == 422 and words in answer.json()["detail"]
        assert ("resize" in answer.json()["detail"]) == ("resize" in words)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [("FP16", "<f2"), ("FP32", "<f4"), ("FP64", "<f8"), ("UINT16", "<u2"), ("INT64", "<i8")],
)
def test_numbers_of_every_width_mean_the_same(ask: Caller, datatype: str, values: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, 768)
    plain = ask("POST", PATH, json=body("UINT8", [1, 3, 16, 16], pixels.tolist())).json()
    data = pixels.astype(values).tobytes()
    asked = in_binary(tensor(datatype, [1, 3, 16, 16], binary_data_size=len(data)), data)
    answer = ask("POST", PATH, **asked)
    assert answer.status_code == 200, answer.text
    for found, wanted in zip(answer.json()["outputs"], plain["outputs"], strict=True):
        if found["name"] == "class":
            assert found["data"] == wanted["data"]
        else:
            assert found["data"] == pytest.approx(wanted["data"], abs=1e-5)


@pytest.mark.parametrize("value", [0.4, 0.6, 254.9])
def test_fractions_are_no_whole_numbers(ask: Caller, value: float) -> None:
    answer = ask("POST", PATH, json=body("INT32", [1, 3, 16, 16], [value, *[0] * 767]))
    assert answer.status_code == 422 and "whole numbers for INT32" in answer.json()["detail"]


def test_images_are_compared_with_those_of_a_run_only_where_that_is_asked_for(
    service: Service,
) -> None:
    compared: list[int] = []

    def compare(images: Any, logits: Any) -> list[Any]:
        compared.append(len(images))
        return [SimpleNamespace(as_json=lambda: {"similar": []})] * len(images)

    comparison: Any = SimpleNamespace(compare=compare)
    service.models.put(replace(service.models.find(), comparison=comparison))
    ask = Caller(create_api(service))
    text = base64.b64encode(png(0)).decode()
    assert ask("POST", PATH, json=body("BYTES", [1], [text])).status_code == 200
    assert ask("POST", "/predict", content=png(0), headers=RAW).status_code == 200
    assert compared == []
    stopwatch = service.models.find().stopwatch
    for number in (1, 2):
        # Nor where the network is fast and the caller alone.
        stopwatch.seconds = 0.001
        found = ask("POST", "/predict?similar=true", content=png(0), headers=RAW).json()
        assert compared == [1] * number and found["predictions"][0]["similar"] == []
        # The time with a comparison says nothing of one without.
        assert stopwatch.seconds == 0.001


def test_the_first_page_is_that_of_the_first_model_that_is_loaded(service: Service) -> None:
    ask = Caller(create_api(service))
    assert ask("POST", "/v2/repository/models/tiny/unload").status_code == 200
    assert ask("GET", "/").status_code == 404
    assert ask("POST", "/v2/repository/models/tiny/load").status_code == 200
    assert ask("GET", "/?model=tiny").status_code == ask("GET", "/").status_code == 200


def test_a_model_without_names_has_any_number_of_classes(tiny_net: torch.nn.Sequential) -> None:
    nameless = Classifier(tiny_net.eval(), Preprocessing(16, 16), ())
    about = Caller(create_api(make_service(nameless, "tiny")))("GET", "/v2/models/tiny").json()
    assert [each["shape"] for each in about["outputs"]] == [[-1], [-1, -1], [-1, -1]]


def test_the_largest_values_are_named_as_the_extension_has_it() -> None:
    values = np.array([0.25, 0.5, 0.25, -1.0], dtype=np.float32)
    names = ("a", "b", "c", "d")
    assert _best(values, 2, names) == ["0.500000:1:b", "0.250000:0:a"]
    assert _best(values, 9, ()) == ["0.500000:1", "0.250000:0", "0.250000:2", "-1.000000:3"]


def test_control_of_models_from_no_page_and_from_named_ones() -> None:
    rules = AccessRules(origins=frozenset({"https://ops.example"}))
    require_control(rules, Headers({}))
    require_control(rules, Headers({"origin": "HTTPS://OPS.example"}))
    for origin in ("", "https://ops.example:1", "null"):
        with pytest.raises(Problem) as raised:
            require_control(rules, Headers({"origin": origin}))
        assert raised.value.status == 403


@pytest.mark.parametrize(("declared", "status"), [("1048576", 422), ("1048577", 413)])
def test_a_body_of_exactly_the_limit_may_be_declared(
    ask: Caller, declared: str, status: int
) -> None:
    headers = RAW | {"content-length": declared}
    assert ask("POST", "/predict", content=b"x" * 10, headers=headers).status_code == status


@pytest.mark.parametrize(("excess", "status"), [(0, 422), (1, 413)])
def test_a_body_of_exactly_the_limit_is_read(ask: Caller, excess: int, status: int) -> None:
    data = bytes((1 << 20) + excess)
    assert ask("POST", "/predict", content=data, headers=RAW).status_code == status


def test_names_in_messages_are_cut(ask: Caller) -> None:
    answer = ask("POST", "/predict", content=b"x", headers={"content-type": "t" * 300})
    assert answer.status_code == 415
    assert "t" * 200 in answer.json()["detail"] and "t" * 201 not in answer.json()["detail"]
    fields = {f"{'f' * 198}{number}{'g' * 9}": "x" for number in range(7)}
    answer = ask("POST", "/predict", files=[(name, (None, "x")) for name in fields])
    detail = answer.json()["detail"]
    assert detail.count("f" * 198) == 5 and "f" * 198 + "0g'" in detail
    asked = ask("POST", "/v2/repository/models/tiny/load", json={"parameters": {"p" * 300: "x"}})
    assert "p" * 200 + "." in asked.json()["detail"] and "p" * 201 not in asked.json()["detail"]


def test_a_server_has_a_hundred_files_besides_its_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for files, most in ((1 << 20, 1000), (600, 500), (101, 1), (5, 1)):
        monkeypatch.setattr(connections, "_file_limit", lambda files=files: files)
        protocol: Any = limited_protocol(ConnectionLimits())
        assert protocol._limits == ConnectionLimits(most=most)
