"""Parameters that are treated alike are one group, and clearing forgets every gradient."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from glasshouse.settings import TrainSettings
from glasshouse.training.optimizers import (
    DROP_EVERY,
    build_optimizer,
    clear_gradients,
    drop_vanishing,
    set_learning_rate,
    take_step,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    # Without a bias before BatchNorm: its gradient is zero but for rounding, which Adam magnifies.
    convolution = nn.Conv2d(3, 4, 3, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))


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


@pytest.mark.parametrize("more", [{}, {"weight_decay": 0.01}, {"bias_lr_factor": 2.0}])
@pytest.mark.parametrize("name", get_args(TrainSettings.model_fields["optimizer"].annotation))
def test_gradients_are_left_as_they_are_so_that_processes_can_share_them(
    name: str, more: dict[str, float]
) -> None:
    net = network()
    net.extend([nn.Unflatten(1, (2, 1, 1)), nn.Conv2d(2, 3, 1)])
    optimizer = build_optimizer(net, TrainSettings.model_validate({"optimizer": name, **more}))
    for step in range(3):
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        net(images).square().mean().backward()
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        before = [each.clone() for each in gradients]
        take_step(optimizer)
        drop_vanishing(optimizer)
        assert len(gradients) == 7
        assert all(map(torch.equal, gradients, before))
        clear_gradients(optimizer)


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


KINDS: dict[str, Callable[[list[dict[str, Any]]], Optimizer]] = {
    "adam": lambda groups: Adam(groups, lr=0.01, eps=1e-7, fused=True),
    "adamw": lambda groups: AdamW(groups, lr=0.01, betas=(0.9, 0.95), fused=True),
    "adam, not fused": lambda groups: Adam(groups, lr=0.01),
    "adam, amsgrad": lambda groups: Adam(groups, lr=0.01, amsgrad=True, fused=True),
    "adam, maximize": lambda groups: Adam(groups, lr=0.01, maximize=True, fused=True),
    "sgd": lambda groups: SGD(groups, lr=0.01, momentum=0.9, fused=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_the_optimizer_to_the_last_bit(kind: str) -> None:
    """Over steps in which a parameter has no gradient, and with other rates."""
    first, second = (
        [nn.Parameter(torch.linspace(-1, 1, n).repeat(2, 1)) for n in (3, 50, 33)] for _ in "ab"
    )
    ours, wanted = (
        KINDS[kind]([{"params": p[:2], "weight_decay": 0.1}, {"params": p[2:], "lr": 0.5}])
        for p in (first, second)
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        for mine, theirs in zip(first, second, strict=True):
            gradient = torch.randn(mine.shape, generator=generator)
            mine.grad = None if step == 3 and mine is first[1] else gradient.clone()
            theirs.grad = None if mine.grad is None else gradient.clone()
        for optimizer in (ours, wanted):
            set_learning_rate(optimizer, 0.01 / (step + 1))
        take_step(ours)
        wanted.step()
        for mine, theirs in zip(first, second, strict=True):
            assert torch.equal(mine, theirs)
    assert str(ours.state_dict()) == str(wanted.state_dict())


def test_hooks_of_a_step_are_called() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = Adam([parameter], fused=True)
    seen: list[int] = []
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    for _ in range(3):
        parameter.grad = torch.ones(3)
        take_step(optimizer)
    assert len(seen) == 3


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_moments_are_never_denormal_and_no_weight_can_tell(kind: str) -> None:
    """Of gradients that become zero, for so long that their mean would be denormal."""
    first, second = (nn.Parameter(torch.linspace(-1, 1, 50)) for _ in "ab")
    ours, wanted = (KINDS[kind]([{"params": [p], "weight_decay": 0.0}]) for p in (first, second))
    tiny, seen = torch.finfo(torch.float32).tiny, False
    for step in range(1200):
        gradient = torch.linspace(0.1, 1, 50) * (torch.arange(50) >= (25 if step else 0))
        for parameter, optimizer in ((first, ours), (second, wanted)):
            parameter.grad = gradient.clone()
            take_step(optimizer)
        if step % DROP_EVERY == 0:
            drop_vanishing(ours)
        found, usual = (_moments(each) for each in (ours, wanted))
        assert not ((found != 0) & (found.abs() < tiny)).any()
        seen |= bool(((usual != 0) & (usual.abs() < tiny)).any())
    assert seen and torch.equal(first, second)


def _moments(optimizer: Optimizer) -> torch.Tensor:
    values = [v for state in optimizer.state.values() for v in state.values() if v.ndim]
    return torch.cat(values)


TRAINING = """
import sys
import torch
from pathlib import Path
from glasshouse.settings import TrainSettings
from glasshouse.training.fit import train_classifier
from glasshouse.training.operations import image_flop, update_flop
from glasshouse.training.optimizers import build_optimizer, take_step
from glasshouse.training.state import begin, load_checkpoint, save_checkpoint

def net():
    parts = [torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 2)]
    return torch.nn.Sequential(*parts)

for name in ("adam", "adamw", "sgd", "muon"):
    settings = TrainSettings(optimizer=name, momentum=0.9 if name in ("sgd", "muon") else 0.0)
    states = [begin(net(), settings, torch.device("cpu")) for _ in range(2)]
    for _ in range(2):
        states[0].net(torch.ones(1, 3, 4, 4)).sum().backward()
        take_step(states[0].optimizer)
    save_checkpoint(states[0], Path("here") / name)
    assert load_checkpoint(states[1], Path("here") / name)
    assert update_flop(states[0].optimizer) >= 0
assert image_flop(net(), (3, 4, 4)) > 0
print([name for name in ("torch._dynamo", "sklearn.linear_model") if name in sys.modules])
"""


def test_a_training_imports_no_compiler_and_no_library_of_heads(tmp_path: Path) -> None:
    # In a new process, since other tests may have imported them.
    found = subprocess.run(
        [sys.executable, "-c", TRAINING], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("adam", {"lr": 0.02, "eps": 1e-7, "betas": (0.9, 0.999), "amsgrad": False}),
        ("adamw", {"lr": 0.02, "eps": 1e-7, "betas": (0.9, 0.999), "amsgrad": False}),
        ("sgd", {"lr": 0.02, "momentum": 0.9, "nesterov": True, "dampening": 0}),
    ],
)
def test_each_optimizer_has_the_values_of_its_settings_and_is_fused(
    name: str, wanted: dict[str, Any]
) -> None:
    settings = TrainSettings.model_validate({"optimizer": name, "lr": 0.02, "momentum": 0.9})
    defaults = build_optimizer(network(), settings).defaults
    # One pass over the weights: three times as fast as torch's loop over them.
    assert {key: defaults[key] for key in (*wanted, "fused")} == {**wanted, "fused": True}


def test_without_momentum_nothing_looks_ahead() -> None:
    settings = TrainSettings.model_validate({"optimizer": "sgd", "lr": 0.02, "momentum": 0.0})
    assert build_optimizer(network(), settings).defaults["nesterov"] is False


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_groups_have_the_product_of_their_factors_and_only_kernels_decay(decay: float) -> None:
    net = network()
    settings = TrainSettings(optimizer="adamw", lr=0.5, weight_decay=decay, bias_lr_factor=4.0)
    factors = {"0.weight": 0.25, "1.weight": 1.0, "3.weight": 1.0, "3.bias": 0.25}
    optimizer = build_optimizer(net, settings, factors)
    names = {id(p): name for name, p in net.named_parameters()}
    found = [
        (sorted(names[id(p)] for p in group["params"]), group["lr_factor"], group["weight_decay"])
        for group in optimizer.param_groups
    ]
    # Without a factor, the scale of the normalisation is not trained.
    assert found == [
        (["3.weight"], 1.0, decay), (["1.weight"], 4.0, 0.0),
        (["0.weight"], 0.25, decay), (["3.bias"], 1.0, 0.0),
    ]  # fmt: skip
    set_learning_rate(optimizer, 0.1)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([0.1, 0.4, 0.025, 0.1])
    net.requires_grad_(False)
    net[3].weight.requires_grad_()
    (group,) = build_optimizer(net, settings, factors).param_groups
    assert [names[id(p)] for p in group["params"]] == ["3.weight"]


def test_values_that_are_almost_denormal_are_dropped_and_no_others() -> None:
    parameter = nn.Parameter(torch.ones(4))
    optimizer = Adam([parameter], fused=True)
    values = torch.tensor([1.1e-36, 0.9e-36, -1.1e-36, -0.9e-36])
    step = torch.tensor(1e-37)
    optimizer.state[parameter] = {"exp_avg": values.clone(), "step": step, "other": 3}
    drop_vanishing(optimizer)
    kept = optimizer.state[parameter]["exp_avg"]
    assert torch.equal(kept, values * torch.tensor([1, 0, 1, 0]))
    assert step == torch.tensor(1e-37)  # a number of steps is no moment


@pytest.mark.parametrize("kind", ["adam", "adamw"])
@pytest.mark.parametrize("is_fused", [True, False])
def test_the_one_operation_is_used_where_it_is_right_and_only_there(
    kind: str, is_fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameter = nn.Parameter(torch.ones(3))
    settings = TrainSettings.model_validate({"optimizer": kind})
    optimizer = build_optimizer(nn.ParameterList([parameter]), settings)
    optimizer.param_groups[0]["fused"] = is_fused
    steps: list[int] = []
    monkeypatch.setattr(type(optimizer), "step", lambda self: steps.append(1))
    parameter.grad = torch.ones(3)
    take_step(optimizer)
    assert steps == [1]  # the first step makes the moments
    moments = {"exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3), "step": torch.tensor(0.0)}
    optimizer.state[parameter] = moments
    take_step(optimizer)
    assert steps == ([1] if is_fused else [1, 1])
    assert moments["step"] == (1 if is_fused else 0)
    parameter.grad = None
    take_step(optimizer)
    assert len(steps) == (2 if is_fused else 3)
