import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glasshouse.errors import ModelError
from glasshouse.models.freezing import freeze, head_of, stages, unfreeze
from glasshouse.models.layers import build
from glasshouse.models.pretrained import build_net
from glasshouse.settings import ModelSettings


def _net() -> Any:
    layers: list[dict[str, Any]] = [
        {"type": "conv", "filters": 4, "padding": "same", "activation": "relu"},
        {"type": "batch_norm"},
        {"type": "dropout", "rate": 0.5},
        {"type": "conv", "filters": 4, "padding": "same", "activation": "relu"},
        {"type": "batch_norm"},
        {"type": "global_average_pool"},
        {"type": "dropout", "rate": 0.5},
        {"type": "dense", "units": "classes"},
    ]
    settings = ModelSettings.model_validate({"layers": layers})
    return build(settings, 3, (3, 8, 8), seed=0)


def _train(net: nn.Module, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, weight_decay=0.1)
    for step in range(steps):
        net.train()
        generator = torch.Generator().manual_seed(step)
        logits = net(torch.rand(6, 3, 8, 8, generator=generator))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2] * 2))
        torch.autograd.backward(loss)
        optimizer.step()


def _moved(net: nn.Module, before: dict[str, Tensor]) -> set[str]:
    state = net.state_dict()
    return {key.partition(".")[0] for key in state if not torch.equal(state[key], before[key])}


@pytest.mark.parametrize(
    ("trainable", "moves"),
    [
        ("head", {"dense1"}),
        ("last-1", {"conv2", "batch_norm2", "dense1"}),
        (["conv2"], {"conv2"}),
        ("conv1, dense1", {"conv1", "dense1"}),
        ("all", {"conv1", "batch_norm1", "conv2", "batch_norm2", "dense1"}),
    ],
)
def test_frozen_bytes_are_equal_after_training(trainable: Any, moves: set[str]) -> None:
    net = _net()
    freeze(net, trainable)
    before = copy.deepcopy(net.state_dict())
    _train(net)
    assert _moved(net, before) == moves
    for name, parameter in net.named_parameters():
        assert (parameter.grad is None) == (name.partition(".")[0] not in moves)


def test_a_name_that_begins_like_another_trains_only_its_own_layer() -> None:
    torch.manual_seed(0)
    net = nn.Sequential()
    for name in ("layer1", "layer10", "layer1x"):
        net.add_module(name, nn.Sequential(nn.Conv2d(3, 3, 1)))
    net.add_module("head", nn.Linear(3, 2))
    freeze(net, ["layer1"])
    trained = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    assert trained == ["layer1.0.weight", "layer1.0.bias"]
    freeze(net, ["layer10", "head"])
    trained = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    assert trained == ["layer10.0.weight", "layer10.0.bias", "head.weight", "head.bias"]


def test_dropout_is_off_in_frozen_layers_and_on_in_the_head() -> None:
    net = _net()
    freeze(net, "head")
    net.train()
    images = torch.rand(2, 3, 8, 8)
    body = net[:-2]
    assert torch.equal(body(images), body(images))
    assert not net.dropout1.training
    assert net.dropout2.training
    assert not torch.equal(net(images), net(images))


def test_freezing_survives_train_mode_and_copies() -> None:
    net = _net()
    freeze(net, "head")
    for each in (net, copy.deepcopy(net)):
        before = copy.deepcopy(each.state_dict())
        for module in each.modules():
            module.training = True
        each(torch.rand(4, 3, 8, 8))
        assert _moved(each, before) == set()


def test_freezing_again_replaces_what_was_frozen() -> None:
    net = _net()
    freeze(net, "head")
    freeze(net, "last-1")
    net.train()
    assert net.batch_norm2.training
    assert net.conv2.weight.requires_grad
    net(torch.rand(4, 3, 8, 8))
    assert not net.batch_norm1.training


def test_gradients_of_newly_frozen_parameters_are_dropped() -> None:
    net = _net()
    _train(net, steps=1)
    freeze(net, "head")
    # An optimizer would keep updating whatever has a gradient, frozen or not.
    assert net.conv1.weight.grad is None
    assert net.dense1.weight.grad is not None


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "squeezenet1_0"])
def test_backbones_of_other_libraries_can_be_frozen_too(name: str) -> None:
    drop = {"drop_path_rate": 0.5} if name.startswith("test_") else {}
    net = build_net(name, 3, drop)
    head = set(freeze(net, "head").trainable)
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net.train()
    torch.autograd.backward(net(torch.rand(2, 3, 160, 160)).logsumexp(1).sum())
    optimizer.step()
    state = net.state_dict()
    moved = {key.rpartition(".")[0] for key in state if not torch.equal(state[key], before[key])}
    assert moved == head


def test_unfreezing_restores_the_network() -> None:
    net = _net().train()
    freeze(net, "head")
    unfreeze(net)
    assert all(module.training for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(not module._forward_pre_hooks for module in net.modules())


def test_the_report_says_what_is_trainable() -> None:
    net = _net()
    freezing = freeze(net, "head")
    assert (freezing.trainable, freezing.trainable_parameters) == (("dense1",), 15)
    total = sum(p.numel() for p in net.parameters())
    assert freezing.frozen_parameters == total - 15
    assert str(freezing) == f"trainable: dense1 (15 of {total}, {1500 / total:.1f} %)"
    assert str(freeze(net, "all")).startswith("trainable: everything")


def test_a_normalisation_belongs_to_the_stage_that_it_follows() -> None:
    assert stages(_net()) == (("conv1", "batch_norm1"), ("conv2", "batch_norm2"), ("dense1",))
    assert head_of(_net()) == ("dense1",)


class _OwnParameters(nn.Module):
    """A parameter and a functional dropout at the root, and a sequence of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(4))
        self.blocks = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, rows: Tensor) -> Tensor:
        rows = nn.functional.dropout(self.blocks(rows + self.token), 0.5, self.training)
        output: Tensor = self.head(rows)
        return output


def test_parameters_at_the_root_are_frozen_unless_all_is_trainable() -> None:
    net = _OwnParameters()
    assert stages(net) == (("blocks.0",), ("blocks.1",), ("head",))
    freeze(net, "last-2")
    assert not net.token.requires_grad
    assert net.blocks[0].weight.requires_grad
    net.train()(torch.rand(2, 4))
    assert net.training
    freeze(net, "all")
    assert net.token.requires_grad


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        ("dense2", "no module of the net.*Did you mean 'dense1'"),
        ("relu1", "'relu1': it has no parameters"),
        ("last-3", "last-3: the network has 2 stages before its head"),
        ("last-0", "last-0"),
        (["head"], "no module of the net"),
    ],
)
def test_an_unknown_module_is_named_and_nothing_changes(trainable: Any, message: str) -> None:
    net = _net()
    freeze(net, "head")
    with pytest.raises(ModelError, match=message):
        freeze(net, trainable)
    assert not net.conv1.weight.requires_grad


def test_a_net_without_parameters_cannot_be_frozen() -> None:
    with pytest.raises(ModelError, match="no parameters"):
        freeze(nn.Sequential(nn.ReLU()), "head")
