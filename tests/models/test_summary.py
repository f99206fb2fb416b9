import pytest
import torch
from torch import Tensor, nn

from glasshouse.errors import ModelError
from glasshouse.models.summary import format_summary, summarize


def _net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, 6, (3, 1), stride=2, groups=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 3 * 4, 5),
    )


def test_rows_have_shapes_parameters_and_multiply_adds() -> None:
    summary = summarize(_net(), (4, 8, 8))
    assert [row.output_shape for row in summary.rows] == [(6, 3, 4)] * 3 + [(72,), (5,)]
    assert [row.parameters for row in summary.rows] == [6 * 2 * 3 + 6, 12, 0, 0, 72 * 5 + 5]
    assert [row.macs for row in summary.rows] == [6 * 3 * 4 * 2 * 3, 0, 0, 0, 72 * 5]
    assert (summary.parameters, summary.macs) == (42 + 12 + 365, 432 + 360)


def test_frozen_parameters_are_counted_separately() -> None:
    net = _net()
    net[0].weight.requires_grad_(False)
    net[4].requires_grad_(False)
    summary = summarize(net, (4, 8, 8))
    assert summary.trainable == summary.parameters - 36 - 365
    text = format_summary(summary)
    assert "42 (in part)" in text
    assert "365 (frozen)" in text


class _Odd(nn.Module):
    """Parameters next to children, a layer called twice, one never called, a shared weight."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(3))
        self.twice = nn.Linear(3, 3)
        self.never = nn.Linear(3, 2)
        self.shared = nn.Linear(3, 3, bias=False)
        self.shared.weight = self.twice.weight

    def forward(self, images: Tensor) -> Tensor:
        rows = images.mean((2, 3)) + self.offset
        output: Tensor = self.shared(self.twice(self.twice(rows)))
        return output


def test_odd_nets_are_counted_right() -> None:
    rows = {row.name: row for row in summarize(_Odd(), (3, 4, 4)).rows}
    assert rows["(network)"].parameters == 3
    assert rows["twice"].macs == 2 * 9
    assert (rows["never"].output_shape, rows["never"].parameters) == (None, 8)
    assert (rows["shared"].parameters, rows["shared"].macs) == (0, 9)


@pytest.mark.parametrize("size", [8, 9])
def test_the_net_is_left_as_it_was_also_after_an_error(size: int) -> None:
    net = _net().train()
    net[1].eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    random = torch.get_rng_state()
    if size == 8:
        summarize(net, (4, size, size))
    else:
        with pytest.raises(ModelError, match="does not accept images of 4x9x9"):
            summarize(net, (4, size, size))
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(not module._forward_hooks for module in net.modules())
    assert torch.equal(random, torch.get_rng_state())


def test_the_table_is_aligned() -> None:
    lines = format_summary(summarize(_net(), (4, 8, 8))).splitlines()
    head, rule = lines[0], lines[1]
    assert head.index("type") == rule.split("  ")[0].__len__() + 2
    assert "4x8x8" in lines[2]
    assert lines[-1].startswith("419 parameters, 419 trainable, 0 frozen; 792 multiply-adds")
