"""Counted operations are those that the shapes of the layers give, and nothing is changed by it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from glasshouse.data.images import Splits
from glasshouse.settings import TrainSettings, TransferSettings
from glasshouse.training import operations
from glasshouse.training.operations import (
    features_flop,
    forward_flop,
    image_flop,
    training_flop,
    update_flop,
)
from glasshouse.training.optimizers import build_optimizer
from glasshouse.training.state import TrainingState, begin

# Multiply-adds of tiny_net for 16x16 pixels: outputs times the values that each is a sum of.
FIRST, SECOND, HEAD = 8 * 256 * 27, 16 * 64 * 72, 4 * 256
SHAPE = (3, 16, 16)


def begun(net: nn.Module, epochs: int, **values: Any) -> tuple[TrainingState, TrainSettings]:
    """A training of which this many epochs are done."""
    settings = TrainSettings.model_validate({"epochs": 6, "batch_size": 32} | values)
    state = begin(net, settings, torch.device("cpu"))
    state.epoch = epochs
    return state, settings


def test_a_step_takes_three_forward_passes_but_for_the_gradient_of_the_image(
    tiny_net: nn.Module,
) -> None:
    before, random = copy.deepcopy(tiny_net.state_dict()), torch.random.get_rng_state()
    assert forward_flop(tiny_net, SHAPE) == 2 * (FIRST + SECOND + HEAD)
    assert image_flop(tiny_net, SHAPE) == 2 * (2 * FIRST + 3 * SECOND + 3 * HEAD)
    assert str(tiny_net.state_dict()) == str(before)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(p.grad is None for p in tiny_net.parameters())


def test_they_are_those_of_torch() -> None:
    from torchvision.models import resnet18

    net = resnet18()
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(2, 3, 32, 32)).sum().backward()
    assert image_flop(net, (3, 32, 32)) == counter.get_total_flops() // 2


class Upwards(nn.Sequential):
    """A transposed convolution between two others, in groups."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 8, 3, stride=2, groups=4), nn.Conv2d(8, 2, 3)
        )


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5", "upwards"])
def test_a_convolution_in_groups_takes_as_many_backward_for_each_gradient(name: str) -> None:
    from torchvision.models import get_model

    net = Upwards() if name == "upwards" else get_model(name, weights=None)
    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    side = (32 - first.kernel_size[0] + 2 * int(first.padding[0])) // first.stride[0] + 1
    of_first = 2 * side**2 * first.weight.numel()
    assert image_flop(net, (3, 32, 32)) == 3 * forward_flop(net, (3, 32, 32)) - of_first


def test_attention_by_one_kernel_is_counted_as_its_products() -> None:
    class Attending(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            tokens = images.flatten(2).transpose(1, 2).unsqueeze(1)
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)

    assert forward_flop(Attending(), SHAPE) == 2 * (2 * 256 * 256 * 3)


def test_a_frozen_part_has_no_backward_pass(tiny_net: nn.Module) -> None:
    for parameter in list(tiny_net.parameters())[:-2]:
        parameter.requires_grad_(False)
    assert image_flop(tiny_net, SHAPE) == 2 * (FIRST + SECOND + 2 * HEAD)


def test_a_training_takes_those_of_all_its_images_and_epochs(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    state, settings = begun(tiny_net, 4)
    images = tiny_splits.train
    found = training_flop(state, settings, TransferSettings(), images)
    assert found == 4 * len(images) * image_flop(tiny_net, (3, images.height, images.width))


def test_each_stage_of_gradual_unfreezing_takes_its_own(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    """Of six epochs, two of the head, two of it and the second convolution, one of all so far."""
    transfer = TransferSettings(way="gradual", unfreeze=("9", "4,9", "all"))
    state, settings = begun(tiny_net, 5)
    head = 2 * (FIRST + SECOND + 2 * HEAD)
    both = 2 * (FIRST + 2 * SECOND + 3 * HEAD)
    whole = 2 * (2 * FIRST + 3 * SECOND + 3 * HEAD)
    per_image = 2 * head + 2 * both + whole
    images = tiny_splits.train
    assert training_flop(state, settings, transfer, images) == len(images) * per_image


def test_updates_of_muon_are_counted(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    state, settings = begun(tiny_net, 2, optimizer="muon")

    def rounds(rows: int, columns: int) -> int:
        return 3 * 2 * (2 * rows * rows * columns + rows**3)

    assert update_flop(state.optimizer) == rounds(8, 27) + rounds(16, 72)
    images = tiny_splits.train
    steps = 2 * len(images) // 32
    passes = 2 * len(images) * image_flop(tiny_net, SHAPE)
    wanted = passes + steps * update_flop(state.optimizer)
    assert training_flop(state, settings, TransferSettings(), images) == wanted
    assert update_flop(build_optimizer(tiny_net, TrainSettings())) == 0


def test_large_networks_are_counted_without_values(
    tiny_net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, devices = image_flop(tiny_net, SHAPE), []
    first = tiny_net[0]  # type: ignore[index]
    first.register_forward_pre_hook(lambda layer, args: devices.append(args[0].device.type))
    monkeypatch.setattr(operations, "_LARGE", 100)
    assert image_flop(tiny_net, SHAPE) == wanted
    assert image_flop(ByValue(), SHAPE) == 2 * 2 * 2 * 768
    assert devices == ["meta"]


class ByValue(nn.Module):
    """Does something else where the image is dark, as only its values tell."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 16 * 16, 2)

    def forward(self, images: Tensor) -> Tensor:
        rows = images.flatten(1)
        answers: Tensor = self.layer(rows if float(rows.sum()) > 1 else -rows)
        return answers


def test_a_network_that_looks_at_values_is_counted_too() -> None:
    assert image_flop(ByValue(), SHAPE) == 2 * 2 * 2 * 768


def test_what_cannot_be_counted_loses_no_training(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    class ForEight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_net

        def forward(self, images: Tensor) -> Tensor:
            answers: Tensor = self.inner(images.view(8, *SHAPE))
            return answers

    state, settings = begun(ForEight(), 2)
    assert training_flop(state, settings, TransferSettings(), tiny_splits.train) is None
    assert features_flop(state.net, tiny_splits.train, 2) is None
    found = features_flop(tiny_net, tiny_splits.train, 2)
    assert found == 2 * len(tiny_splits.train) * forward_flop(tiny_net, SHAPE)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_counts(heads: int) -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.MultiheadAttention(16, heads, batch_first=True)

        def forward(self, images: Tensor) -> Tensor:
            tokens = images.mean(dim=1)
            answers: Tensor = self.layer(tokens, tokens, tokens)[0].mean(dim=1)
            return answers

    projections, products = 4 * 16 * 16 * 16, 2 * 16 * 16 * 16
    assert forward_flop(Attending(), SHAPE) == 2 * (projections + products)
