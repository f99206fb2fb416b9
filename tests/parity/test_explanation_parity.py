"""Gradients and class activation maps against Captum, zennit, torchcam and derivations by hand."""

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input as torch_conv2d_input

from glasshouse.explanation.explain import ExplanationWarning, explain
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.methods import ExplainSettings, MethodName
from glasshouse.explanation.nouns import Explanation
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.layers import build
from glasshouse.models.pretrained import build_net
from glasshouse.recipe import load_recipe
from tests.explanation.nets import (
    classifier_of,
    functional_net,
    module_net,
    pooled_net,
    relative,
    skip_net,
    some_images,
)

captum = pytest.importorskip("captum.attr")

conv2d_input: Callable[..., Tensor] = torch_conv2d_input

TARGETS = [3, 1]
PAGE: tuple[MethodName, ...] = (
    "saliency", "guided", "relu", "grad-cam", "guided-grad-cam", "integrated-gradients"
)  # fmt: skip
# Large nets take their time in float64.
PRECISIONS = [(False, 1e-5), pytest.param(True, 1e-7, marks=pytest.mark.slow)]
# Nets of the zoo with the layer that is explained; 64 pixels keep them quick.
ZOO = [("torchvision/resnet50", "layer3"), ("torchvision/vgg16", "features.29")]


@pytest.fixture(autouse=True)
def _quiet_oracles() -> Iterator[None]:
    with warnings.catch_warnings():
        # Captum and zennit warn of their own hooks and of requires_grad being set.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


@cache
def zoo_classifier(name: str, *, double: bool) -> Classifier:
    torch.manual_seed(0)
    net = build_net(name, 10, {}).eval()
    names = tuple(f"class {i}" for i in range(10))
    return Classifier(net.double() if double else net, Preprocessing(64, 64), names)


def page_of(classifier: Classifier, layer: str, side: int) -> tuple[dict[str, Explanation], Tensor]:
    images = some_images(2, side=side)
    found = explain(
        classifier,
        images,
        methods=PAGE,
        target_class=TARGETS,
        layer=layer,
        settings=ExplainSettings(steps=8),
    )
    return {each.method: each for each in found}, as_inputs(classifier, images)


def captum_page(net: nn.Module, layer: str, inputs: Tensor) -> dict[str, Any]:
    module, targets = net.get_submodule(layer), torch.tensor(TARGETS)

    def leaf() -> Tensor:
        return inputs.clone().requires_grad_()

    cam = captum.LayerGradCam(net, module).attribute(inputs, targets, relu_attributions=False)
    guided_cam = captum.GuidedGradCam(net, module)
    path = captum.IntegratedGradients(net)
    found = {
        "saliency": captum.Saliency(net).attribute(leaf(), targets, abs=False),
        "guided": captum.GuidedBackprop(net).attribute(leaf(), targets),
        "relu": captum.Deconvolution(net).attribute(leaf(), targets),
        "grad-cam": cam[:, 0],
        "guided-grad-cam": guided_cam.attribute(leaf(), targets, interpolate_mode="bilinear"),
        "integrated-gradients": path.attribute(inputs, target=targets, n_steps=8),
    }
    return {name: values.detach().numpy() for name, values in found.items()}


def require_equal(found: dict[str, Explanation], oracle: dict[str, Any], limit: float) -> None:
    for name, theirs in oracle.items():
        ours = found[name].maps if found[name].channels is None else found[name].channels
        assert np.abs(theirs).max() > 0, f"{name}: the oracle's map is empty, which proves nothing"
        # Captum rounds the weights of its sum to float32.
        allowed = max(limit, 1e-6) if name == "integrated-gradients" else limit
        assert relative(ours, theirs) <= allowed, name


@pytest.mark.parametrize(("double", "limit"), [(False, 1e-5), (True, 1e-7)])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_page_of_a_small_net_equals_captum(double: bool, limit: float, inplace: bool) -> None:
    classifier = classifier_of(module_net(inplace=inplace), double=double)
    found, inputs = page_of(classifier, "2", 16)
    require_equal(found, captum_page(classifier.net.eval(), "2", inputs), limit)


class FunctionalTwin(nn.Module):
    """The same layers with functional ReLUs, every other one in place."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.net.children()):
            is_relu = isinstance(layer, nn.ReLU)
            x = nn.functional.relu(x, inplace=number % 2 == 0) if is_relu else layer(x)
        return x


def tutorial_net(*, double: bool) -> nn.Module:
    settings = load_recipe("small-cnn").model
    net = build(settings, 10, (3, 32, 32), seed=0).eval()
    return net.double() if double else net


@pytest.mark.parametrize(("double", "limit"), [(False, 1e-5), (True, 1e-7)])
def test_the_tutorials_net_equals_captum_and_its_functional_twin(
    double: bool, limit: float
) -> None:
    net, names = tutorial_net(double=double), tuple(f"class {i}" for i in range(10))
    classifier = Classifier(net, Preprocessing(32, 32), names)
    last = [name for name, layer in net.named_children() if isinstance(layer, nn.Conv2d)][-1]
    found, inputs = page_of(classifier, last, 32)
    require_equal(found, captum_page(net, last, inputs), limit)
    assert found["guided"].relu_operations > 3
    twin = Classifier(FunctionalTwin(net), Preprocessing(32, 32), names)
    again, _ = page_of(twin, f"net.{last}", 32)
    for name in PAGE:
        np.testing.assert_array_equal(again[name].maps, found[name].maps)


@pytest.mark.parametrize(("double", "limit"), PRECISIONS)
@pytest.mark.parametrize(("name", "layer"), ZOO)
def test_the_page_of_a_known_net_equals_captum(
    name: str, layer: str, double: bool, limit: float
) -> None:
    classifier = zoo_classifier(name, double=double)
    found, inputs = page_of(classifier, layer, 64)
    require_equal(found, captum_page(classifier.net, layer, inputs), limit)


@pytest.mark.parametrize(("double", "limit"), PRECISIONS)
@pytest.mark.parametrize(("name", "layer"), ZOO)
def test_saliency_rules_of_a_known_net_equal_zennit(
    name: str, layer: str, double: bool, limit: float
) -> None:
    require_zennit(zoo_classifier(name, double=double), (layer, 64), limit)


@pytest.mark.parametrize(("double", "limit"), [(False, 1e-5), (True, 1e-7)])
def test_saliency_rules_equal_zennit(double: bool, limit: float) -> None:
    small = classifier_of(module_net(), double=double)
    small.net.eval()
    require_zennit(small, ("2", 16), limit)
    names = tuple(f"class {i}" for i in range(10))
    tutorial = Classifier(tutorial_net(double=double), Preprocessing(32, 32), names)
    require_zennit(tutorial, ("conv4", 32), limit)


def require_zennit(classifier: Classifier, seen: tuple[str, int], limit: float) -> None:
    """seen: the layer, and pixels a side."""
    found, inputs = page_of(classifier, *seen)
    oracle = zennit_page(classifier.net, inputs, len(classifier.class_names))
    require_equal(found, oracle, limit)


def zennit_page(net: nn.Module, inputs: Tensor, classes: int) -> dict[str, Any]:
    attribution = pytest.importorskip("zennit.attribution")
    composites = pytest.importorskip("zennit.composites")
    one_hot = torch.eye(classes, dtype=inputs.dtype)[TARGETS]
    makers: dict[str, Callable[[], Any] | None] = {
        "saliency": None,
        "guided": composites.GuidedBackprop,
        "relu": composites.DeconvNet,
    }
    found = {}
    for name, maker in makers.items():
        composite = None if maker is None else maker()
        with attribution.Gradient(net, composite=composite) as attributor:
            _, values = attributor(inputs.clone(), one_hot)
        found[name] = values.detach().numpy()
    return found


def test_integrated_gradients_are_captums_gradients_along_the_path() -> None:
    """To float64, which Captum's own sum does not reach: it rounds its weights to float32."""
    classifier = classifier_of(module_net(), double=True)
    found, inputs = page_of(classifier, "2", 16)
    gradient = captum.Saliency(classifier.net.eval())
    nodes, weights = np.polynomial.legendre.leggauss(8)
    expected = torch.zeros_like(inputs)
    for node, weight in zip(nodes, weights, strict=True):
        point = (inputs * (1 + node) / 2).requires_grad_()
        expected += weight / 2 * gradient.attribute(point, torch.tensor(TARGETS), abs=False)
    assert relative(found["integrated-gradients"].channels, expected * inputs) < 1e-7


def test_functional_relus_give_the_maps_of_relu_modules_exactly() -> None:
    theirs, _ = page_of(classifier_of(module_net()), "2", 16)
    ours, _ = page_of(classifier_of(functional_net()), "second", 16)
    for name in PAGE:
        np.testing.assert_array_equal(ours[name].maps, theirs[name].maps)


def test_vanilla_gradients_equal_finite_differences() -> None:
    classifier = classifier_of(functional_net(), double=True)
    images = some_images(1)
    (found,) = explain(classifier, images, methods=["saliency"], target_class=2)
    assert found.channels is not None
    inputs, step = as_inputs(classifier, images), 1e-6
    with torch.no_grad():
        for place in [(0, 3, 4), (1, 8, 8), (2, 12, 1)]:
            ahead, behind = inputs.clone(), inputs.clone()
            ahead[0][place] += step
            behind[0][place] -= step
            slope = classifier.net(ahead)[0, 2] - classifier.net(behind)[0, 2]
            assert float(slope) / (2 * step) == pytest.approx(found.channels[0][place], rel=1e-6)


@pytest.mark.parametrize("rule", ["guided", "relu"])
def test_grad_cam_under_a_rule_equals_a_backward_pass_by_hand(rule: str) -> None:
    classifier = classifier_of(module_net(), double=True)
    images = some_images(2)
    name: Any = f"grad-cam-{rule}-rule"
    (found,) = explain(classifier, images, methods=[name], target_class=TARGETS, layer="2")
    assert found.relu_operations == 2
    expected = grad_cam_by_hand(classifier.net, as_inputs(classifier, images), rule)
    assert relative(found.maps, expected) < 1e-7


def grad_cam_by_hand(net: nn.Module, inputs: Tensor, rule: str) -> Any:
    """From the logit down to layer 2 of `module_net` with matrices alone."""
    layers: Any = net
    with torch.no_grad():
        before = layers[:3](inputs)
        relued = before.clamp(min=0)
        pooled, places = nn.functional.max_pool2d(relued, 2, return_indices=True)
        hidden = layers[6](pooled.flatten(1))
        gradient = through_relu(layers[8].weight[TARGETS], hidden, rule) @ layers[6].weight
        gradient = gradient.view_as(pooled)
        wide = torch.zeros_like(relued).flatten(2)
        wide.scatter_(2, places.flatten(2), gradient.flatten(2))
        gradient = through_relu(wide.view_as(relued), before, rule)
        return (before * gradient.mean((2, 3), keepdim=True)).sum(1).numpy()


def through_relu(arriving: Tensor, before: Tensor, rule: str) -> Tensor:
    passes = arriving > 0
    if rule == "guided":
        passes = passes & (before > 0)
    return arriving * passes


@pytest.mark.parametrize("rule", ["guided", "relu"])
def test_only_the_relu_is_changed_where_its_input_has_another_user(rule: str) -> None:
    """``relu(x) + x``: Captum's hooks sit on the tensor x and so change the skip as well."""
    classifier = classifier_of(skip_net(), double=True)
    images, method = some_images(2), rule
    names: Any = [method]
    (found,) = explain(classifier, images, methods=names, target_class=TARGETS)
    net: Any = classifier.net.eval()
    inputs = as_inputs(classifier, images)
    hidden = net.conv(inputs).detach()
    arriving = net.head.weight[TARGETS][:, :, None, None].detach() / hidden[0, 0].numel()
    arriving = arriving.expand_as(hidden)
    at_hidden = through_relu(arriving, hidden, rule) + arriving
    expected = conv2d_input(inputs.shape, net.conv.weight, at_hidden, padding=1)
    assert found.channels is not None
    assert relative(found.channels, expected.detach()) < 1e-7
    oracle = captum.GuidedBackprop if rule == "guided" else captum.Deconvolution
    theirs = oracle(net).attribute(inputs.clone().requires_grad_(), torch.tensor(TARGETS))
    assert relative(theirs.detach(), expected.detach()) > 0.1


def test_grad_cam_of_a_pooled_linear_head_is_the_class_activation_map() -> None:
    classifier = classifier_of(pooled_net(), double=True)
    images = some_images(2)
    methods: Any = ["grad-cam", "hires-cam", "xgrad-cam"]
    found = explain(classifier, images, methods=methods, target_class=TARGETS, layer="5")
    net: Any = classifier.net.eval()
    activation = net[:6](as_inputs(classifier, images)).detach()
    weights = net[8].weight[TARGETS].detach()
    height, width = activation.shape[2:]
    expected = torch.einsum("nchw,nc->nhw", activation, weights) / (height * width)
    for each in found:
        assert relative(each.maps, expected) < 1e-7
        assert "CAM are the same map" in " ".join(each.notes)


def test_relu6_gets_the_rule_with_its_own_gate_and_a_warning() -> None:
    torch.manual_seed(0)
    net: Any = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU6(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(576, 5)
    )
    with torch.no_grad():
        net[0].weight.mul_(20)
    classifier = classifier_of(net, double=True)
    images = some_images(2)
    with pytest.warns(ExplanationWarning, match="1 ReLU operations are ReLU6"):
        (found,) = explain(classifier, images, methods=["guided"], target_class=TARGETS)
    inputs = as_inputs(classifier, images)
    before = net[0](inputs).detach()
    assert (before > 6).any() and (before < 0).any()
    weights = net[4].weight[TARGETS].view(2, 4, 12, 12)
    arriving = conv2d_input(before.shape, net[2].weight, weights)
    passed = arriving * (arriving > 0) * ((before > 0) & (before < 6))
    expected = conv2d_input(inputs.shape, net[0].weight, passed)
    assert found.channels is not None
    assert relative(found.channels, expected.detach()) < 1e-7


@pytest.mark.filterwarnings("ignore::glasshouse.explanation.explain.ExplanationWarning")
def test_mobilenet_warns_where_others_give_plain_gradients_under_the_name_guided() -> None:
    classifier = zoo_classifier("torchvision/mobilenet_v2", double=True)
    found, inputs = page_of(classifier, "features.13", 64)
    assert found["guided"].relu_operations == 35
    assert "35 ReLU operations are ReLU6" in " ".join(found["guided"].warnings)
    oracle = captum_page(classifier.net, "features.13", inputs)
    assert relative(oracle["guided"], found["saliency"].channels) < 1e-7
    assert relative(found["guided"].channels, oracle["guided"]) > 0.1
    require_equal(
        found, {n: oracle[n] for n in ("saliency", "grad-cam", "integrated-gradients")}, 1e-7
    )


@pytest.mark.parametrize(
    ("method", "oracle"),
    [("grad-cam", "GradCAM"), ("xgrad-cam", "XGradCAM"), ("layer-cam", "LayerCAM")],
)
def test_variants_of_class_activation_maps_equal_torchcam(method: MethodName, oracle: str) -> None:
    methods = pytest.importorskip("torchcam.methods")
    classifier = classifier_of(module_net(), double=True)
    classifier.net.eval()
    images = some_images(2)
    (found,) = explain(classifier, images, methods=[method], target_class=TARGETS, layer="3")
    inputs = as_inputs(classifier, images).requires_grad_()
    with getattr(methods, oracle)(classifier.net, "3", input_shape=(3, 16, 16)) as extractor:
        scores = classifier.net(inputs)
        (theirs,) = extractor(TARGETS, scores, normalized=False)
    # torchcam returns the positive part, and adds 1e-8 where XGrad-CAM divides.
    limit = 1e-5 if method == "xgrad-cam" else 1e-7
    assert relative(np.clip(found.maps, 0, None), theirs.detach()) < limit
