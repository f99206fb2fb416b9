from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from glasshouse.models.derived_weights import with_derived


def _weight_norm(net: nn.Module) -> None:
    nn.utils.parametrizations.weight_norm(net)


def _along_the_inputs(net: nn.Module) -> None:
    nn.utils.parametrizations.weight_norm(net, dim=1)


def _old(net: nn.Module) -> None:
    nn.utils.weight_norm(net)


def _pruned(net: nn.Module) -> None:
    prune.l1_unstructured(net, "weight", 0.5)  # type: ignore[no-untyped-call]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", [_weight_norm, _along_the_inputs, _old, _pruned])
def test_the_weights_are_those_that_the_layer_computes_with(
    change: Callable[[nn.Module], None],
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 5)
    change(layer)
    with torch.no_grad():
        for each in layer.parameters():
            each.mul_(1.5)  # as training would, so that lengths are no longer the norms
    inputs = torch.rand(2, 3, 9, 9)
    wanted = layer(inputs)
    found, notes = with_derived({f"x.{key}": v for key, v in layer.state_dict().items()})
    assert found.keys() == {"x.weight", "x.bias"} and notes
    plain = nn.Conv2d(3, 4, 5)
    plain.load_state_dict({key.removeprefix("x."): value for key, value in found.items()})
    assert torch.allclose(plain(inputs), wanted, atol=1e-6)


def test_names_that_only_look_alike_stay() -> None:
    given = {
        "a_g": torch.ones(2),
        "a_v": torch.ones(3),
        "b_mask": torch.ones(2),
        "c_g": torch.ones(1),
    }
    assert with_derived(given) == (given, ())
