import numpy as np
import torch
from torch import Tensor, nn

from glasshouse.explanation.explain import explain
from glasshouse.explanation.maps.saliency import integrated_gradients, occlusion, smooth_grad
from glasshouse.explanation.methods import ExplainSettings
from tests.explanation.nets import NAMES, classifier_of, module_net, some_images


class Linear(nn.Module):
    """Logits that are sums of pixels, so that every answer is known."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(len(NAMES), 3 * 8 * 8))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


ONE = torch.eye(len(NAMES))[[2]]


def test_a_linear_net_has_its_weights_as_every_kind_of_gradient() -> None:
    net, x = Linear(), torch.rand(1, 3, 8, 8)
    weights = net.weight[2].view(1, 3, 8, 8).detach()
    torch.testing.assert_close(smooth_grad(net, x, ONE, samples=3), weights)
    torch.testing.assert_close(integrated_gradients(net, x, ONE, steps=4), weights * x)


def test_occlusion_is_the_fall_of_the_score() -> None:
    net, x = Linear(), torch.rand(2, 3, 8, 8)
    found = occlusion(net, x, ONE.repeat(2, 1), window=1, stride=1)
    expected = (net.weight[2].view(3, 8, 8) * x).sum(1)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)


def test_occlusion_covers_every_pixel_whatever_the_window() -> None:
    for window, stride in [(3, 2), (5, 4), (8, 1), (7, 7)]:
        x = torch.rand(1, 3, 8, 8)
        assert torch.isfinite(occlusion(Linear(), x, ONE, window=window, stride=stride)).all()


def test_integrated_gradients_sum_to_what_the_score_gains() -> None:
    classifier = classifier_of(module_net(), double=True)
    settings = ExplainSettings(steps=400)
    (found,) = explain(
        classifier,
        some_images(1),
        methods=["integrated-gradients"],
        target_class=1,
        settings=settings,
    )
    nothing = classifier.net(torch.zeros(1, 3, 16, 16, dtype=torch.float64))[0, 1].item()
    gained = found.logits[0, 1] - nothing
    # The gradient jumps where a ReLU switches, which no quadrature follows exactly.
    assert abs(found.maps.sum() - gained) < 1e-3 * np.abs(found.maps).sum()


def test_smoothgrad_depends_on_the_seed_alone() -> None:
    classifier = classifier_of(module_net())
    images = some_images(3)
    first, again, other = (
        explain(
            classifier,
            images,
            methods=["smoothgrad"],
            target_class=0,
            settings=ExplainSettings(samples=2, seed=seed, batch_size=size),
        )[0].maps
        for seed, size in [(0, 16), (0, 1), (1, 16)]
    )
    np.testing.assert_allclose(first, again, rtol=1e-4, atol=1e-9)
    assert np.abs(first - other).max() > 1e-6
