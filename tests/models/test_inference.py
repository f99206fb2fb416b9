import copy

import pytest
import torch
from torch import nn

from glasshouse.models import inference
from glasshouse.models.backbone import backbone_of
from glasshouse.models.inference import fold_normalisations, inference_net
from glasshouse.models.pretrained import build_net

IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def lively(net: nn.Module) -> nn.Module:
    """Statistics and scales of batch normalisation that make a difference."""
    random = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=random)
            module.running_var.uniform_(0.5, 2, generator=random)
            module.weight.data.uniform_(0.5, 1.5, generator=random)
            module.bias.data.normal_(0, 0.1, generator=random)
    return net.eval()


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [("resnet18", {}, 20), ("mobilenetv2_035", {"pad_type": "same"}, 52), ("resnet10t", {}, 14)],
)
def test_folding_removes_every_normalisation_and_keeps_the_outputs(
    name: str, arguments: dict[str, str], count: int
) -> None:
    net = backbone_of(lively(build_net(name, 4, arguments)))
    ready = inference_net(net, IMAGES)
    with torch.inference_mode():
        expected = net(IMAGES)
    assert ready.folded == count == sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in ready.net.modules())
    torch.testing.assert_close(ready(IMAGES), expected, rtol=1e-3, atol=1e-4)


def test_the_net_itself_stays_as_it_was() -> None:
    net = lively(build_net("resnet10t", 4, {})).train()
    before = copy.deepcopy(net.state_dict())
    inference_net(net, IMAGES, torch.bfloat16)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_low_precision_is_used_where_it_agrees() -> None:
    ready = inference_net(lively(build_net("resnet10t", 4, {})), IMAGES, torch.bfloat16)
    assert ready.precision == torch.bfloat16
    assert 0.995 <= ready.agreement.cosine < 1


def test_a_head_in_float32_gives_logits_that_are_not_rounded() -> None:
    net = lively(build_net("resnet10t", 4, {}))
    rounded = inference_net(net, IMAGES, torch.bfloat16)(IMAGES)
    whole = inference_net(net, IMAGES, torch.bfloat16, head=("fc",))(IMAGES)
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert not torch.equal(whole, whole.bfloat16().float())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_low_precision_is_refused_where_it_does_not_agree() -> None:
    class Difference(nn.Module):
        """Two large numbers whose small difference is the answer."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            means = inputs.mean(dim=(2, 3)) * self.scale
            return (means + 1000) - 1000

    ready = inference_net(Difference(), IMAGES, torch.bfloat16)
    assert ready.precision == torch.float32
    assert ready.agreement.cosine > 0.999
    assert ready.refused is not None and ready.refused.cosine < 0.995


def test_a_normalisation_whose_convolution_feeds_others_is_kept() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            found = self.conv(inputs)
            both: torch.Tensor = torch.cat([self.norm(found), found], dim=1).mean(dim=(2, 3))
            return both

    net = lively(Shared())
    assert fold_normalisations(copy.deepcopy(net)) == 0
    assert inference_net(net, IMAGES).folded == 0


def test_a_net_whose_graph_cannot_be_read_still_runs() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.norm(self.conv(inputs)).mean(dim=(2, 3))
            return found if found.sum() > 0 else -found

    net = lively(Branching())
    ready = inference_net(net, IMAGES)
    assert ready.folded == 0
    with torch.inference_mode():
        torch.testing.assert_close(ready(IMAGES), net(IMAGES))


class StandardisedConv(nn.Conv2d):
    """A convolution that computes with standardised weights, as timm's StdConv2d does."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        spread, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / spread
        found: torch.Tensor = nn.functional.conv2d(inputs, weight, self.bias)
        return found


def test_a_normalisation_that_cannot_be_folded_right_is_kept() -> None:
    torch.manual_seed(0)
    net = lively(nn.Sequential(StandardisedConv(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    # Folding finds the pair and scales the weights, which are then standardised once more.
    folded = copy.deepcopy(net)
    assert fold_normalisations(folded) == 1
    with torch.inference_mode():
        expected = net(IMAGES)
        assert not torch.allclose(folded(IMAGES), expected, atol=1e-2)
    ready = inference_net(net, IMAGES)
    assert ready.folded == 0
    torch.testing.assert_close(ready(IMAGES), expected.flatten(1).view_as(ready(IMAGES)))


def test_packed_convolutions_that_compute_something_else_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def break_it(net: nn.Module, example: torch.Tensor) -> int:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1.5)
        return 1

    monkeypatch.setattr(inference, "can_pack", lambda net: True)
    monkeypatch.setattr(inference, "pack_convolutions", break_it)
    net = lively(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)))
    ready = inference_net(net, IMAGES)
    assert ready.packed == 0
    with torch.inference_mode():
        torch.testing.assert_close(ready(IMAGES).flatten(1), net(IMAGES).flatten(1))
