from pathlib import Path

import pytest
import torch
from torch import nn

from glasshouse.errors import ModelError
from glasshouse.models import pretrained
from glasshouse.models.pretrained import (
    build_net,
    count_parameters,
    find_model,
    list_models,
    preprocessing_of,
    usual_class_names,
    usual_weights,
    weight_names,
)


@pytest.fixture(autouse=True)
def _empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))


def test_every_net_is_listed_once_under_a_name_that_finds_it() -> None:
    cards = list_models()
    names = [card.name for card in cards]
    assert len(names) == len(set(names)) > 1000
    assert {card.source for card in cards} == {"torchvision", "timm"}
    for card in cards[::97]:
        assert find_model(card.name) == card


def test_a_name_in_both_libraries_means_torchvision_by_default() -> None:
    names = [card.name for card in list_models("resnet50")]
    assert names == ["resnet50", "timm/resnet50"]
    assert find_model("resnet50").source == "torchvision"
    assert find_model("torchvision/resnet50") == find_model("resnet50")
    assert find_model("timm/resnet50").source == "timm"
    assert find_model("timm/mobilenetv2_100").name == "mobilenetv2_100"
    assert find_model("resnet50.a2_in1k").source == "timm"


def test_cards_have_size_licence_and_source() -> None:
    card = find_model("mobilenetv2_100")
    assert (card.input_size, card.license, card.parameters) == ((3, 224, 224), "apache-2.0", None)
    assert card.weights_url is not None
    assert card.weights_url.startswith("https://huggingface.co/timm/mobilenetv2_100.")
    assert find_model("inception_v3").input_size == (3, 299, 299)


@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet50", 25_557_032), ("timm/resnet50", 25_557_032), ("mobilenetv2_100", 3_504_872)],
)
def test_parameters_are_counted(name: str, count: int) -> None:
    assert count_parameters(find_model(name)).parameters == count


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("resnet18", {"fc.weight", "fc.bias"}),
        ("squeezenet1_0", {"classifier.1.weight", "classifier.1.bias"}),
        ("vit_b_16", {"heads.head.weight", "heads.head.bias"}),
        ("inception_v3", {"fc.weight", "fc.bias"}),
        ("test_vit", {"head.weight", "head.bias"}),
    ],
)
def test_the_head_is_found_in_every_family(name: str, keys: set[str]) -> None:
    assert weight_names(name, {}).head == keys


def test_building_is_decided_by_the_seed_alone() -> None:
    before = torch.get_rng_state()
    first, again = (build_net("test_resnet", 3, {}, seed=1).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = build_net("test_resnet", 3, {}, seed=2).state_dict()
    assert not torch.equal(first["conv1.0.weight"], other["conv1.0.weight"])
    assert torch.equal(before, torch.get_rng_state())


def test_networks_with_auxiliary_heads_return_one_tensor_in_training() -> None:
    net = build_net("googlenet", 3, {}).train()
    assert net(torch.rand(2, 3, 64, 64)).shape == (2, 3)


def test_arguments_reach_the_constructor_and_unknown_ones_are_refused() -> None:
    net = build_net("mobilenetv2_100", 3, {"pad_type": "same"})
    assert type(net.conv_stem).__name__ == "Conv2dSame"
    for name in ("resnet18", "mobilenetv2_100"):
        with pytest.raises(ModelError, match=f"{name}: 'pad_tipe' cannot be set.*'pad_type'"):
            build_net(name, 3, {"pad_tipe": "same"})


@pytest.mark.parametrize("name", ["resnet18", "resnet10t", "mobilenetv2_035"])
def test_any_network_takes_how_its_batch_normalisation_is_set(name: str) -> None:
    net = build_net(name, 3, {"bn_momentum": 0.02, "bn_eps": 1e-3})
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.02, 1e-3)} and len(norms) > 9


def test_a_network_without_batch_normalisation_takes_nothing_for_it() -> None:
    with pytest.raises(ModelError, match="it has no batch normalisation, so it takes no bn_eps"):
        build_net("vgg11", 3, {"bn_eps": 1e-3})
    with pytest.raises(ModelError, match="could not convert"):
        build_net("resnet18", 3, {"bn_momentum": "small"})


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="Did you mean 'resnet50'"):
        find_model("resnet5O")
    with pytest.raises(ModelError, match="`glasshouse models` lists"):
        find_model("xyzzy/qqqq")


def test_preprocessing_is_that_of_the_weights() -> None:
    plain = preprocessing_of("squeezenet1_0")
    assert (plain.height, plain.width, plain.crop_fraction) == (224, 224, 0.875)
    assert plain.mean == (0.485, 0.456, 0.406)
    assert preprocessing_of("vit_base_patch16_224").mean == (0.5, 0.5, 0.5)
    assert preprocessing_of("resnet50").crop_fraction == pytest.approx(224 / 232)


def test_class_names_are_those_of_imagenet_where_there_are_1000() -> None:
    assert usual_class_names("resnet50", 1000)[:2] == ("tench", "goldfish")
    assert usual_class_names("resnet50", 2) == ("class 0", "class 1")


def test_offline_says_which_file_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"https://download\.pytorch\.org/.*resnet18") as caught:
        usual_weights("resnet18", offline=True)
    target = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    assert str(target) in str(caught.value)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"")
    assert usual_weights("resnet18", offline=True) == target
    with pytest.raises(
        ModelError, match=r"https://huggingface\.co/timm/mobilenetv2_100.*save it as .*--weights"
    ):
        usual_weights("mobilenetv2_100", offline=True)


def test_without_a_connection_the_message_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(ModelError, match=r"cannot be downloaded \(Name.*save it as"):
        usual_weights("resnet18", offline=False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(ModelError, match=r"cannot be downloaded.*name a weights file.* come with"):
        usual_weights("mobilenetv2_100", offline=False)


def test_a_network_without_published_weights_is_reported() -> None:
    with pytest.raises(ModelError, match="no published weights for mobilenetv2_035"):
        usual_weights("mobilenetv2_035", offline=False)


def test_listing_does_not_build_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "build_net", None)
    assert list_models("vit_*")
