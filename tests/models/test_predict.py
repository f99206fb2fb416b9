from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from glasshouse.data.images import ImageSet, Splits
from glasshouse.models.classifier import Classifier, load_classifier, save_classifier
from glasshouse.models.predict import predict
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.settings import ModelSettings
from glasshouse.training.fit import untrained_classifier


def test_mirrored_predictions_are_the_mean_of_both_views(
    tiny_net: nn.Sequential, tiny_images: ImageSet
) -> None:
    plain = Classifier(tiny_net, Preprocessing(16, 16), tiny_images.class_names)
    mirrored = replace(tiny_images, pictures=np.ascontiguousarray(tiny_images.pictures[..., ::-1]))
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
