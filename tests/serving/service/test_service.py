"""How requests share the threads and networks of a service."""

import asyncio
import io
import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from starlette.requests import Request

from glasshouse.models.classifier import Classifier
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.predict_routes import PredictOptions
from glasshouse.serving.service.service import Callers, Service, make_service
from glasshouse.serving.service.stopwatch import Stopwatch
from tests.serving.service.conftest import Caller, NoneForBlack, black, png
from tests.serving.service.test_protocol import PATH, body, in_binary, tensor

RAW = {"content-type": "image/png"}
PIXELS = body("UINT8", [1, 3, 16, 16], [0] * 768)


def test_one_image_of_a_form_without_an_answer_is_a_problem_of_the_form(
    classifier: Classifier,
) -> None:
    broken = replace(classifier, net=NoneForBlack(classifier.net))
    ask = Caller(create_api(make_service(broken, "tiny")))
    form = [("p", ("noise.png", png(1))), ("p", ("black.png", black()))]
    answer = ask("POST", "/predict", files=form)
    assert answer.status_code == 500 and answer.json()["type"].endswith(":not-finite")


def test_a_full_queue_of_one_still_takes_one(classifier: Classifier) -> None:
    service = make_service(classifier, "tiny", Limits(max_queue=1))
    ask = Caller(create_api(service))
    held: list[int] = []
    submit = service.reader.submit

    async def noted(work: Callable[[], Any]) -> Any:
        held.append(service.capacity.images)
        return await submit(work)

    object.__setattr__(service.reader, "submit", noted)
    assert ask("POST", PATH, json=PIXELS).status_code == 200
    # A tensor in JSON takes a place while it is parsed, before its images are known.
    assert held == [1]
    assert ask("POST", "/predict", content=png(0), headers=RAW).status_code == 200
    two = body("UINT8", [2, 3, 16, 16], [0] * 1536)
    assert ask("POST", PATH, json=two).status_code == 503
    assert service.capacity.images == 0


def test_a_header_may_say_that_all_of_the_body_is_json(ask: Caller) -> None:
    asked = in_binary(PIXELS, b"")
    assert ask("POST", PATH, **asked).status_code == 200
    data = bytes(768)
    asked = in_binary(tensor("UINT8", [1, 3, 16, 16], binary_data_size=768), data)
    assert ask("POST", PATH, **asked).status_code == 200


def test_versions_other_than_the_one_are_unknown(ask: Caller) -> None:
    for version in ("0", "2", "10", "one"):
        for end in ("", "/ready"):
            answer = ask("GET", f"/v2/models/tiny/versions/{version}{end}")
            assert answer.status_code == 404 and repr(version) in answer.json()["error"]
    about = ask("GET", "/v2/models/tiny").json()
    assert [each.get("parameters") for each in about["outputs"]] == [None] * 3


def test_how_long_the_network_took_is_counted(ask: Caller) -> None:
    assert ask("POST", "/predict", content=png(0), headers=RAW).status_code == 200
    text = ask("GET", "/metrics").text
    sums = re.findall(r"(\w+_seconds)_sum(?:{[^}]*})? (\S+)", text)
    assert {name for name, _ in sums} == {
        "glasshouse_forward_duration_seconds", "glasshouse_request_duration_seconds",
    }  # fmt: skip
    assert all(0 < float(value) < 60 for _, value in sums)
    assert "glasshouse_models_loaded 1.0" in text and "glasshouse_images_total 1.0" in text


def test_a_pass_that_runs_alone_has_twice_as_many_threads(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    both = threading.Barrier(2)

    class Meets(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if len(chosen) > 1:
                both.wait(60)
            logits: torch.Tensor = classifier.net(inputs)
            return logits

    service = make_service(classifier, "tiny", Limits(passes=3, threads=2, max_batch=1))
    model = service.models.find()
    meeting = replace(model, fast=replace(model.fast, net=Meets().eval()))
    service.models.put(meeting)
    ask = Caller(create_api(service))
    assert ask("POST", "/predict", content=png(0), headers=RAW).status_code == 200
    assert chosen == [4]
    # As if it were slow: in the event loop, the first would wait for the second for ever.
    model.stopwatch.seconds = 1.0
    requests = [("POST", "/predict", {"content": png(seed), "headers": RAW}) for seed in (1, 2)]
    assert [answer.status_code for answer in ask.together(requests)] == [200, 200]
    # The first of the two may begin before the other has come.
    assert len(chosen) == 3 and chosen[-1] == 2


@pytest.mark.parametrize(("is_wide", "threads"), [(False, 2), (True, 4)])
def test_a_lone_image_has_as_many_threads_as_were_faster(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, is_wide: bool, threads: int
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(Stopwatch, "is_wide_faster", lambda self: is_wide)
    service = make_service(classifier, "tiny", Limits(passes=3, threads=2, max_batch=1))
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    ask = Caller(create_api(service))
    # In the predictor's thread, then in the event loop.
    for seconds in (1.0, 0.001):
        service.models.find().stopwatch.seconds = seconds
        assert ask("POST", "/predict", content=png(0), headers=RAW).status_code == 200
    assert chosen == [threads, threads]


@dataclass(frozen=True)
class Watched:
    """A service, one caller of it, and the threads that its passes ran in."""

    service: Service
    ask: Caller
    seen: list[int]

    @property
    def stopwatch(self) -> Stopwatch:
        return self.service.models.find().stopwatch

    def post(self, data: bytes, seconds: float = 0.001) -> httpx.Response:
        """Ask as if the last lone image had taken so long, whatever else the machine does."""
        self.stopwatch.seconds = seconds
        return self.ask("POST", "/predict", content=data, headers=RAW)

    def is_here(self, data: bytes, seconds: float = 0.001) -> bool:
        """Whether an image is answered in the event loop, which is in the test's own thread."""
        passes = len(self.seen)
        assert self.post(data, seconds).status_code == 200
        assert len(self.seen) > passes
        return self.seen[-1] == threading.get_ident()


@pytest.fixture
def watched(classifier: Classifier) -> Watched:
    seen: list[int] = []

    class Noting(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.append(threading.get_ident())
            logits: torch.Tensor = classifier.net(inputs)
            return logits

    service = make_service(classifier, "tiny", Limits(threads=1))
    model = service.models.find()
    service.models.put(replace(model, fast=replace(model.fast, net=Noting().eval())))
    return Watched(service, Caller(create_api(service)), seen)


def file_of(kind: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, kind)
    return buffer.getvalue()


def test_a_lone_caller_is_answered_in_the_event_loop(watched: Watched) -> None:
    assert not watched.is_here(png(0))  # the first of a caller
    first = watched.post(png(0)).json()
    assert watched.seen[-1] == threading.get_ident()
    assert watched.is_here(file_of("JPEG", (256, 256)))
    assert not watched.is_here(png(0, (256, 256)))  # its file is too large
    many = file_of("PNG", (256, 257))
    assert len(many) < 2000 and not watched.is_here(many)  # its pixels are too many
    assert not watched.is_here(file_of("GIF", (8, 8)))  # its format may take long all the same
    assert watched.is_here(png(0), 0.0049)
    assert not watched.is_here(png(0), 0.0051)  # the network is too slow
    assert watched.post(png(0), 1.0).json() == first
    watched.stopwatch.seconds = 0.001
    assert watched.ask("POST", PATH, json=PIXELS).status_code == 200
    assert watched.seen[-1] == threading.get_ident()


def test_how_long_a_lone_image_took_is_measured_in_either_thread(watched: Watched) -> None:
    assert not watched.is_here(png(0), math.inf)
    assert 0 < watched.stopwatch.seconds < math.inf
    assert watched.is_here(png(0), 1e-9)
    assert watched.stopwatch.seconds > 1e-9


def test_a_bad_image_does_not_make_a_network_look_fast(watched: Watched) -> None:
    watched.post(png(0))
    passes = len(watched.seen)
    for seconds in (1.0, 0.001):
        bad = watched.post(b"no image", seconds)
        assert bad.status_code == 422 and "not an image" in bad.json()["detail"]
        assert len(watched.seen) == passes and watched.stopwatch.seconds >= seconds


def test_a_file_has_one_warning_for_a_lone_caller_too(watched: Watched) -> None:
    frames = io.BytesIO()
    first, second = (Image.new("RGB", (8, 8), name) for name in ("red", "blue"))
    first.save(frames, "PNG", save_all=True, append_images=[second])
    for is_here in (False, True, True):
        (found,) = watched.post(frames.getvalue()).json()["predictions"]
        assert len(found["warnings"]) == 1
        assert (watched.seen[-1] == threading.get_ident()) is is_here


def test_who_is_not_alone_is_not_answered_in_the_event_loop(watched: Watched) -> None:
    service = watched.service
    watched.post(png(0))
    assert watched.is_here(png(0))
    with service.capacity.enter() as slot:
        slot.grow(images=1)
        assert not watched.is_here(png(0))
    for busy in (service.reader, service.predictor, service.explainer, service.loader):
        busy._computing += 1  # for somebody who has left, or who waits for something else
        assert not watched.is_here(png(0))
        busy._computing -= 1
    assert watched.is_here(png(0))
    two = [("p", (f"{number}.png", png(number))) for number in range(2)]
    assert watched.ask("POST", "/predict", files=two).status_code == 200
    assert watched.seen[-1] != threading.get_ident()


def test_an_image_without_an_answer_is_a_problem_of_a_lone_caller_too(
    classifier: Classifier,
) -> None:
    service = make_service(replace(classifier, net=NoneForBlack(classifier.net)), "tiny")
    ask = Caller(create_api(service))
    for _ in range(3):
        service.models.find().stopwatch.seconds = 0.001
        answer = ask("POST", "/predict", content=black(), headers=RAW)
        assert answer.status_code == 500 and answer.json()["type"].endswith(":not-finite")


@pytest.mark.parametrize(
    ("client", "is_same"), [(("10.0.0.1", 7), True), (("10.0.0.1", 0), False), (None, False)]
)
def test_a_caller_is_a_connection(client: tuple[str, int] | None, is_same: bool) -> None:
    def asked(client: tuple[str, int] | None) -> Request:
        return Request({"type": "http", "client": client})

    callers = Callers()
    assert not callers.is_same(asked(client))
    assert callers.is_same(asked(client)) is is_same
    assert not callers.is_same(asked(("10.0.0.1", 8)))
    assert not callers.is_same(asked(client))


def test_what_is_loading_or_computed_is_gone_once_a_service_is_closed(service: Service) -> None:
    async def story() -> list[str]:
        app = create_api(service)
        async with app.router.lifespan_context(app):
            batchers = (service.reader, service.explainer, service.loader)
            await asyncio.gather(*(each.submit(lambda: None) for each in batchers))
            return sorted(t.name for each in batchers for t in each._threads if t.is_alive())

    assert asyncio.run(story()) == ["explainer-0", "loader-0", "reader-0"]
    batchers = (service.reader, service.explainer, service.loader)
    assert not any(thread.is_alive() for each in batchers for thread in each._threads)


def test_a_query_that_is_kept_cannot_be_changed() -> None:
    options: Any = PredictOptions()
    with pytest.raises(ValidationError, match="frozen"):
        options.top = 3


def test_values_and_overlays_come_only_where_they_are_asked_for(ask: Caller) -> None:
    for form, members in (
        ("values", {"values"}), ("overlay", {"overlay_png"}), ("both", {"values", "overlay_png"}),
    ):  # fmt: skip
        address = f"/explain?method=saliency&form={form}"
        found = ask("POST", address, content=png(1), headers=RAW).json()["explanations"][0]
        assert {"values", "overlay_png"} & set(found["maps"][0]) == members
        assert not {"warnings", "labels", "prediction_set", "similar"} & set(found)
    assert ask("POST", "/explain?similar=true", content=png(1), headers=RAW).status_code == 422
