import pytest
import torch
from torch import Tensor, nn

from glasshouse.errors import UsageError
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.graph.layer_choice import layers, shallow_and_deep_layers
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.pretrained import build_net
from tests.explanation.nets import classifier_of, module_net, pooled_net, some_images


def zoo(name: str, side: int) -> Classifier:
    return Classifier(build_net(name, 5, {}), Preprocessing(side, side), tuple("abcde"))


def chosen(classifier: Classifier, side: int = 16) -> tuple[str | None, str]:
    page = explain_page(classifier, some_images(1, side=side), methods=["grad-cam"])
    (found,) = page.explanations
    return found.layer, " ".join([*found.notes, *found.warnings])


def test_every_layer_is_listed_with_its_shape() -> None:
    found = layers(classifier_of(module_net()), some_images(1)[0])
    assert [info.name for info in found] == [str(i) for i in range(9)]
    assert found[2].shape == (8, 12, 12) and found[2].has_extent
    assert found[8].shape == (5,) and not found[8].has_extent


def test_the_last_layer_before_pooling_is_chosen() -> None:
    layer, why = chosen(classifier_of(module_net()))
    assert layer == "3" and "8 channels of 12x12" in why
    assert chosen(classifier_of(pooled_net()))[0] == "5"


def test_a_layer_bypassed_by_a_skip_connection_is_not_chosen() -> None:
    layer, why = chosen(zoo("torchvision/resnet18", 64), 64)
    assert layer == "layer3" and "the later layer4 has only 2x2" in why


class TinyMaps(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 8, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


def test_a_map_with_few_cells_has_a_warning() -> None:
    layer, why = chosen(classifier_of(TinyMaps()))
    assert layer == "1" and "only 2x2 cells" in why


def test_the_bundled_model_is_explained_behind_its_last_convolution() -> None:
    layer, why = chosen(load_bundled("cifar10-small"), 32)
    assert layer == "relu7" and "only 3x3 cells" in why


def test_the_first_activation_and_the_chosen_layer_are_the_shallow_and_the_deep_one() -> None:
    found = shallow_and_deep_layers(classifier_of(module_net()), some_images()[0])
    assert [info.name for info in found] == ["1", "3"]


class FlatNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(768, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.flatten(1))
        return logits


def test_the_error_for_a_net_without_maps_names_alternatives() -> None:
    with pytest.raises(UsageError, match=r"no layer.*rows and columns.*use saliency"):
        chosen(classifier_of(FlatNet()))


def test_an_early_map_of_a_net_that_mixes_positions_has_a_warning() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(784, 8), nn.Linear(8, 8), nn.Linear(8, 5)
    )
    assert "3 of 4 layers with weights come after 0" in chosen(classifier_of(net))[1]
