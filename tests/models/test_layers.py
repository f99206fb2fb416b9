import itertools
import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from glasshouse.errors import ModelError
from glasshouse.models.architecture import architecture_of, build_architecture
from glasshouse.models.layers import ACTIVATIONS, build
from glasshouse.models.presets import preset_names
from glasshouse.settings import ModelSettings

CONV: dict[str, Any] = {"type": "conv", "filters": 4, "padding": "same"}
FLAT: dict[str, Any] = {"type": "flatten"}
LAST: dict[str, Any] = {"type": "dense", "units": "classes"}


def _settings(*layers: dict[str, Any], **more: Any) -> ModelSettings:
    return ModelSettings.model_validate({"layers": layers, **more})


def _build(*layers: dict[str, Any], size: int = 8, seed: int = 0, **more: Any) -> Any:
    return build(_settings(*layers, **more), 3, (3, size, size), seed=seed)


def test_a_stack_of_layers_gives_a_logit_for_each_class() -> None:
    net = _build(CONV, {"type": "max_pool"}, FLAT, LAST)
    assert net(torch.rand(5, 3, 8, 8)).shape == (5, 3)


def test_modules_are_named_by_kind_and_number() -> None:
    net = _build(
        {**CONV, "activation": "relu"},
        {"type": "batch_norm"},
        {"type": "max_pool"},
        {**CONV, "activation": "relu"},
        {"type": "global_average_pool"},
        LAST,
    )
    assert [name for name, _ in net.named_children()] == [
        "conv1",
        "relu1",
        "batch_norm1",
        "max_pool1",
        "conv2",
        "relu2",
        "global_average_pool1",
        "flatten1",
        "dense1",
    ]


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    first, again, other = (_build(CONV, FLAT, LAST, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize("initialization", ["keras", "torch", "identity"])
def test_every_layer_depends_on_the_seed(initialization: str) -> None:
    block = {"type": "residual", "layers": [{**CONV, "filters": 12}]}
    layers = ({**CONV, "filters": 8}, block, FLAT, {"type": "dense", "units": 5}, LAST)
    nets = [_build(*layers, seed=seed, initialization=initialization) for seed in (1, 2, 0)]
    names = [name for name, _ in nets[0].named_parameters() if name.endswith("weight")]
    assert len(names) == 5
    for name in names:
        values = [net.get_parameter(name).detach() for net in nets]
        assert not any(torch.equal(*pair) for pair in itertools.combinations(values, 2)), name


@pytest.mark.parametrize("initialization", ["keras", "torch"])
def test_building_leaves_the_global_random_state_alone(initialization: str) -> None:
    before = torch.get_rng_state()
    _build(CONV, FLAT, LAST, initialization=initialization)
    assert torch.equal(before, torch.get_rng_state())


def test_the_global_random_state_does_not_matter() -> None:
    layers = (CONV, {"type": "torch", "name": "PReLU"}, FLAT, LAST)
    nets = []
    for seed in (0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            nets.append(_build(*layers, initialization="torch").state_dict())
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])


def test_keras_initialisation_is_glorot_uniform_with_zero_biases() -> None:
    net = _build({**CONV, "filters": 64, "kernel_size": 5}, FLAT, LAST)
    limit = math.sqrt(6 / (25 * 3 + 25 * 64))
    weight = net.conv1.weight.detach()
    assert weight.abs().max() <= limit
    assert weight.abs().max() > 0.98 * limit
    assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.05)
    assert not net.conv1.bias.any()
    assert not net.dense1.bias.any()


def test_torch_initialisation_is_the_default_of_torch() -> None:
    net = _build(CONV, FLAT, LAST, initialization="torch")
    limit = 1 / math.sqrt(3 * 9)
    assert 0.9 * limit < net.conv1.weight.abs().max() <= limit
    assert net.conv1.bias.any()


def test_batch_norm_takes_keras_momentum() -> None:
    net = _build(CONV, {"type": "batch_norm", "momentum": 0.99, "epsilon": 1e-3}, FLAT, LAST)
    assert (net.batch_norm1.momentum, net.batch_norm1.eps) == (pytest.approx(0.01), 1e-3)


def test_batch_norm_also_follows_a_dense_layer() -> None:
    net = _build(FLAT, {"type": "dense", "units": 5}, {"type": "batch_norm"}, LAST)
    assert isinstance(net.batch_norm1, nn.BatchNorm1d)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_can_be_built(name: str) -> None:
    net = _build({**CONV, "activation": name}, FLAT, LAST)
    assert torch.isfinite(net(torch.rand(2, 3, 8, 8))).all()


def test_activations_have_the_constants_of_keras() -> None:
    assert ACTIVATIONS["leaky_relu"]()(torch.tensor(-1.0)).item() == pytest.approx(-0.2)


@pytest.mark.parametrize(("strides", "size"), [(1, 8), (2, 8), (2, 7)])
def test_a_residual_block_adds_its_input(strides: int, size: int) -> None:
    body = {**CONV, "filters": 3 if strides == 1 else 6, "strides": strides}
    net = _build({"type": "residual", "layers": [body]}, FLAT, LAST, size=size)
    images = torch.rand(2, 3, size, size)
    block = net.residual1
    expected = block.body.conv1(images) if strides == 1 else block.body(images)
    assert torch.allclose(block(images) - expected, block.shortcut(images), atol=1e-6)
    assert isinstance(block.shortcut, nn.Identity if strides == 1 else nn.Conv2d)


def test_layers_of_torch_are_taken_by_class_and_arguments() -> None:
    net = _build(
        {"type": "torch", "name": "Conv2d", "arguments": {
            "in_channels": 3, "out_channels": 2, "kernel_size": [3, 1]}},
        {"type": "torch", "name": "Sequential", "label": "end", "layers": [
            {"name": "Flatten"}, {"name": "Linear", "arguments": {
                "in_features": 2 * 6 * 8, "out_features": 3}}]},
    )  # fmt: skip
    assert [name for name, _ in net.named_children()] == ["conv2d1", "end"]
    assert net[0].kernel_size == (3, 1)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{**CONV, "kernel_size": 9, "padding": "valid"}], r"layer 1 .*3x8x8.*window of 9x9"),
        (
            [{"type": "max_pool", "pool_size": 4}, CONV, {"type": "max_pool", "pool_size": 3}],
            r"layer 3 \(max_pool\) with the input shape 4x2x2",
        ),
        ([CONV, LAST], r"layer 2 \(dense\) with the input shape 4x8x8.*put a flatten"),
        ([{**CONV, "groups": 2}], r"layer 1 \(conv\).*groups = 2 must divide both the 3"),
        ([FLAT, CONV], r"layer 2 \(conv\) with the input shape 192.*its input is flat"),
        ([FLAT, {"type": "dense", "units": 7}], r"returns the shape 7, but there are 3 classes"),
        ([CONV], r"returns the shape 4x8x8, but there are 3 classes"),
        (
            [{"type": "residual", "layers": [{**CONV, "padding": "valid"}]}],
            r"layer 1 \(residual\).*shape 4x6x6, to which its input cannot be added",
        ),
        (
            [{"type": "residual", "layers": [CONV, LAST]}],
            r"layer 1\.2 \(dense\) with the input shape 4x8x8",
        ),
        ([{"type": "residual", "layers": []}], r"layer 1 \(residual\).*has no layers"),
        ([{"type": "torch", "name": "Conv2D"}], r"no 'Conv2D'. Did you mean 'Conv2d'"),
        ([{"type": "torch", "name": "functional"}], r"torch.nn has no 'functional'"),
        (
            [{"type": "torch", "name": "Conv2d", "arguments": {"wide": 1}}],
            r"layer 1 \(torch\).*does not accept its arguments.*wide",
        ),
        (
            [{"type": "torch", "name": "Linear", "arguments": {
                "in_features": 4, "out_features": 3}}],
            r"layer 1 \(torch\) with the input shape 3x8x8: it does not accept this shape",
        ),
        (
            [{"type": "torch", "name": "ReLU", "label": "a"}] * 2,
            r"layer 2 \(torch\).*label 'a' is used twice",
        ),
        ([], "at least one layer"),
    ],
)  # fmt: skip
def test_an_error_names_the_layer_and_the_shape_it_gets(
    layers: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        _build(*layers)


@pytest.mark.parametrize("preset", preset_names())
def test_a_net_is_built_again_from_its_architecture(preset: str) -> None:
    settings = ModelSettings(preset=preset)
    net = build(settings, 10, (3, 32, 32), seed=3)
    architecture = json.loads(json.dumps(architecture_of(settings, 10, (3, 32, 32))))
    again = build_architecture(architecture)
    assert repr(again) == repr(net)
    again.load_state_dict(net.state_dict(), strict=True)


@pytest.mark.parametrize(
    "architecture",
    [{}, {"layers": [FLAT, LAST], "class_count": 3}, {"layers": 3, "class_count": 3}],
)
def test_a_broken_architecture_is_refused(architecture: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="does not describe a network"):
        build_architecture(architecture)


def test_a_batch_norm_without_scale_trains_its_shift_alone() -> None:
    net = _build(CONV, {"type": "batch_norm", "scale": False}, FLAT, LAST)
    names = [name for name, _ in net.named_parameters() if name.startswith("batch_norm")]
    assert names == ["batch_norm1.bias"]
    assert torch.equal(net.state_dict()["batch_norm1.weight"], torch.ones(4))


def test_rescaling_multiplies_by_its_constant() -> None:
    net = _build(FLAT, LAST, {"type": "rescaling", "scale": 0.5})
    inputs = torch.rand(2, 3, 8, 8)
    assert torch.equal(net(inputs), net[:-1](inputs) / 2)


def test_identity_convolutions_start_out_passing_their_channels_through() -> None:
    wide = {**CONV, "filters": 8, "use_bias": False}
    net = _build(wide, FLAT, LAST, initialization="identity")
    inputs = torch.rand(2, 3, 8, 8)
    assert torch.allclose(net.conv1(inputs)[:, :3], inputs)
    assert not torch.allclose(net.conv1(inputs)[:, 3:6], inputs)
