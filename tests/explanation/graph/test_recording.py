import torch
from torch import Tensor, nn

from glasshouse.explanation.graph.recording import visit_outputs


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
