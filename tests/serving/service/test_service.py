"""How requests share the threads and networks of a service."""

import asyncio
import io
import math
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

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


@pytest.fixture
def threads(classifier: Classifier) -> tuple[Service, list[int]]:
    """A service, and the threads that its passes run in."""
    seen: list[int] = []

    class Noting(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.append(threading.get_ident())
            logits: torch.Tensor = classifier.net(inputs)
            return logits

    service = make_service(classifier, "tiny", Limits(threads=1))
    model = service.models.find()
    service.models.put(replace(model, fast=replace(model.fast, net=Noting().eval())))
    return service, seen


def test_a_lone_caller_is_answered_in_the_event_loop(threads: tuple[Service, list[int]]) -> None:
    service, seen = threads
    stopwatch, here = service.models.find().stopwatch, threading.get_ident()
    ask = Caller(create_api(service))

    def answer(data: bytes = png(0)) -> Any:
        # As on a machine without other work.
        stopwatch.seconds = min(stopwatch.seconds, 0.001)
        found = ask("POST", "/predict", content=data, headers=RAW)
        assert found.status_code == 200
        return found.json()

    first = answer()
    assert seen[-1] != here  # the first of a caller
    assert answer() == first and seen[-1] == here
    assert 0 < stopwatch.seconds != 0.001
    answer(png(0, (256, 256)))
    assert seen[-1] != here  # its file is too large
    flat = io.BytesIO()
    Image.new("RGB", (256, 257)).save(flat, "PNG")
    answer(flat.getvalue())
    assert len(flat.getvalue()) < 2000 and seen[-1] != here  # its pixels are too many
    answer()
    assert seen[-1] == here
    stopwatch.seconds = 0.006
    ask("POST", "/predict", content=png(0), headers=RAW)
    assert seen[-1] != here  # the network is too slow
    answer()
    assert seen[-1] == here
    gif = io.BytesIO()
    Image.new("RGB", (8, 8)).save(gif, "GIF")
    answer(gif.getvalue())
    assert seen[-1] != here  # its format says little of the time that it takes
    tensor = ask("POST", PATH, json=PIXELS)
    assert tensor.status_code == 200 and seen[-1] == here


def test_how_long_a_lone_image_took_is_measured_in_either_thread(
    threads: tuple[Service, list[int]],
) -> None:
    service, seen = threads
    stopwatch, here = service.models.find().stopwatch, threading.get_ident()
    ask = Caller(create_api(service))
    ask("POST", "/predict", content=png(0), headers=RAW)
    assert 0 < stopwatch.seconds < math.inf and seen[-1] != here
    stopwatch.seconds = 1e-9
    ask("POST", "/predict", content=png(0), headers=RAW)
    assert stopwatch.seconds > 1e-9 and seen[-1] == here


def test_a_bad_image_does_not_make_a_network_look_fast(threads: tuple[Service, list[int]]) -> None:
    service, seen = threads
    stopwatch, here = service.models.find().stopwatch, threading.get_ident()
    ask = Caller(create_api(service))
    for seconds, place in ((1.0, False), (0.001, True)):
        stopwatch.seconds = seconds
        passes = len(seen)
        bad = ask("POST", "/predict", content=b"no image", headers=RAW)
        assert bad.status_code == 422 and "not an image" in bad.json()["detail"]
        assert len(seen) == passes and stopwatch.seconds >= seconds
        stopwatch.seconds = min(stopwatch.seconds, seconds)  # the machine may be busy
        ask("POST", "/predict", content=png(0), headers=RAW)
        assert (seen[-1] == here) is place


def test_a_file_has_one_warning_for_a_lone_caller_too(threads: tuple[Service, list[int]]) -> None:
    service, seen = threads
    ask, frames = Caller(create_api(service)), io.BytesIO()
    first, second = (Image.new("RGB", (8, 8), name) for name in ("red", "blue"))
    first.save(frames, "PNG", save_all=True, append_images=[second])
    for _ in range(3):
        service.models.find().stopwatch.seconds = 0.001
        found = ask("POST", "/predict", content=frames.getvalue(), headers=RAW).json()
        assert len(found["predictions"][0]["warnings"]) == 1
    assert seen[-1] == threading.get_ident()


def test_who_is_not_alone_is_not_answered_in_the_event_loop(
    threads: tuple[Service, list[int]],
) -> None:
    service, seen = threads
    stopwatch, here = service.models.find().stopwatch, threading.get_ident()
    ask = Caller(create_api(service))
    for _ in range(2):
        stopwatch.seconds = 0.001
        ask("POST", "/predict", content=png(0), headers=RAW)
    assert seen[-1] == here
    stopwatch.seconds = 0.001
    with service.capacity.enter() as slot:
        slot.grow(images=1)
        ask("POST", "/predict", content=png(0), headers=RAW)
    assert seen[-1] != here
    for busy in (service.reader, service.predictor, service.explainer, service.loader):
        stopwatch.seconds = 0.001
        busy._computing += 1  # for somebody who has left, or who waits for something else
        ask("POST", "/predict", content=png(0), headers=RAW)
        assert seen[-1] != here
        busy._computing -= 1
    stopwatch.seconds = 0.001
    ask("POST", "/predict", content=png(0), headers=RAW)
    assert seen[-1] == here
    two = [("p", (f"{number}.png", png(number))) for number in range(2)]
    ask("POST", "/predict", files=two)
    assert seen[-1] != here


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
