from pathlib import Path

import pytest
import torch

from glasshouse.errors import ModelError
from glasshouse.models.backbone import rebuild_net
from glasshouse.models.classifier import Classifier, Preprocessing, load_classifier, save_classifier
from glasshouse.models.pretrained import architecture_of_pretrained, build_net
from glasshouse.models.stem import Stem, refine_stem, stem_of


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("resnet18", Stem("conv1", "maxpool")),
        ("resnet10t", Stem("conv1.0", "maxpool")),
        ("mobilenetv2_035", Stem("conv_stem", None)),
        ("squeezenet1_1", Stem("features.0", "features.2")),
        ("test_vit", None),
        ("test_convnext", None),
    ],
)
def test_the_stem_is_found_in_every_family(name: str, stem: Stem | None) -> None:
    assert stem_of(build_net(name, 3, {})) == stem


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_035"])
def test_small_images_give_the_maps_of_larger_ones_with_the_same_weights(name: str) -> None:
    net = build_net(name, 3, {}).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    last = net.get_submodule("layer4" if name == "resnet18" else "conv_head")
    shapes: list[torch.Size] = []
    last.register_forward_hook(lambda *given: shapes.append(given[2].shape[2:]))
    factor = {"resnet18": 4, "mobilenetv2_035": 2}[name]
    with torch.inference_mode():
        net(torch.rand(1, 3, 32 * factor, 32 * factor))
        assert refine_stem(net).factor == factor
        net(torch.rand(1, 3, 32, 32))
    assert shapes[0] == shapes[1]
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_a_net_without_such_a_stem_says_what_to_do_instead() -> None:
    with pytest.raises(ModelError, match=r"convolution of stride 2.*set model\.pretrained\.input"):
        refine_stem(build_net("test_vit", 3, {}))


def test_a_classifier_with_a_finer_stem_is_saved_and_loaded(tmp_path: Path) -> None:
    net = build_net("resnet10t", 3, {}).eval()
    refine_stem(net)
    architecture = {**architecture_of_pretrained("resnet10t", 3, {}), "stem": "fine"}
    save_classifier(
        Classifier(net, Preprocessing(32, 32), ("a", "b", "c"), architecture=architecture), tmp_path
    )
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load_classifier(tmp_path).net(images), net(images))
        assert not torch.equal(rebuild_net({**architecture, "stem": "kept"})(images), net(images))
