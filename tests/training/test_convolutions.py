from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glasshouse.training import convolutions
from glasshouse.training.convolutions import SideBySide, faster_convolutions, maps_in_a_row

COUNT, CHANNELS, FILTERS = 8, 64, 72


def gradients(net: nn.Module, maps: Tensor, outer: Tensor, mode: object) -> list[Tensor]:
    """Of the input and of every parameter, in bf16 autocast."""
    net.zero_grad()
    leaf = maps.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), mode:  # type: ignore[attr-defined]
        output = net(leaf)
    (output.float() * outer).sum().backward()
    return [leaf.grad, *(p.grad.clone() for p in net.parameters())]  # type: ignore[union-attr, list-item]


@pytest.mark.parametrize("size", [(7, 7), (3, 3), (5, 12), (1, 1)])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 5), (5, 3)])
def test_gradients_are_those_of_torch(
    size: tuple[int, int], kernel: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    own = convolutions._side_by_side

    def counted(maps: Tensor, count: int, gap: int) -> Tensor:
        calls.append(count)
        return own(maps, count, gap)

    monkeypatch.setattr(convolutions, "_side_by_side", counted)
    torch.manual_seed(0)
    net = nn.Conv2d(CHANNELS, FILTERS, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
    maps = torch.randn(COUNT, CHANNELS, *size).contiguous(memory_format=torch.channels_last)
    outer = torch.randn(COUNT, FILTERS, *size)
    ours = gradients(net, maps, outer, SideBySide())
    plain = gradients(net, maps, outer, faster_convolutions(torch.zeros(0)))
    # The same sums of the same bf16 products, rounded to bf16 once: a few last digits may differ.
    for one, other in zip(ours, plain, strict=True):
        assert torch.allclose(one, other, rtol=0.02, atol=0.01 * other.abs().max().item())
    assert len(calls) == 2
    assert min(calls) > 1


def test_no_kernel_sees_two_images() -> None:
    maps = torch.arange(1.0, 4 * 2 * 3 + 1).reshape(4, 1, 2, 3)
    row = convolutions._side_by_side(maps, 4, 1)
    assert row.shape == (1, 1, 2, 16)
    for place in range(4):
        assert torch.equal(row[0, :, :, place * 4 : place * 4 + 3], maps[place])
        assert row[0, 0, :, place * 4 + 3].eq(0).all()


@pytest.mark.parametrize(
    ("count", "width", "expected"), [(512, 7, 4), (512, 3, 8), (6, 7, 2), (7, 7, 1), (512, 16, 1)]
)
def test_as_many_maps_in_a_row_as_fill_a_tile(count: int, width: int, expected: int) -> None:
    maps, weight = torch.empty(count, 1, width, width), torch.empty(1, 1, 3, 3)
    assert maps_in_a_row(maps, weight) == expected


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2),
        nn.Conv2d(64, 64, 3, padding=1, groups=64),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 3, padding="same"),
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(64, 32, 3, padding=1),
    ],
)
def test_other_convolutions_are_unchanged(
    layer: nn.Conv2d, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolutions, "_side_by_side", None)
    outer = torch.ones(())
    plain = gradients(layer, torch.ones(8, 64, 7, 7), outer, faster_convolutions(torch.zeros(0)))
    ours = gradients(layer, torch.ones(8, 64, 7, 7), outer, SideBySide())
    assert all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))


def test_float32_is_unchanged() -> None:
    torch.manual_seed(0)
    layer, maps = nn.Conv2d(64, 64, 3, padding=1), torch.randn(8, 64, 7, 7)
    with SideBySide():
        output = layer(maps)
    assert output.grad_fn is not None
    assert output.grad_fn.name() == "ConvolutionBackward0"


@pytest.mark.parametrize(("count", "has_tiles"), [(512, True), (512, False), (32, True)])
def test_small_batches_and_processors_without_tiles_are_left_alone(
    count: int, has_tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolutions, "has_matrix_tiles", lambda: has_tiles)
    chosen = faster_convolutions(torch.empty(count, 3, 32, 32))
    assert isinstance(chosen, SideBySide) == (count == 512 and has_tiles)


SMALL: dict[str, Any] = {
    "channels": 64,
    "filters": 64,
    "size": (7, 12),
    "kernel": (3, 3),
    "count": 8,
}


@pytest.mark.parametrize(
    ("change", "is_small"),
    [
        ({}, True),
        ({"size": (40, 12)}, True),
        ({"size": (7, 13)}, False),
        ({"channels": 63}, False),
        ({"filters": 63}, False),
        ({"kernel": (1, 1)}, False),
        ({"kernel": (1, 3)}, True),
        ({"kernel": (3, 1)}, True),
        ({"kernel": (2, 3)}, False),
        ({"count": 7}, False),
        ({"count": 2}, True),
        ({"padding": (1, 0)}, False),
        ({"padding": (0, 1)}, False),
        ({"stride": (1, 2)}, False),
        ({"dilation": (2, 1)}, False),
        ({"groups": 2}, False),
        ({"trained": False}, False),
        ({"dtype": torch.float16}, False),
        ({"enabled": False}, False),
    ],
)
def test_what_gains_is_a_small_map_with_same_padding_in_bf16(
    change: dict[str, Any], is_small: bool
) -> None:
    wanted = {**SMALL, **change}
    kernel = wanted["kernel"]
    weight = torch.empty(wanted["filters"], wanted["channels"], *kernel)
    weight.requires_grad_(wanted.get("trained", True))
    inputs = torch.empty(wanted["count"], wanted["channels"], *wanted["size"])
    how = (
        wanted.get("stride", (1, 1)),
        wanted.get("padding", (kernel[0] // 2, kernel[1] // 2)),
        wanted.get("dilation", (1, 1)),
        wanted.get("groups", 1),
    )
    dtype, enabled = wanted.get("dtype", torch.bfloat16), wanted.get("enabled", True)
    with torch.autocast("cpu", dtype, enabled=enabled):
        assert convolutions._is_small(inputs, weight, None, *how) == is_small
        # What is left out are the defaults of torch.
        if kernel == (1, 1):
            assert not convolutions._is_small(inputs, weight)


@pytest.mark.parametrize(("values", "is_taken"), [(128 * 3072, True), (128 * 3072 - 1, False)])
def test_a_batch_is_large_enough_from_a_size_on(
    values: int, is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolutions, "has_matrix_tiles", lambda: True)
    assert isinstance(faster_convolutions(torch.empty(values)), SideBySide) == is_taken
    assert not isinstance(faster_convolutions(torch.empty(values, device="meta")), SideBySide)


@pytest.mark.parametrize(
    ("count", "width", "kernel", "expected"),
    # A row of maps, each with its gap, has up to 32 values.
    [(64, 7, 3, 4), (64, 8, 1, 4), (64, 15, 3, 2), (64, 16, 3, 1), (64, 1, 1, 32), (48, 1, 1, 16),
     (64, 6, 5, 4), (64, 7, 5, 2)],
)  # fmt: skip
def test_maps_and_their_gaps_fill_a_tile(
    count: int, width: int, kernel: int, expected: int
) -> None:
    maps, weight = torch.empty(count, 1, 2, width), torch.empty(1, 1, 9, kernel)
    assert maps_in_a_row(maps, weight) == expected


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_only_gradients_that_are_asked_for_are_computed(
    wanted: tuple[bool, bool], has_bias: bool
) -> None:
    torch.manual_seed(0)
    maps = torch.randn(4, 64, 3, 3, dtype=torch.bfloat16, requires_grad=wanted[0])
    weight = torch.randn(64, 64, 3, 3, dtype=torch.bfloat16, requires_grad=wanted[1])
    bias = torch.randn(64, dtype=torch.bfloat16, requires_grad=True) if has_bias else None
    leaves = [each for each in (maps, weight, bias) if each is not None and each.requires_grad]
    made = convolutions._Convolution.apply(maps, weight, bias)
    plain = nn.functional.conv2d(maps, weight, bias, padding=1)
    assert torch.equal(made, plain)
    if not leaves:
        assert not made.requires_grad
        return
    outer = torch.randn(made.shape, dtype=torch.bfloat16)
    ours = torch.autograd.grad(made, leaves, outer)
    theirs = torch.autograd.grad(plain, leaves, outer)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=0.02, atol=0.01 * other.abs().max().item())


@pytest.mark.parametrize("kernel", [(3, 3), (1, 5), (5, 3)])
def test_maps_have_no_more_between_them_than_half_a_kernel(
    kernel: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wider gap would give the same gradients, slower."""
    gaps: list[int] = []
    own = convolutions._side_by_side

    def noted(maps: Tensor, count: int, gap: int) -> Tensor:
        gaps.append(gap)
        return own(maps, count, gap)

    monkeypatch.setattr(convolutions, "_side_by_side", noted)
    net = nn.Conv2d(CHANNELS, FILTERS, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
    gradients(net, torch.zeros(8, CHANNELS, 3, 3), torch.zeros(8, FILTERS, 3, 3), SideBySide())
    assert gaps == [kernel[1] // 2] * 2
