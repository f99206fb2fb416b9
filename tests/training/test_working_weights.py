"""Copies of the weights in the precision of autocast: the same bytes as autocast's own."""

import copy

import pytest
import torch
from torch import Tensor, nn

from glasshouse.models.forward import autocast
from glasshouse.training.working_weights import WorkingWeights

CPU, BF16 = torch.device("cpu"), torch.bfloat16
INPUTS = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class ReadsItsWeights(nn.Module):
    """Somebody else's module, which wants its weights in full precision."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(192, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        penalty: Tensor = self.linear.weight.double().square().sum()
        logits: Tensor = self.linear(inputs.flatten(1))
        return logits + penalty


def network() -> nn.Sequential:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=1)
    tied = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    tied.weight = conv.weight
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), conv, tied, nn.Flatten(),
        nn.Linear(256, 5),
    )  # fmt: skip


def gradients(net: nn.Module, working: WorkingWeights | None) -> dict[str, Tensor | None]:
    if working is None:
        with autocast(CPU, BF16):
            logits = net(INPUTS)
    else:
        with working.in_place(), autocast(CPU, BF16):
            logits = net(INPUTS)
    logits.float().square().mean().backward()
    if working is not None:
        working.hand_over_gradients()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_are_those_of_autocast_to_the_last_bit(frozen: bool) -> None:
    net = network()
    net[3].requires_grad_(not frozen)
    other = copy.deepcopy(net)
    other[4].weight = other[3].weight
    working = WorkingWeights(other, BF16)
    # Twice, with other weights: the copies follow, and no gradient is left from the step before.
    for _ in range(2):
        wanted, found = gradients(net, None), gradients(other, working)
        for name, gradient in wanted.items():
            mine = found[name]
            assert (mine is None) == (gradient is None) == name.startswith("3.") * frozen
            assert gradient is None or (mine is not None and torch.equal(mine, gradient)), name
        for each in (net, other):
            for parameter in each.parameters():
                parameter.grad = None
                parameter.data.mul_(1.1)


def test_the_network_has_its_own_weights_again_even_after_an_error() -> None:
    net = network()
    own = dict(net.named_parameters())
    with pytest.raises(RuntimeError), WorkingWeights(net, BF16).in_place():
        assert net[0].weight.dtype == BF16
        net(INPUTS[:, :2])
    assert all(own[name] is parameter for name, parameter in net.named_parameters())


def test_modules_of_somebody_else_and_hooks_see_the_weights_themselves() -> None:
    others = ReadsItsWeights()
    with WorkingWeights(others, BF16).in_place():
        assert others.linear.weight.dtype == torch.float32
    hooked = network()
    hooked[0].register_forward_hook(lambda module, *_: None)
    with WorkingWeights(hooked, BF16).in_place():
        assert hooked[0].weight.dtype == torch.float32
