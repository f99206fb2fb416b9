"""Parameters that are treated alike are one group, and clearing forgets every gradient."""

import pytest
import torch
from torch import nn

from glasshouse.settings import TrainSettings
from glasshouse.training.optimizers import build_optimizer, clear_gradients


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))


@pytest.mark.parametrize(
    ("more", "groups"),
    [({}, 1), ({"weight_decay": 0.01}, 2), ({"bias_lr_factor": 2.0}, 2)],
)
def test_parameters_are_split_only_where_they_are_treated_differently(
    more: dict[str, float], groups: int
) -> None:
    net = network()
    settings = TrainSettings.model_validate({"optimizer": "adamw", "weight_decay": 0.0, **more})
    optimizer = build_optimizer(net, settings)
    assert len(optimizer.param_groups) == groups
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in net.parameters()}


def test_one_group_takes_the_same_steps_as_two() -> None:
    settings = TrainSettings(optimizer="adam", lr=0.01, weight_decay=0.0)
    one, two = network(), network()
    optimizer = build_optimizer(one, settings)
    kernels = [p for p in two.parameters() if p.ndim > 1]
    biases = [p for p in two.parameters() if p.ndim <= 1]
    other = torch.optim.Adam([{"params": kernels}, {"params": biases}], lr=0.01, eps=1e-7)
    for step in range(3):
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        for net, each in ((one, optimizer), (two, other)):
            net(images).square().mean().backward()
            each.step()
            clear_gradients(each)
            assert all(p.grad is None for p in net.parameters())
    for ours, theirs in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
