import torch
from torch import Tensor, nn

from glasshouse.models.pretrained import build_net, weight_names
from glasshouse.models.renamed_parts import with_own_names


def _found(name: str, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    known = weight_names(name, {})
    return with_own_names(weights, known.shapes, known.head)


class Wrapped(nn.Module):
    """What many write: the children of a network without its head, and a head of their own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*list(net.children())[:-1])
        self.classifier = nn.Linear(512, 5)


def test_the_children_of_a_network_in_a_sequential_get_its_names() -> None:
    net = build_net("resnet18", 5, {}, seed=3)
    wrapped = Wrapped(net)
    found, words = _found("resnet18", wrapped.state_dict())
    wanted = net.state_dict()
    assert found.keys() == wanted.keys()
    for key, value in found.items():
        own = wrapped.classifier.state_dict()[key[3:]] if key.startswith("fc.") else wanted[key]
        assert torch.equal(value, own), key
    assert "'features.4' as 'layer1'" in words


def test_a_head_of_another_name_is_found_next_to_a_prefix() -> None:
    state = build_net("mobilenet_v2", 4, {}, seed=3).state_dict()
    given = {
        "cls.weight" if key == "classifier.1.weight"
        else "cls.bias" if key == "classifier.1.bias"
        else f"backbone.{key}": value
        for key, value in state.items()
    }  # fmt: skip
    found, _ = _found("mobilenet_v2", given)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_parts_that_are_alike_are_told_apart_by_name_or_not_at_all() -> None:
    shapes = {"a.weight": (2, 2), "b.weight": (2, 2)}
    first, second = torch.zeros(2, 2), torch.ones(2, 2)
    found, _ = with_own_names({"x.b.weight": second, "x.a.weight": first}, shapes, ())
    assert torch.equal(found["a.weight"], first) and torch.equal(found["b.weight"], second)
    given = {"x.c.weight": second, "x.d.weight": first}
    assert with_own_names(given, shapes, ()) == (given, "")


def test_two_heads_are_not_guessed() -> None:
    given = {
        **Wrapped(build_net("resnet18", 5, {})).state_dict(),
        "colour.weight": torch.zeros(3, 512),
    }
    assert _found("resnet18", given)[1] == ""


def test_another_network_with_the_same_shapes_is_not_taken_for_this_one() -> None:
    # The blocks of resnet50c and resnet50d have the same layers, of which one is elsewhere.
    given = build_net("resnet50d", 5, {}).state_dict()
    assert _found("resnet50c", given)[1] == ""
