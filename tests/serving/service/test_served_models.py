"""Loading models, and finding them by name."""

import asyncio
import gc
from typing import Any

import pytest

from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import logits_of_few, predict_logits
from glasshouse.serving.service import model_loading, served_models
from glasshouse.serving.service.problems import Problem
from glasshouse.serving.service.served_models import (
    Models,
    ModelSource,
    inference_copy,
    load_served,
    require_comparison,
)
from glasshouse.serving.service.service import service_of


def test_both_sizes_of_a_batch_are_run_before_the_first_request(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[tuple[int, ...]] = []
    usual = logits_of_few

    def note(net: Any, wanted: Any, images: Any, **more: Any) -> Any:
        run.append(images.shape)
        return usual(net, wanted, images, **more)

    monkeypatch.setattr(served_models, "logits_of_few", note)
    compared: list[Classifier] = []
    comparison: Any = object()

    def compare(given: Classifier) -> Any:
        compared.append(given)
        return comparison

    found = load_served(ModelSource("a", lambda: classifier, compare=compare), 7)
    assert sorted(run) == [(1, 3, 16, 16), (7, 3, 16, 16)]
    assert found.classifier is classifier and compared == [classifier]
    assert found.comparison is comparison and found.stamp is None
    assert require_comparison(found) is comparison
    plain = load_served(ModelSource("a", lambda: classifier), 1)
    assert plain.comparison is None and len(run) == 3
    with pytest.raises(Problem) as raised:
        require_comparison(plain)
    assert raised.value.status == 422


def test_a_copy_that_differs_by_more_than_rounding_is_not_used(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = predict_logits
    for factor, is_used in ((1.0, True), (1.00005, True), (1.0002, False), (0.5, False)):
        answers = iter((1.0, factor))

        def scaled(*given: Any, answers: Any = answers) -> Any:
            return usual(*given) * next(answers)

        monkeypatch.setattr(served_models, "predict_logits", scaled)
        found = inference_copy(classifier).net
        assert (repr(found) != repr(classifier.net)) == is_used
        assert found is not classifier.net


def test_models_are_found_by_name() -> None:
    made: Any = [ModelSource(name, lambda: made) for name in ("a", "b")]
    models = Models(made)
    assert (models.names, models.default_name, models.loaded()) == (["a", "b"], "a", [])
    for name, status, words in (
        (None, 404, "'a' is not loaded"), ("b", 404, "'b' is not loaded"),
        ("c", 404, "Unknown model 'c': this service has 'a', 'b'."),
    ):  # fmt: skip
        with pytest.raises(Problem) as raised:
            models.find(name)
        assert raised.value.status == status and words in raised.value.detail
    assert models.source("b") is made[1]
    models.note_failure("b", None, "why")
    assert (models.failure("a"), models.failure("b")) == ("", "why")


@pytest.mark.parametrize("is_frozen", [False, True])
def test_what_was_out_of_sight_of_the_collector_is_so_again(
    is_frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda name=name: called.append(name))
    monkeypatch.setattr(gc, "get_freeze_count", lambda: int(is_frozen))
    # Not by its name in the module, which the tests of the service replace.
    free: Any = FREE
    free()
    assert called == (["unfreeze", "collect", "freeze"] if is_frozen else ["collect"])


FREE = model_loading._free_replaced


def test_what_happened_to_newer_weights_is_logged(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = service_of([ModelSource("a", lambda: classifier)])
    monkeypatch.setattr(service.models, "is_outdated", lambda name, stamp: True)
    asyncio.run(model_loading.reload_changed(service))
    assert caplog.messages == ["model a: newer weights are served now"]

    def refuse() -> Classifier:
        raise OSError("no disk")

    service.models.sources["a"] = ModelSource("a", refuse)
    asyncio.run(model_loading.reload_changed(service))
    assert caplog.messages[1:] == ["model a: newer weights cannot be loaded: no disk"]
