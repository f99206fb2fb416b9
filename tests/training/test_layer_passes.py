"""The training pass of a Sequential: what its layers compute, and dropout as torch does it."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glasshouse.training.layer_passes import Places, dropout, pass_forward, passes_of

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), block,
        nn.Conv2d(8, 8, 1), nn.Sigmoid(), nn.ReLU(),
        nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 4),
    )  # fmt: skip


def gradients(net: nn.Module, outputs: Tensor) -> list[Tensor]:
    outputs.float().square().sum().backward()  # type: ignore[no-untyped-call]
    return [p.grad for p in net.parameters() if p.grad is not None]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_outputs_gradients_and_statistics_are_those_of_the_layers(precision: torch.dtype) -> None:
    net = network()
    other = copy.deepcopy(net)
    # Few values, so that windows have ties, also among zeros.
    images = torch.randint(-2, 3, (4, 3, 16, 16)).float()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        ours, layers = pass_forward(net, images.clone()), other(images.clone())
    assert torch.equal(ours, layers)
    pairs = zip(gradients(net, ours), gradients(other, layers), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    state, other_state = net.state_dict(), other.state_dict()
    assert all(torch.equal(state[name], other_state[name]) for name in state)


@pytest.mark.parametrize(
    ("is_bf16", "shape"), [(False, (8, 300)), (True, (8, 300)), (True, (2, 4, 300))]
)
def test_a_gradient_is_written_in_its_place_with_the_bytes_that_autograd_gives_it(
    is_bf16: bool, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300), nn.Linear(300, 4))
    other = copy.deepcopy(net)
    places: Places = {p: torch.full_like(p, math.nan) for p in net.parameters()}
    left = dict(places)
    images = torch.randn(shape)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
        ours, layers = pass_forward(net, images, left), other(images)
    assert torch.equal(ours, layers)
    pairs = zip(gradients(net, ours), gradients(other, layers), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    # Small ones are not worth it.
    used = {p for p in places if p not in left}
    assert used == {net[0].weight, net[2].weight}
    for p in used:
        assert p.grad is not None and p.grad.data_ptr() == places[p].data_ptr()


@pytest.mark.parametrize("is_bf16", [False, True])
@pytest.mark.parametrize("is_one_layer", [False, True])
def test_gradients_of_a_shared_weight_have_the_same_bytes_with_and_without_a_place(
    is_one_layer: bool, is_bf16: bool
) -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(300, 300), nn.Linear(300, 300)
    second.weight = first.weight
    net = nn.Sequential(first, nn.ReLU(), first if is_one_layer else second)
    images, found = torch.randn(8, 300), []
    every: list[Places] = [{}, {first.weight: torch.full((300, 300), math.nan)}]
    for places in every:
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            outputs = pass_forward(net, images, places)
        found.append([each.clone() for each in gradients(net, outputs)])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("is_bf16", [False, True])
def test_a_frozen_weight_and_one_with_a_hook_have_no_gradient_in_a_place(is_bf16: bool) -> None:
    first, second = nn.Linear(300, 300), nn.Linear(300, 300)
    net, frozen, hooked = nn.Sequential(first, second), first.weight, second.weight
    frozen.requires_grad_(False)
    kept: list[Tensor] = []
    hooked.register_hook(kept.append)  # type: ignore[no-untyped-call]
    places: Places = {hooked: torch.full((300, 300), math.nan)}
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
        outputs = pass_forward(net, torch.randn(8, 300), places)
    gradients(net, outputs)
    assert frozen.grad is None and list(places) == [hooked]
    assert hooked.grad is not None and torch.equal(kept[0], hooked.grad)
    assert places[hooked].isnan().all()


def test_places_are_not_used_in_float32_for_inputs_of_three_dimensions() -> None:
    net = nn.Sequential(nn.Linear(300, 300), nn.ReLU())
    other, images = copy.deepcopy(net), torch.randn(2, 4, 300)
    place = torch.full((300, 300), math.nan)
    outputs = pass_forward(net, images, {net.get_parameter("0.weight"): place})
    pairs = zip(gradients(net, outputs), gradients(other, other(images)), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert place.isnan().all()


def test_places_are_not_used_in_other_precisions() -> None:
    layer = nn.Linear(300, 300)
    net, places = nn.Sequential(layer), {layer.weight: torch.zeros(300, 300)}
    with torch.autocast("cpu", torch.float16):
        pass_forward(net, torch.ones(2, 300), places)
    assert len(places) == 1


def test_pooling_comes_first_and_only_values_that_nobody_reads_are_overwritten() -> None:
    net = network()
    passes = passes_of(net, CPU)
    kinds = [each if each is torch.relu_ else type(each) for each in passes]
    assert kinds[:7] == [
        nn.Conv2d, nn.MaxPool2d, torch.relu_, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, torch.relu_
    ]  # fmt: skip
    # The gradient of a sigmoid is computed from its output.
    assert kinds[8:10] == [nn.Sigmoid, nn.ReLU]


def test_a_network_with_hooks_runs_its_layers_as_they_stand() -> None:
    for place in ("relu", "net", "block"):
        net = network()
        layer = {"relu": net[1], "net": net, "block": net[3]}[place]
        seen: list[Tensor] = []
        layer.register_forward_hook(lambda module, given, made, seen=seen: seen.append(made))
        images = torch.randn(2, 3, 16, 16)
        pass_forward(net, images)
        assert len(seen) == 1
    net = network()
    net[1].register_forward_hook(lambda *given: None)
    assert passes_of(net, CPU) == [net]


def test_a_class_of_the_users_own_runs_its_own_forward_pass() -> None:
    class Doubled(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            made: Tensor = super().forward(inputs)  # type: ignore[no-untyped-call]
            return 2 * made

    net = Doubled(nn.Linear(3, 2))
    rows = torch.randn(4, 3)
    assert torch.equal(pass_forward(net, rows), net(rows))
    inside = nn.Sequential(nn.Linear(3, 3), Doubled(nn.Linear(3, 2)))
    assert torch.equal(pass_forward(inside, rows), inside(rows))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.75])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(1)
    count = 200_000
    values = dropout(torch.ones(count), rate)
    share = (values == 0).double().mean().item()
    assert abs(share - rate) <= 5 * math.sqrt(rate * (1 - rate) / count)
    kept = values[values != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=2e-5, atol=0)


def test_dropout_decides_on_each_value_by_itself() -> None:
    torch.manual_seed(2)
    drawn = (dropout(torch.ones(40_000), 0.5) == 0).double().numpy()
    for distance in range(1, 9):
        # Four values share a random number.
        assert abs(np.corrcoef(drawn[distance:], drawn[:-distance])[0, 1]) < 0.03
    assert len(np.unique(drawn.reshape(-1, 4), axis=0)) == 16


def test_dropout_follows_the_seed_and_drops_the_same_gradients() -> None:
    values = torch.rand(3, 5, 7, 2).contiguous(memory_format=torch.channels_last)
    values.requires_grad_()
    torch.manual_seed(3)
    first = dropout(values, 0.4)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(values, 0.4))
    assert not torch.equal(first, dropout(values, 0.4))
    assert first.stride() == values.stride()
    first.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert torch.equal(values.grad == 0, first == 0)


def test_everything_is_dropped_at_a_rate_of_one_and_nothing_in_evaluation() -> None:
    assert torch.equal(dropout(torch.ones(9), 1.0), torch.zeros(9))
    layer = nn.Dropout(0.9)
    layer.eval()
    ones = torch.ones(50)
    assert torch.equal(pass_forward(nn.Sequential(layer), ones), ones)
    layer.train()
    assert not torch.equal(pass_forward(nn.Sequential(layer), ones), ones)


def test_on_a_gpu_dropout_is_torchs_and_no_maximum_is_adaptive() -> None:
    net = nn.Sequential(nn.Dropout(), nn.AdaptiveMaxPool2d(1), nn.AdaptiveMaxPool2d((2, 2)))
    dropped, largest, windows = passes_of(net, torch.device("cuda"))
    assert dropped is net[0] and windows is net[2]
    # Maps with ties: the gradient goes to the same one of them.
    maps = torch.randint(0, 3, (2, 4, 5, 6)).float()
    found = []
    for way in (largest, net[1]):
        leaf = maps.clone().requires_grad_()
        pooled = way(leaf)
        pooled.square().sum().backward()
        assert leaf.grad is not None
        found.append((pooled, leaf.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize(
    "hook",
    [
        "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)  # fmt: skip
def test_any_hook_leaves_a_network_as_it_is(hook: str) -> None:
    net = network()
    getattr(net[5], hook)(lambda *given: None)
    assert passes_of(net, CPU) == [net]


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.3, 0.9])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 4096])
def test_a_value_is_dropped_by_sixteen_bits_of_its_own(rate: float, count: int) -> None:
    values = torch.arange(1.0, count + 1)
    torch.manual_seed(7)
    found = dropout(values, rate)
    torch.manual_seed(7)
    numbers = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).numpy()
    # The lowest 16 of 64 bits first; as numbers from 0 on, those below the rate are dropped.
    bits = [(int(n) >> shift) & 65535 for n in numbers for shift in (0, 16, 32, 48)][:count]
    limit = round(rate * 65536)
    signed = [each - 65536 if each >= 32768 else each for each in bits]
    kept = torch.tensor([each + 32768 >= limit for each in signed])
    assert torch.equal(found != 0, kept)
    torch.testing.assert_close(found[kept], values[kept] * 65536 / (65536 - limit))


def test_layers_that_are_not_meant_stay_as_they_are() -> None:
    relu, given = nn.ReLU(), torch.tensor([-1.0, 2.0])
    assert passes_of(nn.Sequential(relu), CPU) == [relu]
    pass_forward(nn.Sequential(relu), given)
    assert given.tolist() == [-1, 2]  # the input is the caller's
    indices = nn.MaxPool2d(2, return_indices=True)
    assert passes_of(nn.Sequential(relu, indices), CPU) == [relu, indices]
    overwriting, largest = nn.Dropout(0.5, inplace=True), nn.AdaptiveMaxPool2d(1)
    assert passes_of(nn.Sequential(overwriting, largest), CPU) == [overwriting, largest]
