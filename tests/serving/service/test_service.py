"""How requests share the threads and networks of a service."""

import asyncio
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from glasshouse.models.classifier import Classifier
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.predict_routes import PredictOptions
from glasshouse.serving.service.service import Service, make_service
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
    requests = [("POST", "/predict", {"content": png(seed), "headers": RAW}) for seed in (1, 2)]
    assert [answer.status_code for answer in ask.together(requests)] == [200, 200]
    # The first of the two may begin before the other has come.
    assert len(chosen) == 3 and chosen[-1] == 2


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
