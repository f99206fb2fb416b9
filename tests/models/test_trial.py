import torch
from torch import nn

from glasshouse.models.classifier import Classifier
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
