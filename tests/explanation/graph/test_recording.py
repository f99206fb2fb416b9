import weakref

import pytest
import torch
from torch import Tensor, nn

from glasshouse.explanation.graph.recording import gradients, record, visit_outputs


class Thrice(nn.Module):
    """Adds one three times, with one and the same layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)
        nn.init.ones_(self.layer.weight)
        nn.init.ones_(self.layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.layer(x)
        return x


def test_each_call_of_a_layer_is_shown_with_its_number() -> None:
    seen = []
    visit_outputs(
        Thrice(), torch.zeros(1, 1, 1, 1), {"layer"},
        lambda name, number, output: seen.append((name, number, float(output))),
    )  # fmt: skip
    assert seen == [("layer", 0, 1.0), ("layer", 1, 2.0), ("layer", 2, 3.0)]


def test_nothing_is_kept_for_a_backward_pass_before_a_named_layer() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 4, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    alive = []

    def keep_track(module: nn.Module, _: object, output: Tensor) -> None:
        alive.append(weakref.ref(output))

    net[0].register_forward_hook(keep_track)
    inputs = torch.randn(2, 3, 8, 8)
    whole = record(net, inputs, keep={"2"})
    # GELU saves its input, the output of the first convolution.
    assert alive.pop()() is not None
    cut = record(net, inputs, keep={"2"}, cut="2")
    assert alive.pop()() is None
    selector = torch.eye(3)[:2]
    for rule in ("vanilla", "guided"):
        edges = [[call.edge for call in each.calls if call.edge] for each in (whole, cut)]
        expected, found = (
            gradients(each, selector, edge, rule)
            for each, edge in zip((whole, cut), edges, strict=True)
        )
        assert torch.equal(expected[0], found[0])


def test_values_overwritten_after_a_named_layer_are_noticed() -> None:
    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            values = self.features(inputs).sigmoid()
            answer: Tensor = self.head((values * values).mean((2, 3)))
            values.add_(1)
            return answer

    recording = record(Overwrites(), torch.randn(1, 3, 8, 8), keep={"features"}, cut="features")
    (edge,) = (call.edge for call in recording.calls)
    assert edge is not None
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(recording, torch.eye(3)[:1], [edge])
