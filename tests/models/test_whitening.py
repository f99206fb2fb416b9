import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.data.images import ImageSet, Splits
from glasshouse.errors import ModelError
from glasshouse.models.architecture import build_architecture
from glasshouse.models.freezing import freeze, unfreeze
from glasshouse.models.layers import WhiteningLayer, build
from glasshouse.models.preprocessing import Preprocessing, scale
from glasshouse.models.whitening import fit_whitening
from glasshouse.settings import ModelSettings
from glasshouse.training.fit import untrained_classifier

LAYERS = (
    {"type": "whitening", "kernel_size": 2},
    {"type": "activation", "activation": "relu"},
    {"type": "global_average_pool"},
    {"type": "dense", "units": "classes"},
)
SETTINGS = ModelSettings.model_validate({"layers": LAYERS})


def smooth_images(count: int) -> ImageSet:
    """Images with correlated neighbouring pixels and colours, as in photos."""
    random = np.random.default_rng(0)
    noise = random.normal(size=(count, 3, 18, 18))
    grey = noise.mean(axis=1, keepdims=True)
    mixed = noise + 3 * grey
    smooth = sum(mixed[:, :, i : i + 16, j : j + 16] for i in range(3) for j in range(3))
    images = (128 + 12 * smooth).clip(0, 255).astype(np.uint8)
    ids = np.array([f"p/{i}" for i in range(count)])
    return ImageSet(images, np.arange(count) % 4, ids, ("a", "b", "c", "d"))


def test_outputs_are_uncorrelated_with_unit_variance() -> None:
    images = smooth_images(300)
    preprocessing = Preprocessing(16, 16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    net = build(SETTINGS, 4, (3, 16, 16), seed=0)
    fit_whitening(net, images, preprocessing)
    inputs = scale(torch.from_numpy(images.pixels), preprocessing)
    with torch.no_grad():
        rows = net[0](inputs)[:, :12].permute(0, 2, 3, 1).reshape(-1, 12).double()
    # The last components carry almost no variance, and the floor keeps them below 1.
    second = (rows.T @ rows / len(rows))[:8, :8]
    assert torch.allclose(second, torch.eye(8, dtype=torch.float64), atol=0.06)


def test_each_component_comes_with_both_signs() -> None:
    net = build(SETTINGS, 4, (3, 16, 16), seed=0)
    fit_whitening(net, smooth_images(50), Preprocessing(16, 16))
    weight = net[0].weight
    assert isinstance(weight, torch.Tensor)
    assert torch.equal(weight[:12], -weight[12:])


def test_kernels_are_no_parameters_and_unfreezing_leaves_them_fixed(tiny_splits: Splits) -> None:
    net = untrained_classifier(SETTINGS, tiny_splits, seed=0).net
    names = [name for name, _ in net.named_parameters()]
    assert names == ["whitening1.bias", "dense1.weight", "dense1.bias"]
    freeze(net, "head")
    unfreeze(net)
    assert not net.get_buffer("whitening1.weight").requires_grad
    assert "whitening1.weight" in net.state_dict()


def test_a_whitening_net_is_rebuilt_with_the_same_keys(tiny_splits: Splits) -> None:
    classifier = untrained_classifier(SETTINGS, tiny_splits, seed=0)
    assert classifier.architecture is not None
    again = build_architecture(classifier.architecture)
    again.load_state_dict(classifier.net.state_dict())
    assert isinstance(again[0], WhiteningLayer)
    assert torch.equal(again[0].weight, classifier.net.state_dict()["whitening1.weight"])


def test_a_network_without_a_whitening_layer_is_left_alone(
    tiny_net: nn.Sequential, tiny_splits: Splits
) -> None:
    before = {k: v.clone() for k, v in tiny_net.state_dict().items()}
    fit_whitening(tiny_net, tiny_splits.train, Preprocessing(16, 16))
    assert all(torch.equal(v, before[k]) for k, v in tiny_net.state_dict().items())


def test_only_the_first_layer_can_be_a_whitening() -> None:
    layers = ({"type": "conv", "filters": 3}, *LAYERS)
    with pytest.raises(ModelError, match=r"layer 2 \(whitening\).*must be the first layer"):
        build(ModelSettings.model_validate({"layers": layers}), 4, (3, 16, 16), seed=0)
