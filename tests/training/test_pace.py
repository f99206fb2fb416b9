from torch import nn

from glasshouse.data.images import Splits
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.training.pace import _some, measure_pace
from tests.training.test_loop import settings, setup
from tests.untouched.test_training_untouched import snapshot


def test_a_wider_network_is_slower_and_nothing_is_changed(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    wide = nn.Sequential(nn.Conv2d(3, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 64, 3),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4))  # fmt: skip
    paces = []
    for net in (tiny_net, wide):
        classifier = Classifier(net, Preprocessing(16, 16), tiny_splits.class_names)
        before = snapshot(net)
        what = setup(tiny_splits, settings(lr="auto", epochs=1), rotation_range=9)
        paces.append(measure_pace(classifier, what, width=2.0, seconds=0.1))
        assert snapshot(net) == before
    narrow, slow = paces
    assert narrow.width == 2.0
    assert narrow.training > 2 * slow.training
    assert narrow.validating > slow.validating
    assert narrow.answering > slow.answering
    assert narrow.answering > narrow.training
    assert 0 < narrow.saving < 1


def test_some_images_are_evenly_spaced_and_never_more_than_there_are(tiny_splits: Splits) -> None:
    images = tiny_splits.train
    assert len(images) == 96
    assert _some(images, 4).ids.tolist() == images.ids[[0, 31, 63, 95]].tolist()
    assert _some(images, 96) is images and _some(images, 1000) is images
