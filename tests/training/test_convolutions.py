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
