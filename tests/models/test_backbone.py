import json
from pathlib import Path

import pytest
import torch
from torch import nn

from glasshouse.errors import ModelError
from glasshouse.models import classifier as classifier_module, pretrained
from glasshouse.models.backbone import (
    ResizedInput,
    backbone_of,
    initialize_head,
    locate_head,
    rebuild_net,
    replace_head,
)
from glasshouse.models.classifier import Classifier, Preprocessing, load_classifier, save_classifier
from glasshouse.models.freezing import freeze, head_of, stages
from glasshouse.models.pretrained import architecture_of_pretrained, build_net

NAMES = ("mobilenetv2_035", "squeezenet1_1", "resnet10t", "torchvision/mobilenet_v3_small")


@pytest.mark.parametrize("name", NAMES)
def test_backbone_and_head_together_are_the_network(name: str) -> None:
    net = build_net(name, 3, {}).eval()
    replace_head(net, 4, hidden=5, dropout=0.5)
    images = torch.rand(2, 3, 64, 64)
    spot = locate_head(net)
    with torch.inference_mode():
        features = backbone_of(net.eval())(images)
        head = [layer for layer in net.get_submodule(spot.at).children() if not _pools(layer)]
        assert features.shape == (2, spot.width)
        torch.testing.assert_close(nn.Sequential(*head)(features), net(images))


def test_extracting_the_backbone_leaves_the_network_unchanged() -> None:
    net = build_net("resnet10t", 3, {}).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    backbone_of(net)
    assert head_of(net) == ("fc",)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_new_head_is_found_as_the_head_and_is_trainable() -> None:
    net = build_net("mobilenetv2_035", 3, {})
    replace_head(net, 3, hidden=8)
    assert head_of(net) == ("classifier",)
    freezing = freeze(net, "head")
    assert freezing.trainable_parameters == 1280 * 8 + 8 + 8 * 3 + 3


def test_a_resizing_network_sees_larger_images_and_has_the_same_head_and_stages() -> None:
    net = ResizedInput(build_net("mobilenetv2_035", 3, {}).eval(), 64)
    small = torch.rand(2, 3, 32, 32)
    larger = nn.functional.interpolate(small, size=(64, 64), mode="bicubic", align_corners=False)
    with torch.inference_mode():
        torch.testing.assert_close(net(small), net.body(larger))
    assert head_of(net) == ("body.classifier",)
    assert len(stages(net)) == len(stages(net.body))


def test_the_seed_alone_decides_the_initial_head() -> None:
    net, other = (build_net("resnet10t", 3, {}, seed=seed) for seed in (0, 1))
    state = torch.get_rng_state()
    initialize_head(net, 7)
    initialize_head(other, 7)
    assert torch.equal(net.get_parameter("fc.weight"), other.get_parameter("fc.weight"))
    assert net.get_parameter("fc.bias").abs().max() == 0
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("size", [None, 48])
@pytest.mark.parametrize("hidden", [None, 6])
def test_an_adapted_classifier_is_saved_and_loaded(
    tmp_path: Path, size: int | None, hidden: int | None
) -> None:
    net = build_net("mobilenetv2_035", 3, {"pad_type": "same"}).eval()
    architecture = architecture_of_pretrained("mobilenetv2_035", 3, {"pad_type": "same"})
    if size:
        net, architecture["input_size"] = ResizedInput(net, size), size
    if hidden:
        architecture["head"] = replace_head(net, 3, hidden=hidden)
    classifier = Classifier(
        net.eval(), Preprocessing(32, 32), ("a", "b", "c"), architecture=architecture
    )
    save_classifier(classifier, tmp_path)
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load_classifier(tmp_path).net(images), net(images))


def test_a_damaged_architecture_is_reported() -> None:
    architecture = architecture_of_pretrained("mobilenetv2_035", 3, {})
    with pytest.raises(ModelError, match="does not describe a network"):
        rebuild_net({**architecture, "head": {"at": "classifier"}})


def test_a_net_with_two_heads_is_refused() -> None:
    net = build_net("deit_tiny_distilled_patch16_224", 3, {})
    with pytest.raises(ModelError, match=r"one dense layer or one convolution.*head, head_dist"):
        locate_head(net)


def _pools(layer: nn.Module) -> bool:
    return isinstance(layer, nn.AdaptiveAvgPool2d | nn.Flatten)


@pytest.mark.parametrize(
    "change",
    [{"pretrained": "timm/vit_small_patch16_224"}, {"class_count": 10**9}, {"class_count": 10**5}],
)
def test_a_network_far_larger_than_its_weights_file_is_refused_before_it_takes_memory(
    change: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = architecture_of_pretrained("resnet10t", 3, {})
    net = build_net("resnet10t", 3, {})
    names = ("a", "b", "c")
    classifier = Classifier(net, Preprocessing(32, 32), names, architecture=architecture)
    save_classifier(classifier, tmp_path)
    assert load_classifier(tmp_path).class_names == names
    record = json.loads((tmp_path / "model.json").read_text())
    record["architecture"] |= change
    (tmp_path / "model.json").write_text(json.dumps(record))
    # Without memory, the network is built by the module that has this function.
    monkeypatch.setattr(classifier_module, "rebuild_net", lambda _: pytest.fail("it took memory"))
    with pytest.raises(ModelError, match="belongs to another model, or is damaged"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("size", [0, -1, 10**6, "a"])
def test_an_input_size_that_no_image_has_is_refused(size: object) -> None:
    architecture = {**architecture_of_pretrained("resnet10t", 3, {}), "input_size": size}
    with pytest.raises(ModelError, match="does not describe a network"):
        rebuild_net(architecture)


@pytest.mark.parametrize("channels", [0, -1, 2, 1.5, 10**8, "a"])
def test_a_number_of_channels_that_no_image_has_is_refused_before_anything_is_built(
    channels: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "_build", lambda *_: pytest.fail("it was built"))
    with pytest.raises(ModelError, match="expected 1 \\(luminance\\)"):
        build_net("resnet10t", 3, {"in_chans": channels})
