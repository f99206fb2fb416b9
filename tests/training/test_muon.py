"""Muon turns banks of filters by a share of their norm, and trains all else as SGD does."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from glasshouse.settings import TrainSettings
from glasshouse.training import muon as muon_module
from glasshouse.training.muon import Muon, orthogonal
from glasshouse.training.optimizers import build_optimizer, set_learning_rate, take_step


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(),
        nn.Linear(8 * 16, 5),
    )  # fmt: skip
    return net.to(memory_format=torch.channels_last)


def filters(net: nn.Sequential) -> Tensor:
    """The only bank."""
    assert isinstance(net[0], nn.Conv2d)
    return net[0].weight


def muon(net: nn.Module, **values: object) -> Muon:
    usual = {"optimizer": "muon", "lr": 0.5, "filter_lr_factor": 0.2, "momentum": 0.6}
    optimizer = build_optimizer(net, TrainSettings.model_validate(usual | values))
    assert isinstance(optimizer, Muon)
    set_learning_rate(optimizer, 0.5)
    return optimizer


def gradients(net: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, generator=generator).to(p.device)


@pytest.mark.parametrize("has_bf16", [True, False])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("shape", [(1, 1), (8, 27), (40, 9), (24, 24)])
def test_directions_stay_and_sizes_become_alike(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], scale: float, has_bf16: bool
) -> None:
    monkeypatch.setattr(muon_module, "computes_in_bf16", lambda device: has_bf16)
    generator = torch.Generator().manual_seed(shape[1])
    matrix = torch.randn(shape, generator=generator, dtype=torch.float64)
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal((scale * matrix).float())
    assert found.dtype == (torch.bfloat16 if has_bf16 else torch.float32)
    found = found.double()
    # In the directions of the matrix; a size of a hundredth of the largest is not raised so far.
    after = torch.diagonal(left.T @ found @ right.T)
    clear = sizes > 0.2 * sizes.max()
    assert ((after[clear] > 0.5) & (after[clear] < 1.3)).all()
    torch.testing.assert_close(left * after @ right, found, atol=0.02, rtol=0)


def test_a_bank_turns_by_its_share_and_keeps_its_norm() -> None:
    net = network()
    optimizer = muon(net, momentum=0.0)
    bank = filters(net)
    before = bank.detach().clone()
    assert [each is bank for each in optimizer.banks()] == [True]
    gradients(net, 0)
    assert isinstance(bank.grad, Tensor)
    downhill = -bank.grad
    take_step(optimizer)
    change = bank.detach() - before
    assert float(bank.detach().norm()) == pytest.approx(float(before.norm()), rel=1e-5)
    # 0.5 * 0.2, but that the singular values are only about 1.
    assert float(change.norm() / before.norm()) == pytest.approx(0.1, rel=0.3)
    assert (change * downhill).sum() > 0
    assert bank.is_contiguous(memory_format=torch.channels_last)


def test_the_direction_looks_ahead_of_the_momentum() -> None:
    """Nesterov: momentum of the past gradients, and once more of the newest."""
    net = network()
    optimizer, bank = muon(net), filters(net)
    past = torch.zeros(bank.shape)
    for step in range(3):
        before = bank.detach().clone()
        gradients(net, step)
        assert isinstance(bank.grad, Tensor)
        past = 0.6 * past + bank.grad
        ahead = bank.grad + 0.6 * past
        take_step(optimizer)
        direction = orthogonal(ahead.flatten(1)).float().view(bank.shape)
        moved = before - 0.1 * before.norm() / 8**0.5 * direction
        wanted = moved * before.norm() / moved.norm()
        torch.testing.assert_close(bank.detach(), wanted, rtol=0, atol=2e-4)


def test_the_share_does_not_depend_on_the_gradient() -> None:
    found = []
    for scale in (1e-6, 1.0, 1e6):
        net = network()
        optimizer = muon(net)
        gradients(net, 0)
        for p in net.parameters():
            p.grad = None if p.grad is None else p.grad * scale
        take_step(optimizer)
        found.append(filters(net).detach().clone())
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=2e-3)


def test_everything_else_is_trained_as_by_sgd() -> None:
    """Biases, dense layers, norms, and filters of a single channel, which nothing can turn."""
    first, second = network(), network()
    ours = muon(first, weight_decay=0.1, bias_lr_factor=3.0)
    wanted = build_optimizer(
        second, TrainSettings(optimizer="sgd", lr=0.5, momentum=0.6, weight_decay=0.1,
                              bias_lr_factor=3.0),
    )  # fmt: skip
    assert isinstance(wanted, SGD)
    for step in range(4):
        for net, optimizer in ((first, ours), (second, wanted)):
            gradients(net, step)
            set_learning_rate(optimizer, 0.5 / (step + 1))
            take_step(optimizer)
    pairs = zip(first.named_parameters(), second.parameters(), strict=True)
    assert [name for (name, mine), theirs in pairs if not torch.equal(mine, theirs)] == ["0.weight"]


def test_a_schedule_lowers_the_share() -> None:
    net = network()
    optimizer = muon(net)
    set_learning_rate(optimizer, 0.05)
    rates = {group["turns"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {True: pytest.approx(0.01), False: pytest.approx(0.05)}


def test_a_bank_of_zeros_can_still_learn() -> None:
    """Some networks begin with branches that add nothing; zeros have no norm to take a share of."""
    net = network()
    with torch.no_grad():
        filters(net).zero_()
    optimizer = muon(net)
    gradients(net, 0)
    take_step(optimizer)
    assert filters(net).abs().min() > 0


def test_a_bank_without_a_gradient_is_left_alone() -> None:
    net = network()
    optimizer = muon(net)
    gradients(net, 0)
    filters(net).grad = None
    before = filters(net).detach().clone()
    take_step(optimizer)
    assert torch.equal(filters(net), before) and not optimizer.state[filters(net)]
