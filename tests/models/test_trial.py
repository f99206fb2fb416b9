import weakref

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.explanation.explain import explain
from glasshouse.models.classifier import Classifier
from glasshouse.models.preprocessing import scale
from glasshouse.models.pretrained import architecture_of_pretrained, build_net, preprocessing_of
from glasshouse.models.trial import run_trial
from tests.models.foreign_nets import SIZE, Wrapped, plain_net


def test_a_trial_says_what_the_answer_comes_from() -> None:
    plain = run_trial(plain_net(), SIZE, 3)
    assert (plain.channels, plain.place, plain.activation, plain.last) == (3, None, None, "Addmm")
    soft = run_trial(Wrapped(lambda z: (z.softmax(1) * z).softmax(1)), SIZE, 3).activation
    assert soft is not None and (soft.kind, soft.number, soft.calls) == ("softmax", 1, 2)
    scaled = run_trial(Wrapped(lambda z: 1 - torch.tanh(z) / 2), SIZE, 3)
    assert scaled.activation is None and scaled.last == "Tanh"


def test_frozen_networks_and_those_made_in_inference_mode_have_a_graph_in_a_trial() -> None:
    with torch.inference_mode():
        made = Wrapped(lambda z: z.softmax(1), plain_net())
        trial = run_trial(made, SIZE, 3)
    assert trial.activation is not None and trial.activation.kind == "softmax"
    frozen = Wrapped(lambda z: z.softmax(1)).requires_grad_(False)
    assert run_trial(frozen, SIZE, 3).activation is not None


def test_a_network_without_gradients_still_shows_its_softmax() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain_net()

        @torch.no_grad()
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.net(images).softmax(1)
            return answer

    activation = run_trial(Own(), SIZE, 3).activation
    assert activation is not None and activation.kind == "softmax"


def test_a_trial_keeps_no_values_in_its_graph() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    kept: list[int] = []

    class Attends(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            # GELU saves its input, the multiplication both of its own; a softmax is noted as well.
            shares = values.softmax(1)
            alive.extend(map(weakref.ref, (values, shares)))
            return nn.functional.gelu(values) * shares

    class Ends(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            kept.append(sum(each() is not None for each in alive))
            return values.sigmoid()

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Attends(), plain_net(channels=4), Ends())
    activation = run_trial(net, SIZE, 3).activation
    assert activation is not None and activation.kind == "sigmoid"
    assert kept[0] == 0


@pytest.mark.parametrize("how", ["torch.func", "autograd"])
def test_a_network_that_differentiates_on_its_way_is_tried_and_explained(how: str) -> None:
    class Energy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.late, self.net = (
                nn.Conv2d(3, 4, 3),
                nn.Conv2d(4, 4, 1),
                plain_net(channels=4),
            )

        def energy(self, images: torch.Tensor) -> torch.Tensor:
            energy: torch.Tensor = (self.conv(images) ** 2).sum()
            return energy

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if how == "torch.func":
                slope = torch.func.grad(self.energy)(images)
            else:
                given = images.detach().requires_grad_()
                with torch.enable_grad():
                    (slope,) = torch.autograd.grad(self.energy(given), given)
            answer: torch.Tensor = self.net(self.late(self.conv(images + slope.detach())))
            return answer

    torch.manual_seed(0)
    net = Energy().eval()
    images = np.random.default_rng(0).integers(
        0, 256, (1, 3, SIZE.height, SIZE.width), dtype=np.uint8
    )
    (found,) = explain(
        Classifier(net, SIZE, ("a", "b", "c")), images, layer="late", methods=("grad-cam",)
    )
    kept: list[torch.Tensor] = []
    net.late.register_forward_hook(lambda layer, inputs, output: kept.append(output))
    logits = net(scale(torch.from_numpy(images), SIZE))
    (slope,) = torch.autograd.grad(logits[0, found.targets[0]], kept[-1])
    expected = (kept[-1] * slope.mean((2, 3), keepdim=True)).sum(1).detach().numpy()
    np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-8)


def test_only_a_network_of_ones_own_is_asked_twice() -> None:
    passes: list[int] = []
    known = architecture_of_pretrained("test_resnet", 3, {})
    for architecture, wanted in ((None, [2, 1]), (known, [2])):
        net = build_net("test_resnet", 3, {}).eval()
        with net.register_forward_hook(lambda net, inputs, answer: passes.append(len(answer))):
            named = Classifier(
                net, preprocessing_of("test_resnet"), ("a", "b", "c"), architecture=architecture
            )
            # A copy with other fields needs no trial.
            Classifier(named.net, named.preprocessing, ("d", "e", "f"))
        assert passes == wanted
        passes.clear()


def test_a_trial_leaves_the_random_state_of_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain_net()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.net(images)
            return answer + torch.rand_like(answer)

    net, seeds = Noisy(), list[int]()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    monkeypatch.setattr(torch.mps, "manual_seed", seeds.append)
    before = torch.get_rng_state()
    assert run_trial(net, SIZE, 3).changes_with == "chance"
    assert seeds == []
    assert torch.equal(torch.get_rng_state(), before)
