"""Several models in one service: which answers, loading, unloading, and newer weights."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import pytest
import torch
import tritonclient.http as triton

from glasshouse.data.decode import decode
from glasshouse.models.architecture import architecture_of
from glasshouse.models.classifier import (
    Classifier,
    Preprocessing,
    load_classifier,
    save_classifier,
)
from glasshouse.models.layers import build
from glasshouse.models.predict import predict_logits
from glasshouse.models.preprocessing import preprocess
from glasshouse.serving.service import model_loading
from glasshouse.serving.service.access import AccessRules
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.model_loading import _free_replaced, reload_changed
from glasshouse.serving.service.served_models import ModelSource
from glasshouse.serving.service.service import Service, service_of
from glasshouse.settings import ModelSettings
from tests.serving.service.conftest import Caller, png, running

RAW = {"content-type": "image/png"}


def pets(seed: int, size: int = 32) -> Classifier:
    """A classifier that can be saved; another one for each seed."""
    settings, shape = ModelSettings(preset="small-cnn"), (3, size, size)
    return Classifier(
        build(settings, 3, shape, seed=seed),
        Preprocessing(size, size),
        ("cat", "dog", "owl"),
        architecture=architecture_of(settings, 3, shape),
    )


def shares_of(classifier: Classifier, data: bytes) -> dict[str, float]:
    """The probabilities of an image, computed without a service."""
    pixels = preprocess(decode(data), classifier.preprocessing)[None]
    logits = predict_logits(classifier.net, classifier.preprocessing, pixels)
    found = torch.softmax(logits / classifier.temperature, 1)[0].tolist()
    return dict(zip(classifier.class_names, found, strict=True))


def answered(answer: httpx.Response) -> dict[str, float]:
    """The probabilities of an answer."""
    assert answer.status_code == 200, answer.text
    top = answer.json()["predictions"][0]["top"]
    return {each["class"]: each["probability"] for each in top}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved classifier."""
    save_classifier(pets(0), tmp_path / "pets")
    return tmp_path / "pets"


@pytest.fixture
def several(classifier: Classifier, folder: Path) -> Service:
    """A service with a fixed model, the default, and one from a folder."""
    sources = [
        ModelSource("tiny", lambda: classifier),
        ModelSource("pets", lambda: load_classifier(folder), folder),
    ]
    return service_of(sources, Limits(max_images=8))


def test_each_model_answers_for_itself_however_requests_mix(
    several: Service, classifier: Classifier
) -> None:
    ask = Caller(create_api(several))
    known = {"tiny": classifier, "pets": pets(0)}
    wanted = ["tiny", "pets", "pets", "tiny", "pets", "tiny"] * 4
    requests = [
        ("POST", f"/predict?model={name}", {"content": png(i), "headers": RAW})
        for i, name in enumerate(wanted)
    ]
    for i, (name, answer) in enumerate(zip(wanted, ask.together(requests), strict=True)):
        assert answer.json()["model"] == name
        assert answered(answer) == pytest.approx(shares_of(known[name], png(i)), abs=2e-6)
    plain = ask("POST", "/predict", content=png(0), headers=RAW)
    assert plain.json()["model"] == "tiny"
    assert ask("POST", "/predict?model=other", content=png(0), headers=RAW).status_code == 404
    explained = ask("POST", "/explain?model=pets", content=png(0), headers=RAW).json()
    assert explained["model"] == "pets"
    assert explained["explanations"][0]["predicted"]["class"] in pets(0).class_names
    assert ask("GET", "/healthz").json()["models"] == ["tiny", "pets"]
    for name, size in (("tiny", 16), ("pets", 32)):
        about = ask("GET", f"/v2/models/{name}").json()
        assert about["inputs"][1]["shape"] == [-1, 3, size, size]


def test_the_front_page_shows_one_model_and_links_to_the_others(several: Service) -> None:
    ask = Caller(create_api(several))
    assert 'href="?model=pets"' in ask("GET", "/").text and "owl" not in ask("GET", "/").text
    page = ask("GET", "/?model=pets")
    assert "owl" in page.text and 'data-model="pets"' in page.text
    assert ask("GET", "/?model=other").status_code == 404


def test_the_client_lists_unloads_and_loads_models(several: Service) -> None:
    with running(several) as server:
        client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")

        def states() -> dict[str, str]:
            return {each["name"]: each["state"] for each in client.get_model_repository_index()}

        assert states() == {"tiny": "READY", "pets": "READY"}
        client.unload_model("pets")
        assert states() == {"tiny": "READY", "pets": "UNAVAILABLE"}
        assert not client.is_model_ready("pets") and client.is_model_ready("tiny")
        with pytest.raises(triton.InferenceServerException, match="'pets' is not loaded"):
            client.get_model_metadata("pets")
        client.load_model("pets")
        assert states() == {"tiny": "READY", "pets": "READY"} and client.is_model_ready("pets")
        with pytest.raises(triton.InferenceServerException, match="Unknown model 'other'"):
            client.load_model("other")
        with pytest.raises(triton.InferenceServerException, match="expected no parameters"):
            client.load_model("pets", config="{}")
        client.close()


def test_the_index_can_leave_out_what_is_not_loaded(several: Service) -> None:
    ask = Caller(create_api(several))
    assert ask("POST", "/v2/repository/models/tiny/unload").status_code == 200
    for body, names in ((b"", ["tiny", "pets"]), (b'{"ready": true}', ["pets"])):
        index = ask("POST", "/v2/repository/index", content=body)
        assert [each["name"] for each in index.json()] == names
    assert ask("POST", "/v2/repository/index", content=b"[").status_code == 422
    # No other model answers in place of the default one.
    answer = ask("POST", "/predict", content=png(0), headers=RAW)
    assert answer.status_code == 404 and "'tiny' is not loaded" in answer.json()["detail"]


def test_pages_of_other_sites_cannot_load_or_unload(several: Service) -> None:
    own = "https://ops.example"
    for rules, origin, status in (
        (AccessRules(), "https://evil.example", 403),
        (AccessRules(), "null", 403),
        (AccessRules(origins=frozenset({"*"})), "https://evil.example", 403),
        (AccessRules(origins=frozenset({own})), own, 200),
        (AccessRules(may_control=False), None, 403),
        (AccessRules(), None, 200),
    ):
        ask = Caller(create_api(several, rules))
        headers = {} if origin is None else {"origin": origin}
        for verb in ("unload", "load"):
            answer = ask("POST", f"/v2/repository/models/pets/{verb}", headers=headers)
            assert answer.status_code == status, answer.text
            assert status == 200 or answer.json()["error"]


def test_a_model_that_cannot_be_loaded_leaves_what_is_loaded(
    several: Service, folder: Path
) -> None:
    ask = Caller(create_api(several))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1] + b"x")
    answer = ask("POST", "/v2/repository/models/pets/load")
    assert answer.status_code == 422 and "SHA-256" in answer.json()["error"]
    index = {each["name"]: each for each in ask("POST", "/v2/repository/index").json()}
    assert index["pets"]["state"] == "READY" and "SHA-256" in index["pets"]["reason"]
    content = {"content": png(0), "headers": RAW}
    assert answered(ask("POST", "/predict?model=pets", **content)) == pytest.approx(
        shares_of(pets(0), png(0)), abs=2e-6
    )
    (folder / "model.safetensors").write_bytes(whole)
    assert ask("POST", "/v2/repository/models/pets/load").status_code == 200
    assert ask("POST", "/v2/repository/index").json()[1]["reason"] == ""


def test_newer_weights_are_loaded_once_they_are_complete(several: Service, folder: Path) -> None:
    before = several.models.find("pets")
    asyncio.run(reload_changed(several))
    assert several.models.find("pets") is before

    # Weights without their description are a model that is still being written.
    save_classifier(pets(1), folder.parent / "next")
    (folder / "model.safetensors").write_bytes(
        (folder.parent / "next" / "model.safetensors").read_bytes()
    )
    asyncio.run(reload_changed(several))
    assert several.models.find("pets") is before

    (folder / "model.json").unlink()
    asyncio.run(reload_changed(several))
    assert several.models.find("pets") is before

    (folder / "model.json").write_bytes((folder.parent / "next" / "model.json").read_bytes())
    asyncio.run(reload_changed(several))
    ask = Caller(create_api(several))
    answer = ask("POST", "/predict?model=pets", content=png(0), headers=RAW)
    assert answered(answer) == pytest.approx(shares_of(pets(1), png(0)), abs=2e-6)
    assert 'glasshouse_model_loads_total{model="pets"} 1.0' in ask("GET", "/metrics").text


def test_of_a_model_that_was_replaced_nothing_stays_in_memory(
    several: Service, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_loading, "_free_replaced", _free_replaced)
    returned = Mock()
    monkeypatch.setattr(model_loading, "return_freed_memory", returned)
    model = several.models.find("pets")
    nets = [weakref.ref(each.net) for each in (model.classifier, model.fast)]
    # As in a service that began with it, and long before the collector comes by.
    gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(10**6)
    try:
        del model
        save_classifier(pets(1), folder)
        asyncio.run(reload_changed(several))
    finally:
        gc.set_threshold(*thresholds)
    assert [each() for each in nets] == [None, None]
    returned.assert_called_once_with()
    assert gc.get_freeze_count() > 10_000


def test_newer_weights_that_are_copied_after_their_description_are_loaded(
    several: Service, folder: Path
) -> None:
    save_classifier(pets(1), folder.parent / "next")
    for name in ("model.json", "model.safetensors"):  # as cp does
        (folder / name).write_bytes((folder.parent / "next" / name).read_bytes())
        asyncio.run(reload_changed(several))
    ask = Caller(create_api(several))
    answer = ask("POST", "/predict?model=pets", content=png(0), headers=RAW)
    assert answered(answer) == pytest.approx(shares_of(pets(1), png(0)), abs=2e-6)


def test_a_model_that_fails_unexpectedly_does_not_stop_updates_of_others(
    several: Service, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Classifier:
        raise RuntimeError("unexpected")

    save_classifier(pets(3), tmp_path / "broken")
    several.models.sources["tiny"] = ModelSource("tiny", fail, tmp_path / "broken")
    assert several.models.names == ["tiny", "pets"]
    save_classifier(pets(1), folder)
    before = several.models.find("pets")
    for _ in range(2):
        asyncio.run(reload_changed(several))
    assert several.models.find("pets") is not before
    assert "log" in several.models.failure("tiny")
    assert caplog.text.count("model tiny") == 1


def test_broken_newer_weights_are_tried_once_and_change_nothing(
    several: Service, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = several.models.find("pets")
    (folder / "model.json").write_text("{}")
    for _ in range(3):
        asyncio.run(reload_changed(several))
    assert several.models.find("pets") is before
    assert caplog.text.count("cannot be loaded") == 1
    save_classifier(pets(2), folder)
    asyncio.run(reload_changed(several))
    assert several.models.find("pets") is not before and several.models.failure("pets") == ""


def test_an_unloaded_model_is_not_loaded_by_newer_weights(several: Service, folder: Path) -> None:
    several.models.remove("pets")
    save_classifier(pets(1), folder)
    asyncio.run(reload_changed(several))
    assert [each.name for each in several.models.loaded()] == ["tiny"]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for newer weights often."""
    monkeypatch.setattr(model_loading, "_POLL_SECONDS", 0.01)


def test_no_request_is_lost_or_mixed_while_weights_change(
    several: Service, folder: Path, often: None
) -> None:
    """Each answer is that of one of the weights, and the last one that of the last weights."""
    data = png(0)
    known = [shares_of(pets(seed), data) for seed in range(5)]
    answers: list[httpx.Response] = []
    is_over = threading.Event()

    def call(url: str) -> None:
        with httpx.Client(timeout=120) as client:
            while not is_over.is_set():
                answers.append(client.post(f"{url}/predict?model=pets", content=data, headers=RAW))

    def is_served(shares: dict[str, float]) -> Callable[[], bool]:
        return lambda: bool(answers) and answered(answers[-1]) == pytest.approx(shares, abs=2e-6)

    with running(several) as server:
        callers = [threading.Thread(target=call, args=(server.url,)) for _ in range(4)]
        for caller in callers:
            caller.start()
        for seed in range(1, 5):
            save_classifier(pets(seed), folder)
            _wait_until(is_served(known[seed]))
        is_over.set()
        for caller in callers:
            caller.join(120)
    for answer in answers:
        found = answered(answer)
        assert any(found == pytest.approx(shares, abs=2e-6) for shares in known)


def _wait_until(happens: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_models_of_one_size_with_other_weights_never_share_a_batch(
    folder: Path, tmp_path: Path
) -> None:
    made = {f"m{seed}": pets(seed) for seed in range(3)}
    sources = [ModelSource(name, partial(made.__getitem__, name)) for name in made]
    service = service_of(sources, Limits(max_batch=4, passes=2))
    ask = Caller(create_api(service))
    names = [f"m{i % 3}" for i in np.random.default_rng(0).integers(0, 3, 60)]
    requests = [
        ("POST", f"/predict?model={name}", {"content": png(1), "headers": RAW}) for name in names
    ]
    expected = {name: shares_of(c, png(1)) for name, c in made.items()}
    for name, answer in zip(names, ask.together(requests), strict=True):
        assert answered(answer) == pytest.approx(expected[name], abs=2e-6)


def test_folders_of_models_are_looked_at_every_two_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    looked: list[object] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    async def look(service: object) -> None:
        looked.append(service)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(model_loading, "reload_changed", look)
    service: Any = object()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(model_loading.keep_up_to_date(service))
    assert slept == [2, 2, 2] and looked == [service, service]


@pytest.mark.parametrize("is_unloaded", [False, True])
def test_newer_weights_of_a_model_that_was_unloaded_while_they_were_read_are_left(
    monkeypatch: pytest.MonkeyPatch, is_unloaded: bool
) -> None:
    loaded: list[Any] = []
    counted: list[str] = []
    model = SimpleNamespace(name="a")

    async def submit(work: Callable[[], Any]) -> Any:
        return work()

    source = SimpleNamespace(name="a", stamp=lambda: 2)
    counter = SimpleNamespace(inc=lambda: counted.append("a"))
    service: Any = SimpleNamespace(
        loader=SimpleNamespace(submit=submit, load=0),
        limits=SimpleNamespace(max_batch=4),
        metrics=SimpleNamespace(model_loads=SimpleNamespace(labels=lambda _: counter)),
        models=SimpleNamespace(
            sources={"a": source}, source={"a": source}.get, put=loaded.append,
            is_outdated=lambda name, stamp: stamp == 2,
            loaded=lambda: [] if is_unloaded else [model],
        ),
    )  # fmt: skip
    monkeypatch.setattr(model_loading, "load_served", lambda source, most: model)
    asyncio.run(reload_changed(service))
    assert (loaded, counted) == (([], []) if is_unloaded else ([model], ["a"]))
    # Whoever asks for it by name gets it.
    asyncio.run(model_loading.load_by_name(service, "a"))
    assert loaded[-1] is model and counted[-1] == "a"
