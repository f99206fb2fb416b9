from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from glasshouse.models.inference import inference_net
from glasshouse.models.packing import PackedConv, can_pack, pack_convolutions

IMAGES = torch.rand(3, 3, 20, 24, generator=torch.Generator().manual_seed(0))

pytestmark = pytest.mark.skipif(not can_pack(nn.Identity()), reason="this torch has no oneDNN")


def packed(net: nn.Module) -> list[PackedConv]:
    return [module for module in net.modules() if isinstance(module, PackedConv)]


TANH_GELU = partial(nn.GELU, approximate="tanh")


@pytest.mark.parametrize("kind", [nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU, TANH_GELU])
def test_a_convolution_and_its_activation_become_one_step(kind: Callable[[], nn.Module]) -> None:
    first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    first.weight.data.mul_(20)  # so that a bound of 6 is met
    net = nn.Sequential(first, kind(), nn.Conv2d(8, 4, 1)).eval()
    with torch.inference_mode():
        expected = net(IMAGES)
        assert pack_convolutions(net, IMAGES[:1]) == 2
        assert isinstance(net[1], nn.Identity)
        # The two formulas of GELU differ by up to 5e-4.
        torch.testing.assert_close(net(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_an_activation_that_others_use_too_stays() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.act = nn.ReLU()

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            maps: torch.Tensor = self.conv(inputs)
            total: torch.Tensor = self.act(maps) + self.act(-maps) + maps
            return total

    net = Shared().eval()
    with torch.inference_mode():
        expected = net(IMAGES)
        assert pack_convolutions(net, IMAGES) == 1
        assert isinstance(net.act, nn.ReLU)
        torch.testing.assert_close(net(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_a_value_that_is_used_before_its_activation_too_stays() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            maps: torch.Tensor = self.conv(inputs)
            return torch.cat([maps, self.act(maps)], 1)

    net = Both().eval()
    with torch.inference_mode():
        expected = net(IMAGES)
        pack_convolutions(net, IMAGES)
        torch.testing.assert_close(net(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_convolutions_of_another_kind_are_left_alone() -> None:
    class Own(nn.Conv2d):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) * 2

    net = nn.Sequential(
        Own(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding="same"), nn.Flatten(), nn.LazyLinear(2),
    ).eval()  # fmt: skip
    with torch.inference_mode():
        expected = net(IMAGES)
        assert pack_convolutions(net, IMAGES) == 0
        assert torch.equal(net(IMAGES), expected)


def test_an_inference_net_is_packed_and_takes_any_batch(tiny_net: nn.Sequential) -> None:
    images = torch.rand(9, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    ready = inference_net(tiny_net, images[:2])
    assert ready.packed == len(packed(ready.net)) == 2
    with torch.inference_mode():
        expected = tiny_net.eval()(images)
    torch.testing.assert_close(ready(images), expected, rtol=1e-5, atol=1e-5)
    alone = torch.cat([ready(images[i : i + 1]) for i in range(9)])
    torch.testing.assert_close(alone, expected, rtol=1e-5, atol=1e-5)
    assert not packed(tiny_net)
