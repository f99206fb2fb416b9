"""Explaining leaves the net, its gradients, modes, hooks and all random state as they were."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glasshouse.explanation.activations import activations
from glasshouse.explanation.explain import explain
from glasshouse.explanation.methods import ALL_METHODS, ROLLOUTS, ExplainSettings
from glasshouse.explanation.trust.checks import check_all
from glasshouse.models.classifier import Classifier, Preprocessing
from tests.explanation.nets import NAMES, classifier_of, module_net, pooled_net, some_images
from tests.explanation.token_nets import TOKEN_SIDE, TokenNet, seeded

QUICK = ExplainSettings(samples=2, steps=2)


def state_of(net: nn.Module) -> dict[str, Any]:
    """All that must not change, as values that can be compared."""
    return {
        "weights": {name: tensor.clone() for name, tensor in net.state_dict().items()},
        "gradients": {
            name: None if p.grad is None else p.grad.clone() for name, p in net.named_parameters()
        },
        "wanted": [p.requires_grad for p in net.parameters()],
        "modes": [module.training for module in net.modules()],
        "hooks": [
            len(module._forward_hooks)
            + len(module._forward_pre_hooks)
            + len(module._backward_hooks)
            for module in net.modules()
        ],
        "modules": [id(module) for module in net.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002
        "python": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
    }


def require_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key in before:
        if key in ("weights", "gradients"):
            for name, tensor in before[key].items():
                other = after[key][name]
                assert (tensor is None) == (other is None), name
                assert tensor is None or torch.equal(tensor, other), name
        elif key == "torch":
            assert torch.equal(before[key], after[key])
        else:
            assert before[key] == after[key], key


def mixed_net() -> nn.Sequential:
    """Modes, frozen weights and gradients of a training that is under way."""
    net = pooled_net()
    net.train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net(torch.rand(2, 3, 16, 16)).sum().backward()
    return net


def everything(classifier: Classifier) -> None:
    methods = [name for name in ALL_METHODS if name not in ROLLOUTS]
    found = explain(classifier, some_images(), methods=methods, settings=QUICK)
    check_all(classifier, found[:2])
    activations(classifier, some_images(), ["0", "5"])


@pytest.mark.filterwarnings("ignore::glasshouse.explanation.explain.ExplanationWarning")
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_explaining_changes_nothing_in_any_gradient_mode(mode: Callable[[], Any]) -> None:
    net = mixed_net()
    classifier = classifier_of(net)
    before = state_of(net)
    with mode():
        everything(classifier)
    require_same(before, state_of(net))


class Interrupted(nn.Module):
    """Stops in the forward pass, like Ctrl+C, or in the backward pass."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.inner = where, module_net()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        if self.where == "forward":
            raise KeyboardInterrupt
        if logits.requires_grad:
            logits.register_hook(self.stop)  # type: ignore[no-untyped-call]
        return logits

    def stop(self, gradient: Tensor) -> Tensor:
        raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_an_interrupted_explanation_leaves_the_net_as_it_was(where: str) -> None:
    net = Interrupted(where).train()
    before = state_of(net)
    with pytest.raises(KeyboardInterrupt):
        explain(classifier_of(net), some_images(), methods=["guided", "grad-cam"])
    require_same(before, state_of(net))
    assert torch.is_grad_enabled()


@pytest.mark.filterwarnings("ignore::glasshouse.explanation.explain.ExplanationWarning")
def test_training_bytes_are_the_same_with_explanations_in_between() -> None:
    def trained(with_explanations: bool) -> dict[str, Tensor]:
        torch.manual_seed(5)
        net = pooled_net().train()
        optimizer = torch.optim.Adam(net.parameters())
        for _ in range(3):
            loss = nn.functional.cross_entropy(net(torch.rand(4, 3, 16, 16)), torch.arange(4))
            loss.backward()  # type: ignore[no-untyped-call]
            if with_explanations:
                everything(classifier_of(net))
            optimizer.step()
            optimizer.zero_grad()
        return net.state_dict()

    plain, explained = trained(False), trained(True)
    assert all(torch.equal(plain[name], explained[name]) for name in plain)


@pytest.mark.filterwarnings("ignore::glasshouse.explanation.explain.ExplanationWarning")
def test_images_and_earlier_explanations_are_not_written_to() -> None:
    images = some_images()
    before = images.copy()
    classifier = classifier_of(module_net(inplace=True))
    first = explain(classifier, images, methods=["saliency", "grad-cam"])
    copies = [each.maps.copy() for each in first]
    explain(classifier, images, methods=["guided", "grad-cam"])
    np.testing.assert_array_equal(images, before)
    for each, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(each.maps, copy)


def test_explaining_a_transformer_changes_nothing() -> None:
    net = seeded(TokenNet).train()
    classifier = Classifier(net, Preprocessing(TOKEN_SIDE, TOKEN_SIDE), NAMES)
    before = state_of(net)
    images = some_images(1, side=TOKEN_SIDE)
    found = explain(classifier, images, methods=["grad-cam", *ROLLOUTS])
    check_all(classifier, found)
    require_same(before, state_of(net))
