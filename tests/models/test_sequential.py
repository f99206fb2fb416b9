from collections import OrderedDict

import pytest
import torch
from torch import nn

from glasshouse.models.layers import build
from glasshouse.models.sequential import describe_sequential
from glasshouse.settings import ModelSettings


def _everyday() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(3, 4, (3, 1), stride=2, padding="valid", bias=False),
            norm=nn.BatchNorm2d(4, eps=1e-4),
            middle=nn.Sequential(nn.LeakyReLU(0.3, inplace=True), nn.AdaptiveAvgPool2d((2, 1))),
            drop=nn.Dropout(0.4),
            flat=nn.Flatten(),
            last=nn.Linear(8, 3),
        )
    )


def test_a_sequential_is_built_again_from_its_description() -> None:
    net = _everyday().eval()
    layers = describe_sequential(net)
    assert layers is not None
    again = build(ModelSettings(layers=layers), 3, (3, 16, 16), seed=0).eval()
    again.load_state_dict(net.state_dict(), strict=True)
    images = torch.rand(2, 3, 16, 16)
    assert repr(again) == repr(net)
    assert torch.equal(again(images), net(images))


def test_a_description_survives_a_recipe() -> None:
    layers = describe_sequential(_everyday())
    settings = ModelSettings(layers=layers)
    assert ModelSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 6, 3, padding=1, dilation=2, groups=3, padding_mode="reflect"),
        nn.ConvTranspose2d(3, 2, 2, output_padding=1, stride=2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.AvgPool2d(2, count_include_pad=False),
        nn.GroupNorm(3, 3),
        nn.LayerNorm([3, 8, 8], bias=False),
        nn.InstanceNorm2d(3, affine=True),
        nn.PReLU(3),
        nn.GELU(approximate="tanh"),
        nn.Hardtanh(-2, 2),
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.ZeroPad2d((1, 0, 2, 0)),
        nn.BatchNorm2d(3, affine=False, track_running_stats=False),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_of_every_kind_are_described(layer: nn.Module) -> None:
    assert describe_sequential(nn.Sequential(layer)) is not None


class _Own(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs


def _tied() -> nn.Sequential:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, second)


def _twice() -> nn.Sequential:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, layer)


def _extended() -> nn.Sequential:
    layer = nn.ReLU()
    layer.add_module("extra", nn.Tanh())
    return nn.Sequential(layer)


@pytest.mark.parametrize(
    "net",
    [
        nn.Linear(3, 4),
        nn.Sequential(),
        nn.Sequential(_Own()),
        nn.Sequential(nn.Sequential(nn.ReLU(), _Own())),
        _tied(),
        _twice(),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))),
        nn.Sequential(nn.Linear(3, 4).double()),
        _extended(),
        nn.Sequential(nn.ConstantPad2d(1, float("inf"))),
    ],
    ids=[
        "layer",
        "empty",
        "own",
        "nested",
        "tied",
        "twice",
        "hooked",
        "double",
        "extended",
        "infinite",
    ],
)
def test_what_settings_cannot_express_is_not_described(net: nn.Module) -> None:
    assert describe_sequential(net) is None
