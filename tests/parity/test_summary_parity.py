import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from glasshouse.models.layers import build
from glasshouse.models.presets import preset_names
from glasshouse.models.summary import summarize
from glasshouse.settings import ModelSettings


def _flops(net: nn.Module, shape: tuple[int, int, int]) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net.eval()(torch.zeros(1, *shape))
    return int(counter.get_total_flops())


@pytest.mark.parametrize("preset", preset_names())
def test_multiply_adds_are_half_the_flops_that_torch_counts(preset: str) -> None:
    net = build(ModelSettings(preset=preset), 10, (3, 32, 32), seed=0)
    assert 2 * summarize(net, (3, 32, 32)).macs == _flops(net, (3, 32, 32))


def test_grouped_dilated_and_transposed_convolutions_agree_with_torch() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=4, dilation=2),
        nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2),
        nn.Conv2d(6, 2, (1, 3), padding="same", bias=False),
    )
    assert 2 * summarize(net, (4, 12, 12)).macs == _flops(net, (4, 12, 12))
