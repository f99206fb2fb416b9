from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from glasshouse.data.images import Splits
from glasshouse.errors import WrongInputSize
from glasshouse.recipe import load_recipe
from glasshouse.settings import PretrainedSettings, Recipe
from glasshouse.training.adapting import adapt
from glasshouse.workflow.train import input_probe as probing
from glasshouse.workflow.train.input_probe import probe
from glasshouse.workflow.train.pretrained_setup import adapted_classifier, pretrained_of

NET = (
    "model.pretrained.name=resnet10t",
    "model.pretrained.weights=none",
    "train.precision=fp32",
    "train.device=cpu",
)


def recipe(*overrides: str) -> Recipe:
    return load_recipe("transfer-features", [*NET, *overrides])


def measured(monkeypatch: pytest.MonkeyPatch, accuracies: Mapping[str, float]) -> list[str]:
    """Let the probe find these accuracies; returns the looks that it takes, as it takes them."""
    asked: list[str] = []

    def accuracy(classifier: object, recipe: object, parts: object, telling: Any) -> float:
        asked.append(telling[1])
        return accuracies[telling[1]]

    monkeypatch.setattr(probing, "_accuracy", accuracy)
    return asked


def test_the_smallest_size_within_the_error_is_chosen(
    tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A standard error of 32 images is five points here.
    found = {
        "16": 0.5,
        "16 with a finer stem": 0.84,
        "64": 0.86,
        "96": 0.905,
        "128": 0.905,
        "160": 0.91,
    }
    asked = measured(monkeypatch, found)
    settings, why = probe(recipe(), pretrained_of(recipe()), tiny_splits)
    assert (settings.input_size, settings.stem) == (64, "kept")
    assert asked == ["16", "16 with a finer stem", "64", "96", "128", "160"]
    assert "64: 86.0 %" in why and "The input size 64 was chosen" in why


def test_no_image_is_used_both_to_train_and_to_judge(
    tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glasshouse.data.sources import _concatenate

    joined = _concatenate(tiny_splits.train, tiny_splits.validation)
    seen: list[set[str]] = []

    def accuracy(classifier: object, recipe: object, parts: Any, telling: object) -> float:
        assert not set(parts[0].ids) & set(parts[1].ids)
        seen.append(set(parts[0].ids))
        return 0.5

    monkeypatch.setattr(probing, "_accuracy", accuracy)
    probe(recipe(), pretrained_of(recipe()), replace(tiny_splits, train=joined))
    assert seen and all(ids == set(tiny_splits.train.ids) for ids in seen)


def test_a_finer_stem_is_chosen_where_it_is_cheaper(
    tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"16": 0.5, "16 with a finer stem": 0.9, "64": 0.905, "96": 0.9}
    asked = measured(monkeypatch, found)
    settings, why = probe(recipe(), pretrained_of(recipe()), tiny_splits)
    assert (settings.input_size, settings.stem) == (16, "fine")
    # Two costlier looks that gained nothing end the probe.
    assert asked == list(found)
    classifier = adapt(settings, tiny_splits.train).classifier
    assert (classifier.architecture or {})["stem"] == "fine"
    assert "16 with a finer stem was chosen" in why


def test_the_probe_measures_and_is_described_in_the_notes(tiny_splits: Splits) -> None:
    # The net's own size is 176; the images of 16 pixels are told apart at any.
    adapted = adapted_classifier(recipe(), tiny_splits)
    notes = " ".join(adapted.notes)
    assert "was chosen by a probe with 96 training and 32 validation images" in notes
    assert "its weights were trained at 176x176" in notes


def test_a_finer_stem_by_hand_needs_no_probe(
    tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = measured(monkeypatch, {})
    adapted = adapted_classifier(recipe("model.pretrained.stem=fine"), tiny_splits)
    assert asked == []
    notes = " ".join(adapted.notes)
    assert "conv1.0 has stride 1 and maxpool is removed" in notes
    assert "at their own size of 16x16" in notes
    assert "input_size" not in (adapted.classifier.architecture or {})


def test_sizes_that_a_network_cannot_take_are_skipped(
    tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = recipe("model.pretrained.name=levit_128s")
    asked = measured(monkeypatch, {"224": 0.7})
    settings, _ = probe(given, pretrained_of(given), tiny_splits)
    assert asked == ["224"]
    assert settings.input_size == 224


def test_a_size_set_by_hand_that_a_network_cannot_take_is_refused(tiny_splits: Splits) -> None:
    settings = PretrainedSettings(name="levit_128s", weights="none", input_size=64)
    with pytest.raises(WrongInputSize, match=r"cannot take images of 64x64.*= 224"):
        adapt(settings, tiny_splits.train)
