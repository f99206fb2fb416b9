"""What a training in one call begins with: splits, classes, preprocessing and the stops."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.errors import DataError, GpuMemoryError, UsageError
from glasshouse.models.classifier import Preprocessing
from glasshouse.models.views import Views
from glasshouse.settings import AugmentSettings, ModelSettings, TrainSettings
from glasshouse.training.fit import (
    class_weights_of,
    fit_preprocessing,
    require_balance_fits,
    require_splits,
    train_classifier,
    train_until_done,
    untrained_classifier,
)
from glasshouse.training.loop import Step
from glasshouse.training.state import Epoch, begin
from tests.conftest import make_images
from tests.data.test_alike_splits import CHANGES
from tests.training.test_loop import CPU, settings, setup


@pytest.mark.parametrize("name", ["training", "validation"])
def test_a_split_without_images_is_refused(tiny_splits: Splits, name: str) -> None:
    require_splits(tiny_splits)
    field = {"training": "train", "validation": "validation"}[name]
    empty: dict[str, Any] = {field: take(getattr(tiny_splits, field), [])}
    with pytest.raises(DataError, match=f"the {name} split has no images: expected one or more"):
        require_splits(replace(tiny_splits, **empty))
    # The test split is not used.
    require_splits(replace(tiny_splits, test=take(tiny_splits.test, [])))
    require_splits(
        replace(tiny_splits, test=ImageSet.from_arrays(np.zeros((0, 9, 9), "u1"), np.zeros(0, int)))
    )
    with pytest.raises(UsageError, match="splits, from load_splits or Splits"):
        require_splits(tiny_splits.train)  # type: ignore[arg-type]


def several(images: ImageSet) -> ImageSet:
    return replace(images, targets=np.eye(4, dtype=bool)[images.labels])


@pytest.mark.parametrize("changed", ["validation", "test"])
@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_splits_that_do_not_belong_together_are_refused(
    tiny_splits: Splits, change: Callable[[ImageSet], ImageSet], words: str, changed: str
) -> None:
    other: dict[str, Any] = {changed: change(getattr(tiny_splits, changed))}
    splits = replace(tiny_splits, **other)
    known = untrained_classifier(LAYERS, tiny_splits, seed=0)
    for net in (LAYERS, known):
        with pytest.raises(DataError, match=words.format(changed)):
            train_classifier(net, splits)
        with pytest.raises(DataError, match=words.format(changed)):
            untrained_classifier(net, splits, seed=0)


@pytest.mark.parametrize("key", ["sampling", "class_weights"])
def test_balancing_needs_one_label_per_image(tiny_splits: Splits, key: str) -> None:
    balanced = TrainSettings.model_validate({key: "balanced"})
    require_balance_fits(balanced, tiny_splits.train)
    require_balance_fits(TrainSettings(), several(tiny_splits.train))
    words = f"train.{key} = 'balanced' needs one label per image"
    with pytest.raises(UsageError, match=words):
        require_balance_fits(balanced, several(tiny_splits.train))
    with pytest.raises(UsageError, match=words):
        class_weights_of(balanced, replace(tiny_splits, train=several(tiny_splits.train)))


def test_class_weights_are_those_of_the_training_images(tiny_splits: Splits) -> None:
    few = take(tiny_splits.train, np.flatnonzero(tiny_splits.train.labels != 0)[:30])
    few = replace(few, targets=np.repeat([1, 2, 3], [15, 10, 5]))
    splits = replace(tiny_splits, train=few)
    assert class_weights_of(TrainSettings(), splits) is None
    balanced = class_weights_of(TrainSettings(class_weights="balanced"), splits)
    assert balanced == pytest.approx((0, 30 / 45, 1, 2))


@pytest.mark.parametrize("scaling", ["rescale", "standardize", "standardize_global"])
def test_preprocessing_is_fitted_to_the_training_images(tiny_splits: Splits, scaling: str) -> None:
    train = tiny_splits.train
    train = replace(train, pixels=np.ascontiguousarray(train.pixels[:, :, :, :12]))
    found = fit_preprocessing(train, scaling, "stretch")
    assert (found.height, found.width, found.resize) == (16, 12, "stretch")
    values = train.pixels / 255
    axes = {"rescale": None, "standardize": (0, 2, 3), "standardize_global": (0, 1, 2, 3)}[scaling]
    if axes is None:
        assert (
            found == Preprocessing(16, 12, "stretch") == fit_preprocessing(train, resize="stretch")
        )
        assert fit_preprocessing(train).resize == "crop"
    else:
        assert found.mean == pytest.approx(np.broadcast_to(values.mean(axes), 3), abs=1e-6)
        assert found.std == pytest.approx(np.broadcast_to(values.std(axes), 3), abs=1e-6)


LAYERS: Any = [{"type": "flatten"}, {"type": "dense", "units": "classes"}]


@pytest.mark.parametrize("is_several", [False, True])
def test_an_untrained_classifier_knows_what_it_was_made_for(
    tiny_splits: Splits, is_several: bool
) -> None:
    splits = replace(tiny_splits, resize="letterbox")
    if is_several:
        train, validation, test = map(several, (splits.train, splits.validation, splits.test))
        splits = replace(splits, train=train, validation=validation, test=test)
    made = {
        "settings": ModelSettings(layers=LAYERS, scaling="standardize", mirror=True),
        "layers": LAYERS,
        "module": nn.Sequential(nn.Flatten(), nn.Linear(768, 4)),
    }
    for kind, net in made.items():
        first, again, other = (untrained_classifier(net, splits, seed=seed) for seed in (1, 1, 2))
        assert first.class_names == splits.class_names
        assert first.preprocessing.resize == "letterbox"
        assert first.thresholds == ((0.5,) * 4 if is_several else None)
        assert first.mirror == (kind == "settings")
        assert (first.preprocessing.mean != (0.0, 0.0, 0.0)) == (kind == "settings")
        assert (first.architecture or {})["input_shape"] == [3, 16, 16]
        weights = [next(each.net.parameters()) for each in (first, again, other)]
        assert torch.equal(weights[0], weights[1])
        assert torch.equal(weights[0], weights[2]) == (kind == "module")
        # A classifier is taken as it is.
        assert untrained_classifier(first, splits, seed=9) is first
    if is_several:
        with pytest.raises(DataError, match=r"any number of labels, but the images have one label"):
            untrained_classifier(first, tiny_splits, seed=0)


@pytest.mark.parametrize(
    "layers",
    [LAYERS, [{"type": "conv", "filters": 4}, {"type": "global_average_pool"}, LAYERS[-1]]],
)
def test_a_classifier_is_trained_further_with_images_of_its_own_size(
    tiny_splits: Splits, layers: Any
) -> None:
    known = untrained_classifier(layers, tiny_splits, seed=0)
    parts = [make_images(8, size=24, prefix=name) for name in ("train", "held", "test")]
    larger = Splits(parts[0], parts[1], parts[2])
    with pytest.raises(DataError) as refused:
        train_classifier(known, larger)
    with pytest.raises(DataError, match="the images are 24x24, but the classifier takes 16x16"):
        untrained_classifier(known, larger, seed=0)
    assert str(refused.value) == (
        "the images are 24x24, but the classifier takes 16x16: load the source with "
        "DataSettings(image_size=16), or make a new classifier for images of this size"
    )


def test_a_pretrained_network_answers_from_the_views_of_its_settings(tiny_splits: Splits) -> None:
    settings = ModelSettings.model_validate(
        {"pretrained": {"name": "cifar10-tiny"}, "mirror": True, "shifts": True}
    )
    assert untrained_classifier(settings, tiny_splits, seed=0).views == Views(True, True)


@pytest.mark.parametrize("rate", [0.1, "cosine"])
def test_a_rate_that_is_no_function_is_refused(tiny_splits: Splits, rate: Any) -> None:
    with pytest.raises(UsageError, match=rf"received {rate!r}; a constant rate .*lr={rate!r}\)"):
        train_classifier(LAYERS, tiny_splits, rate=rate)


def test_what_is_not_given_is_the_default(
    tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def noted(state: Any, prepared: Any) -> Any:
        seen.append(prepared)
        state.history.append(Epoch(1, 0, 0, 0, 0, 0, 0, 0))
        return iter(())

    monkeypatch.setattr("glasshouse.training.fit.train_until_done", noted)
    classifier, history = train_classifier(LAYERS, tiny_splits)
    (prepared,) = seen
    threads = {"threads": prepared.settings.threads}
    assert prepared.settings == TrainSettings().model_copy(update=threads)
    assert prepared.augment == AugmentSettings() and prepared.class_weights is None
    assert len(history) == 1
    assert (classifier.temperature, classifier.conformity) == (1.0, None)


def test_a_training_that_has_stalled_goes_on_no_further(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    wanted = settings(epochs=9, early_stopping=2)
    state = begin(tiny_net, wanted, CPU)
    state.history += [Epoch(n, 0, 0, loss, 0, 0, 0, 0) for n, loss in enumerate((2, 1, 3, 3), 1)]
    assert list(train_until_done(state, setup(tiny_splits, wanted))) == []
    # Without it, training goes on to its last epoch.
    plain = settings(epochs=1)
    records = list(train_until_done(begin(tiny_net, plain, CPU), setup(tiny_splits, plain)))
    assert [type(record) for record in records] == [Step] * 6 + [Epoch]


def test_a_gpu_whose_memory_is_full_is_an_error_that_says_what_to_do(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    def full(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    advice = "lower train.batch_size or data.image_size, end other programs .* --device cpu"
    for lr in (1e-3, "auto"):
        with pytest.raises(GpuMemoryError, match=f"the GPU's memory is full: {advice}"):
            train_classifier(tiny_net, tiny_splits, settings(lr=lr), loss=full)
