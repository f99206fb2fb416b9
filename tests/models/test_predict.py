from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.data.images import ImageSet, Splits
from glasshouse.models.classifier import Classifier, load_classifier, save_classifier
from glasshouse.models.predict import predict, predict_logits
from glasshouse.models.preprocessing import Preprocessing
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


def test_a_classifier_that_looks_twice_is_saved_as_one(tiny_splits: Splits, tmp_path: Path) -> None:
    settings = ModelSettings(preset="tutorial-small", mirror=True)
    classifier = untrained_classifier(settings, tiny_splits, seed=0)
    save_classifier(classifier, tmp_path)
    again = load_classifier(tmp_path)
    assert again.mirror
    first, second = (predict(c, tiny_splits.test).logits for c in (classifier, again))
    assert torch.equal(torch.from_numpy(first), torch.from_numpy(second))


def test_large_images_go_through_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasshouse.models.predict._MOST_VALUES", 3 * 3 * 8 * 8)
    sizes: list[int] = []
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    net.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    images = np.zeros((8, 3, 8, 8), dtype=np.uint8)
    assert len(predict_logits(net, Preprocessing(8, 8), images)) == 8
    assert sizes == [3, 3, 2]
