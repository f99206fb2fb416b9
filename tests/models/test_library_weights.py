"""Weights of a library for other channels and image sizes, as the library itself adapts them."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import vision_transformer

from glasshouse.errors import ModelError, WrongInputSize
from glasshouse.models.classifier import load_classifier, save_classifier
from glasshouse.models.net_arguments import network_settings
from glasshouse.models.pretrained import build_net, sized_arguments
from glasshouse.models.zoo import Created, arguments_for, create
from glasshouse.settings import PretrainedSettings
from glasshouse.training.adapting import adapt
from tests.conftest import make_images

NAMES = tuple("abcde")
# One convolution, three of them, patches, patches with normalisation, and space to depth.
STEMS = (
    "timm/test_efficientnet",
    "timm/resnet18d",
    "timm/test_vit",
    "timm/test_convnext",
    "timm/tresnet_m",
)


def _published(folder: Path, name: str, arguments: dict[str, Any] | None = None) -> Path:
    path = folder / "weights.safetensors"
    save_file(build_net(name, 5, arguments or {}, seed=5).state_dict(), path)
    return path


def _by_timm(name: str, file: Path, **changes: Any) -> nn.Module:
    """What timm makes of the file by itself."""
    overlay = {"file": str(file), "num_classes": 5}
    bare = name.rpartition("/")[2]
    return timm.create_model(
        bare, pretrained=True, num_classes=5, pretrained_cfg_overlay=overlay, **changes
    ).eval()


def _by_us(spec: str, file: Path) -> Created:
    name, arguments = arguments_for(network_settings(spec))
    return create(name, NAMES, weights=file, arguments=arguments)


def _require_equal(ours: nn.Module, theirs: nn.Module) -> None:
    own, other = ours.state_dict(), theirs.state_dict()
    assert own.keys() == other.keys()
    for key, value in other.items():
        torch.testing.assert_close(own[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", STEMS)
def test_a_stem_for_other_channels_has_the_weights_that_timm_gives_it(
    name: str, channels: int, tmp_path: Path
) -> None:
    if (name, channels) == ("timm/tresnet_m", 4):
        pytest.skip("timm leaves this stem random, which is refused below")
    file = _published(tmp_path, name)
    created = _by_us(f"{name}:in_chans={channels}", file)
    _require_equal(created.classifier.net, _by_timm(name, file, in_chans=channels))
    assert any("of 3 input channels were" in note for note in created.notes)


def test_one_channel_is_the_luminance_and_a_fourth_is_opaque(tmp_path: Path) -> None:
    file = _published(tmp_path, "timm/test_resnet")
    inputs = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    grey = (inputs * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    opaque = torch.cat([inputs, torch.ones(2, 1, 64, 64)], 1)
    for channels, given in ((1, grey), (4, opaque)):
        net = _by_us(f"timm/test_resnet:in_chans={channels}", file).classifier.net
        theirs = _by_timm("test_resnet", file, in_chans=channels)
        with torch.no_grad():
            torch.testing.assert_close(net(inputs), theirs(given))


def test_grey_images_give_one_channel_the_answers_of_three(tmp_path: Path) -> None:
    """The sum of the weights is what three equal channels are multiplied by."""
    file = _published(tmp_path, "timm/test_resnet")
    grey = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)).expand(
        -1, 3, -1, -1
    )
    one, three = (_by_us(f"timm/test_resnet:in_chans={n}", file).classifier.net for n in (1, 3))
    with torch.no_grad():
        torch.testing.assert_close(one(grey), three(grey), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "size"), [(1, 32), (4, 64)])
def test_a_network_of_other_channels_is_adapted_saved_and_loaded(
    channels: int, size: int, tmp_path: Path
) -> None:
    file = _published(tmp_path, "timm/test_resnet")
    settings = PretrainedSettings(
        name="timm/test_resnet", weights=str(file), arguments={"in_chans": channels}, input_size=64
    )
    adapted = adapt(settings, make_images(8, size=size))
    assert any("input channels" in note for note in adapted.notes)
    save_classifier(adapted.classifier, tmp_path / "saved")
    batch = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    again = load_classifier(tmp_path / "saved")
    assert torch.equal(again.net(batch), adapted.classifier.net(batch))


def test_stems_that_no_weights_fit_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="in_chans=2: expected 1"):
        build_net("timm/test_resnet", 5, {"in_chans": 2})
    file = _published(tmp_path, "timm/tresnet_m")
    with pytest.raises(ModelError, match=r"of another shape: body\.conv1\.conv\.weight"):
        _by_us("timm/tresnet_m:in_chans=4", file)


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"],
)
@pytest.mark.slow
def test_position_embeddings_are_interpolated_as_timm_does(name: str, tmp_path: Path) -> None:
    _require_same_at(name, 112, tmp_path)


def test_position_embeddings_of_a_small_vit_are_interpolated_as_timm_does(tmp_path: Path) -> None:
    _require_same_at("test_vit", 96, tmp_path, dynamic_img_size=False)


def _require_same_at(name: str, size: int, folder: Path, **more: bool) -> None:
    file = _published(folder, f"timm/{name}")
    given = "".join(f"{key}={str(value).lower()}," for key, value in more.items())
    classifier = _by_us(f"timm/{name}:{given}input_size={size}", file).classifier
    _require_equal(classifier.net, _by_timm(name, file, img_size=size, **more))
    assert classifier.preprocessing.height == size


@pytest.mark.slow
def test_torchvisions_vit_is_interpolated_by_its_own_function(tmp_path: Path) -> None:
    file = _published(tmp_path, "torchvision/vit_b_32")
    classifier = _by_us("torchvision/vit_b_32:input_size=96", file).classifier
    expected = vision_transformer.interpolate_embeddings(96, 32, load_file(file))
    own = classifier.net.state_dict()
    assert own["encoder.pos_embedding"].shape[1] == 10
    assert torch.equal(own["encoder.pos_embedding"], expected["encoder.pos_embedding"])


def test_weights_that_cannot_be_interpolated_are_refused_by_name(tmp_path: Path) -> None:
    file = _published(tmp_path, "timm/mixer_s32_224")
    with pytest.raises(WrongInputSize, match=r"mixer_s32_224 cannot be used at 96x96.*size is 224"):
        _by_us("timm/mixer_s32_224:input_size=96", file)


def test_only_networks_that_need_it_are_built_for_a_size() -> None:
    assert sized_arguments("timm/test_resnet", {}, 96) == {}
    assert sized_arguments("timm/test_vit", {}, 96) == {}
    fixed = {"dynamic_img_size": False}
    assert sized_arguments("timm/test_vit", fixed, 96) == {**fixed, "img_size": 96}
    assert sized_arguments("torchvision/vit_b_32", {}, 96) == {"image_size": 96}
    assert sized_arguments("torchvision/maxvit_t", {}, 448) == {"input_size": [448, 448]}
    # 96 pixels are three windows of 7 with rest, which the last stage cannot divide.
    assert sized_arguments("torchvision/maxvit_t", {}, 96) == {}


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", 1), ("resnet18", 4), ("squeezenet1_0", 1), ("squeezenet1_0", 4),
        # 350 MB of weights each time.
        ("vit_b_32", 1), pytest.param("vit_b_32", 4, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_torchvisions_networks_take_other_channels_by_the_weights_of_three(
    name: str, channels: int, tmp_path: Path
) -> None:
    file = _published(tmp_path, f"torchvision/{name}")
    net = _by_us(f"torchvision/{name}:in_chans={channels}", file).classifier.net
    rgb = build_net(f"torchvision/{name}", 5, {})
    rgb.load_state_dict(load_file(file))
    # By hand: a grey image three times is what the summed weights see once; with four channels,
    # red comes again as the fourth, all scaled by three quarters.
    images = torch.rand(2, 3, 224, 224)
    state, own = rgb.state_dict(), net.state_dict()
    changed = [key for key in state if state[key].shape != own[key].shape]
    assert len(changed) == 1
    stem = state[changed[0]]
    expected = (
        stem.sum(1, keepdim=True) if channels == 1 else torch.cat([stem, stem[:, :1]], 1) * 0.75
    )
    torch.testing.assert_close(own[changed[0]], expected)
    with torch.inference_mode():
        answers = net.eval()(images)
        luminance = (images * torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)).sum(1, True)
        if channels == 1:
            torch.testing.assert_close(
                answers, rgb.eval()(luminance.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4
            )
    assert answers.shape == (2, 5) and answers.isfinite().all()


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_that_scale_their_channels_take_no_others(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} takes three channels only"):
        build_net(f"torchvision/{name}", 7, {"in_chans": 1})


def test_an_argument_that_a_network_does_not_have_is_named_without_others() -> None:
    with pytest.raises(ModelError, match=r"resnet18 cannot be built with depth=3: ") as found:
        build_net("torchvision/resnet18", 7, {"depth": 3})
    assert "num_classes" not in str(found.value)
