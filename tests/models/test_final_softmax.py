from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.data.images import Splits
from glasshouse.errors import GlasshouseWarning
from glasshouse.models.architecture import architecture_of
from glasshouse.models.classifier import Classifier, Preprocessing, load_classifier, save_classifier
from glasshouse.models.final_softmax import logit_net
from glasshouse.models.layers import build
from glasshouse.models.predict import predict, probabilities
from glasshouse.settings import ModelSettings, TrainSettings
from glasshouse.training.fit import train_classifier
from glasshouse.training.state import begin

DENSE = {"type": "dense", "units": "classes"}
SOFTMAX = {"type": "activation", "activation": "softmax"}
ENDS: list[list[dict[str, Any]]] = [
    [{**DENSE, "activation": "softmax"}],
    [DENSE, SOFTMAX],
    [DENSE, {"type": "torch", "name": "Softmax", "arguments": {"dim": 1}}],
    [DENSE, {"type": "torch", "name": "LogSoftmax", "arguments": {"dim": 1}}],
]


def network(*end: dict[str, Any]) -> nn.Sequential:
    settings = ModelSettings.model_validate({"layers": [{"type": "flatten"}, *end]})
    return build(settings, 3, (3, 8, 8), seed=0)


def with_softmax(net: nn.Module, dim: int | None = 1) -> nn.Sequential:
    return nn.Sequential(*net.children(), nn.Softmax(dim=dim))


@pytest.mark.parametrize("end", ENDS)
def test_a_final_softmax_in_a_recipe_leaves_the_network_as_without(
    end: list[dict[str, Any]],
) -> None:
    plain, given = network(DENSE), network(*end)
    assert repr(given) == repr(plain)
    for name, values in plain.state_dict().items():
        assert torch.equal(given.state_dict()[name], values)
    settings = ModelSettings.model_validate({"layers": [{"type": "flatten"}, *end]})
    assert [layer["type"] for layer in architecture_of(settings, 3, (3, 8, 8))["layers"]] == [
        "flatten", "dense",
    ]  # fmt: skip


def test_a_softmax_elsewhere_stays_and_is_over_the_channels() -> None:
    net = network({"type": "dense", "units": 4, "activation": "softmax"}, DENSE)
    hidden = net[:-1](torch.rand(2, 3, 8, 8))
    torch.testing.assert_close(hidden.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("dim", [1, -1, None])
def test_training_with_a_final_softmax_is_training_without(
    tiny_net: nn.Sequential, tiny_splits: Splits, dim: int | None
) -> None:
    settings = TrainSettings(epochs=1, precision="fp32", device="cpu")
    plain, plain_epochs = train_classifier(tiny_net, tiny_splits, settings)
    with pytest.warns(GlasshouseWarning, match="ends in a softmax, which is left off"):
        given, epochs = train_classifier(with_softmax(tiny_net, dim), tiny_splits, settings)
    assert epochs[0].train_loss == plain_epochs[0].train_loss
    expected = predict(plain, tiny_splits.validation)
    found = predict(given, tiny_splits.validation)
    assert np.array_equal(found.logits, expected.logits)
    assert np.array_equal(probabilities(found), probabilities(expected))


def test_a_classifier_applies_the_softmax_once(tiny_net: nn.Sequential) -> None:
    with pytest.warns(GlasshouseWarning, match="ends in a softmax, which is left off"):
        classifier = Classifier(with_softmax(tiny_net), Preprocessing(16, 16), tuple("abcd"))
    assert not any(isinstance(module, nn.Softmax) for module in classifier.net.modules())
    # The caller's layers are shared, not copied.
    assert list(classifier.net.parameters()) == list(tiny_net.parameters())
    inner = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 2), nn.Softmax(dim=1)))
    with pytest.warns(GlasshouseWarning, match="ends in a softmax"):
        without = logit_net(inner)
    assert repr(without) == repr(nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 2))))
    assert len(list(inner[1].children())) == 2
    with pytest.warns(GlasshouseWarning, match="ends in a softmax"):
        state = begin(inner, TrainSettings(), torch.device("cpu"))
    assert repr(state.net) == repr(without)


def test_other_networks_are_returned_as_they_are(tiny_net: nn.Sequential) -> None:
    class Own(nn.Sequential):
        pass

    for net in (tiny_net, nn.Sequential(), nn.Softmax(dim=1), Own(nn.Softmax(dim=1))):
        assert logit_net(net) is net
    over_images = nn.Sequential(nn.Linear(4, 2), nn.Softmax(dim=0))
    assert logit_net(over_images) is over_images


def test_a_sequential_with_a_final_softmax_is_saved_and_loaded(
    tiny_splits: Splits, tmp_path: Any
) -> None:
    size = 3 * tiny_splits.train.height * tiny_splits.train.width
    net = nn.Sequential(nn.Flatten(), nn.Linear(size, len(tiny_splits.class_names)))
    settings = TrainSettings(epochs=1, precision="fp32", device="cpu")
    with pytest.warns(GlasshouseWarning, match="ends in a softmax"):
        trained, _ = train_classifier(with_softmax(net), tiny_splits, settings)
    save_classifier(trained, tmp_path)
    again = load_classifier(tmp_path)
    assert np.array_equal(
        predict(again, tiny_splits.validation).logits,
        predict(trained, tiny_splits.validation).logits,
    )
