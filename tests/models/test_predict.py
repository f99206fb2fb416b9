from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import torch
from numpy.typing import NDArray
from torch import nn

from glasshouse.data.images import ImageSet, Splits
from glasshouse.errors import NotFinite, StorageError
from glasshouse.models.classifier import Classifier, load_classifier, save_classifier
from glasshouse.models.outputs import Predictions
from glasshouse.models.predict import (
    device_of,
    load_predictions,
    log_softmax,
    logits_of,
    most_probable,
    predict,
    predict_logits,
    save_predictions,
    softmax,
)
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.models.views import Views
from glasshouse.settings import ModelSettings
from glasshouse.training.fit import untrained_classifier


def test_mirrored_predictions_are_the_mean_of_both_views(
    tiny_net: nn.Sequential, tiny_images: ImageSet
) -> None:
    plain = Classifier(tiny_net, Preprocessing(16, 16), tiny_images.class_names)
    mirrored = replace(tiny_images, pixels=np.ascontiguousarray(tiny_images.pixels[..., ::-1]))
    both = predict(replace(plain, mirror=True), tiny_images).logits
    views = [predict(plain, images).logits for images in (tiny_images, mirrored)]
    np.testing.assert_allclose(both, (views[0] + views[1]) / 2, rtol=1e-6)
    assert not np.allclose(both, views[0], rtol=1e-3)


def test_shifted_predictions_are_the_mean_of_images_moved_by_a_pixel(
    tiny_net: nn.Sequential, tiny_images: ImageSet
) -> None:
    plain = Classifier(tiny_net, Preprocessing(16, 16), tiny_images.class_names)

    def moved(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """As they are, up left, and down right; what comes in is the row next to the edge."""
        padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
        return [pixels, padded[..., 2:, 2:], padded[..., :-2, :-2]]

    unmoved = tiny_images.pixels, tiny_images.pixels[..., ::-1]
    for mirror, views in ((False, unmoved[:1]), (True, unmoved)):
        every = [np.ascontiguousarray(each) for view in views for each in moved(view)]
        answers = [logits_of(plain, each) for each in every]
        found = logits_of(replace(plain, mirror=mirror, shifts=True), tiny_images.pixels)
        np.testing.assert_allclose(found, np.mean(answers, axis=0), rtol=1e-5, atol=1e-6)
        assert len(every) == Views(mirror, shifts=True).count


def test_mirrored_prediction_is_saved_with_the_classifier(
    tiny_splits: Splits, tmp_path: Path
) -> None:
    settings = ModelSettings(preset="small-cnn", mirror=True, shifts=True)
    classifier = untrained_classifier(settings, tiny_splits, seed=0)
    save_classifier(classifier, tmp_path)
    again = load_classifier(tmp_path)
    assert again.views == Views(mirror=True, shifts=True)
    first, second = (predict(c, tiny_splits.test).logits for c in (classifier, again))
    assert torch.equal(torch.from_numpy(first), torch.from_numpy(second))


def test_large_images_are_processed_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasshouse.models.forward._MOST_VALUES", 3 * 3 * 8 * 8)
    sizes: list[int] = []
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    net.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    images = np.zeros((8, 3, 8, 8), dtype=np.uint8)
    assert len(predict_logits(net, Preprocessing(8, 8), images)) == 8
    assert sizes == [3, 3, 2]


def test_logits_may_be_changed_and_differentiated_like_any_tensor(
    tiny_net: nn.Sequential, tiny_images: ImageSet
) -> None:
    logits = predict_logits(tiny_net, Preprocessing(16, 16), tiny_images.pixels)
    weights = torch.ones(4, requires_grad=True)
    (logits.clamp_(0) * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None and torch.equal(weights.grad, logits.sum(0))


def test_images_alone_give_the_same_bytes_as_a_labelled_set(
    tiny_net: nn.Sequential, tiny_images: ImageSet
) -> None:
    classifier = Classifier(
        tiny_net, Preprocessing(16, 16), tiny_images.class_names, temperature=2.0, mirror=True
    )
    alone = logits_of(classifier, tiny_images.pixels)
    assert alone.dtype == np.float32 and alone.shape == (len(tiny_images), 4)
    assert alone.tobytes() == predict(classifier, tiny_images).logits.tobytes()


def test_softmax_agrees_with_scipy_and_survives_extreme_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32) * 20
    wide = logits.astype(np.float64)
    assert softmax(logits).dtype == np.float64
    np.testing.assert_allclose(softmax(logits), scipy.special.softmax(wide, axis=-1), rtol=1e-13)
    np.testing.assert_allclose(
        log_softmax(logits), scipy.special.log_softmax(wide, axis=-1), rtol=1e-12, atol=1e-13
    )
    extreme = np.array([1e4, -1e4])
    assert softmax(extreme).tolist() == [1.0, 0.0]
    assert log_softmax(extreme).tolist() == [0.0, -2e4]


def test_the_device_is_that_of_the_parameters() -> None:
    assert device_of(nn.Linear(2, 2, device="meta")) == torch.device("meta")
    assert device_of(nn.Flatten()) == torch.device("cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_no_answer(
    tiny_net: nn.Sequential, tiny_images: ImageSet, value: float
) -> None:
    class Broken(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = tiny_net(inputs)
            brightest = inputs.mean((1, 2, 3)).argmax()
            return torch.where(torch.arange(len(inputs)) == brightest, value, logits.T).T

    classifier = Classifier(Broken(), Preprocessing(16, 16), tiny_images.class_names)
    brightest = tiny_images.pixels.mean((1, 2, 3)).argmax()
    with pytest.raises(NotFinite, match=f"no answer for {tiny_images.ids[brightest]}: its logits"):
        predict(classifier, tiny_images)
    with pytest.raises(NotFinite, match=f"no answer for image {brightest}: its logits are NaN"):
        logits_of(classifier, tiny_images.pixels)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("1.running_var", -1.0, "negative"), ("1.running_mean", float("nan"), "NaN")],
)
def test_the_damaged_tensor_of_a_network_without_answers_is_named(
    tiny_images: ImageSet, key: str, value: float, words: str
) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, len(tiny_images.class_names)),
    )  # fmt: skip
    net.state_dict()[key][2] = value
    classifier = Classifier(net, Preprocessing(16, 16), tiny_images.class_names)
    said = rf"In the network, {key} has 1 of 4 values that are {words}: load weights"
    with pytest.raises(NotFinite, match=said):
        predict(classifier, tiny_images)


def test_stored_logits_that_are_not_finite_are_damaged(
    tiny_net: nn.Sequential, tiny_images: ImageSet, tmp_path: Path
) -> None:
    classifier = Classifier(tiny_net, Preprocessing(16, 16), tiny_images.class_names)
    found = predict(classifier, tiny_images)
    found.logits[3, 1] = np.nan
    save_predictions(found, tmp_path / "p.safetensors")
    with pytest.raises(StorageError, match="some logits are NaN or infinite"):
        load_predictions(tmp_path / "p.safetensors")


@pytest.mark.parametrize(("thresholds", "kind"), [(None, "classes"), ((0.5, 0.5), "labels")])
def test_predictions_say_what_they_are_about(
    thresholds: tuple[float, ...] | None, kind: str
) -> None:
    one_each = np.array([0, 1], dtype=np.int64)
    targets = one_each if thresholds is None else np.eye(2, dtype=np.bool_)
    logits, ids = np.zeros((2, 2), dtype=np.float32), np.array(["a.png", "b.png"])
    found = Predictions(logits, targets, ids, ("ant", "bee"), thresholds=thresholds)
    head, *rows = repr(found).splitlines()
    assert head == f"Predictions(2 images, 2 {kind})"
    assert [row.split(":")[0] for row in rows] == ["  a.png", "  b.png"]


def test_of_classes_that_are_as_probable_the_first_is_named_first_as_argmax_does() -> None:
    shares = np.array([0.1, 0.3, 0.3, 0.3])
    found = most_probable(shares, ("a", "b", "c", "d"), 3)
    assert [each["class"] for each in found] == ["b", "c", "d"]
    assert found[0]["class"] == "abcd"[int(shares.argmax())]
