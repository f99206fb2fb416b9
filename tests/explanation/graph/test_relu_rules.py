from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.autograd.graph import Node

from glasshouse.errors import ModelError
from glasshouse.explanation.graph.relu_rules import (
    ReluCount,
    applied,
    count_relus,
    describe_count,
    kind_of,
    require_open_graph,
)


def node_of(function: Callable[[Tensor], Tensor]) -> Node:
    node = function(torch.randn(2, 3, requires_grad=True)).grad_fn
    assert node is not None
    return node


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (functional.relu, "relu"),
        (torch.relu, "relu"),
        (lambda x: functional.relu_(x * 1), "relu"),
        (lambda x: x.clamp(min=0), "relu"),
        (lambda x: torch.clamp_min(x, 0), "relu"),
        (lambda x: functional.threshold(x, 0, 0), "relu"),
        (functional.relu6, "relu6"),
        (lambda x: x.clamp(0, 6), "relu6"),
        (functional.hardtanh, "other"),
        (lambda x: x.clamp(min=1), "other"),
        (functional.silu, "other"),
        (functional.gelu, "other"),
        (functional.leaky_relu, "other"),
        (nn.PReLU(), "other"),
        (lambda x: x.mean(0), "none"),
    ],
)
def test_each_operation_is_known_for_what_it_is(
    function: Callable[[Tensor], Tensor], kind: str
) -> None:
    assert kind_of(node_of(function)) == kind


@pytest.mark.parametrize(
    ("rule", "expected"), [("vanilla", [1, 0, -1]), ("guided", [1, 0, 0]), ("relu", [1, 1, 0])]
)
def test_the_rules_at_one_relu_are_those_of_the_papers(rule: str, expected: list[int]) -> None:
    x = torch.tensor([2.0, -2.0, 2.0], requires_grad=True)
    y = torch.relu(x)
    assert y.grad_fn is not None
    with applied(rule, [y.grad_fn]):  # type: ignore[arg-type]
        (found,) = torch.autograd.grad(y, x, torch.tensor([1.0, 1.0, -1.0]), retain_graph=True)
    assert found.tolist() == expected
    (afterwards,) = torch.autograd.grad(y, x, torch.tensor([1.0, 1.0, -1.0]))
    assert afterwards.tolist() == [1, 0, -1]


def test_hooks_are_removed_when_the_backward_pass_is_interrupted() -> None:
    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    y = torch.relu(x)
    assert y.grad_fn is not None
    with pytest.raises(KeyboardInterrupt), applied("relu", [y.grad_fn]):
        raise KeyboardInterrupt
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0, 1]


def test_counts_name_the_activations_that_are_left_unchanged() -> None:
    nodes = [node_of(f) for f in (torch.relu, functional.relu6, functional.silu, functional.silu)]
    assert count_relus(nodes) == ReluCount(relu=1, relu6=1, other=(("SiLU", 2),))


def test_sentences_state_what_was_done_and_what_was_not() -> None:
    assert describe_count(ReluCount(relu=49), "guided", "after it") == (
        ("The guided rule was applied to 49 ReLU operations after it.",),
        (),
    )
    notes, warnings = describe_count(ReluCount(other=(("GELU", 3),)), "relu", "after it")
    assert notes == ()
    assert "no ReLU to act on" in warnings[0] and "not defined for 3 GELU" in warnings[1]
    assert describe_count(ReluCount(), "vanilla", "after it") == ((), ())


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return gradient


def test_a_hidden_part_of_the_graph_is_named() -> None:
    class CompiledFunction(Hidden):
        pass

    with pytest.raises(ModelError, match=r"hidden in CompiledFunction.*torch\.compile"):
        require_open_graph([node_of(CompiledFunction.apply)])
