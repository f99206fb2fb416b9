from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glasshouse.data.images import ImageSet
from glasshouse.errors import DataError, ModelError, NotFinite, UsageError
from glasshouse.explanation.explain import (
    ExplanationWarning,
    explain,
    explain_contrast,
    explain_page,
)
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.maps.guided import guided_grad_cam
from glasshouse.explanation.methods import ALL_METHODS, ROLLOUTS, ExplainSettings, MethodName
from glasshouse.explanation.nouns import class_position
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.predict import predict
from tests.explanation.nets import (
    NAMES,
    activated_net,
    classifier_of,
    functional_net,
    module_net,
    pooled_net,
    relative,
    some_images,
)
from tests.explanation.token_nets import TokenNet, seeded

quiet = pytest.mark.filterwarnings("ignore::glasshouse.explanation.explain.ExplanationWarning")


@quiet
def test_every_method_returns_one_map_per_image() -> None:
    settings = ExplainSettings(samples=2, steps=2)
    methods = [name for name in ALL_METHODS if name not in ROLLOUTS]  # it has no attention
    found = explain(classifier_of(module_net()), some_images(), methods=methods, settings=settings)
    assert [each.method for each in found] == methods
    for each in found:
        assert len(each.maps) == 3 and np.isfinite(each.maps).all()


class CountingNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.forwards, self.backwards = functional_net(), 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        logits: Tensor = self.inner(x)
        if logits.requires_grad:
            logits.register_hook(self.count)  # type: ignore[no-untyped-call]
        return logits

    def count(self, gradient: Tensor) -> None:
        self.backwards += 1


def test_the_page_costs_one_forward_and_one_backward_a_rule() -> None:
    net = CountingNet()
    settings = ExplainSettings(activation_layers=("inner.first", "inner.second", "inner.head"))
    classifier = classifier_of(net)
    net.forwards = 0  # without the trial that every new classifier makes
    page = explain_page(classifier, some_images(), settings=settings)
    assert (net.forwards, net.backwards) == (1, 3)
    assert len(page.explanations) == 5 and len(page.activations) == 3


def test_each_image_has_its_own_class_by_name_or_position() -> None:
    classifier = classifier_of(module_net())
    images = some_images(2)
    (both,) = explain(classifier, images, methods=["saliency"], target_class=["frog", 4])
    assert both.targets.tolist() == [2, 4]
    (alone,) = explain(classifier, images[1:], methods=["saliency"], target_class="truck")
    np.testing.assert_allclose(both.maps[1], alone.maps[0], rtol=1e-5)


def test_the_predicted_class_is_explained_unless_another_is_named() -> None:
    (found,) = explain(classifier_of(module_net()), some_images(), methods=["saliency"])
    np.testing.assert_array_equal(found.targets, found.logits.argmax(1))


@pytest.mark.parametrize("shifts", [False, True])
def test_the_answer_that_is_explained_is_that_of_all_views(shifts: bool) -> None:
    classifier = replace(classifier_of(module_net()), mirror=True, shifts=shifts)
    images = some_images(60)
    blank = np.zeros(60, dtype=np.int64), np.arange(60).astype(np.str_)
    answers = predict(classifier, ImageSet(images, *blank, classifier.class_names)).logits
    page = explain_page(classifier, images, methods=["saliency"])
    np.testing.assert_allclose(page.logits, answers, atol=1e-5)
    (found,) = page.explanations
    np.testing.assert_array_equal(found.logits, page.logits)
    np.testing.assert_array_equal(found.targets, answers.argmax(1))
    alone = explain_page(classifier_of(module_net()), images, methods=["saliency"])
    assert (alone.logits.argmax(1) != found.targets).any()
    assert "Like the answer, the mean of each image and its mirror image" in found.notes[-1]
    assert not any("mean of" in note for note in alone.explanations[0].notes)


@quiet
@pytest.mark.parametrize("shifts", [False, True])
def test_maps_explain_the_mean_of_all_views(shifts: bool) -> None:
    """Against torch's own gradient of the mean logits, and against the mean of single maps."""
    plain = classifier_of(module_net(), double=True)
    classifier = replace(plain, mirror=True, shifts=shifts)
    images = some_images(2)
    inputs = as_inputs(plain, images).requires_grad_()
    score = classifier.views.mean(inputs, plain.net(inputs), plain.net)[:, 3].sum()
    (gradient,) = torch.autograd.grad(score, inputs)
    cams: list[MethodName] = ["grad-cam", "grad-cam++", "layer-cam", "grad-cam-guided-rule"]
    settings = ExplainSettings(steps=150, activation_layers=("0",))
    methods: list[MethodName] = ["saliency", "integrated-gradients", "occlusion", *cams]
    page = explain_page(classifier, images, methods=methods, target_class=3, settings=settings)
    saliency, shares, covered, *found = page.explanations
    assert relative(saliency.channels, gradient.numpy()) < 1e-6
    # The baseline is zero, which is the same in all views.
    (baseline,) = plain.net(torch.zeros_like(inputs[:1]))[:, 3].tolist()
    assert shares.channels is not None
    assert relative(shares.channels.sum((1, 2, 3)), page.logits[:, 3] - baseline) < 0.02
    assert covered.maps.shape == (2, 16, 16)
    stacked = classifier.views.stacked(torch.from_numpy(images.astype(np.float64)))
    each = explain(plain, stacked.byte().numpy(), methods=cams, target_class=3)
    for ours, theirs in zip(found, each, strict=True):
        maps = torch.from_numpy(theirs.maps).view(classifier.views.count, 2, *ours.maps.shape[1:])
        unmirrored = [m.flip(-1) if k in (1, 4, 5) else m for k, m in enumerate(maps)]
        assert relative(ours.maps, torch.stack(unmirrored).mean(0)) < 1e-6, ours.method
    (alone,) = explain_page(plain, images, settings=settings).activations
    np.testing.assert_array_equal(page.activations[0].values, alone.values)
    parts: list[MethodName] = ["guided", "grad-cam", "guided-grad-cam"]
    guided, cam, both = explain(classifier, images, methods=parts, target_class=3)
    product = guided_grad_cam(torch.as_tensor(guided.channels), torch.as_tensor(cam.maps))
    assert relative(both.channels, product.numpy()) < 1e-6


@pytest.mark.parametrize("method", ROLLOUTS)
def test_rollouts_are_the_mean_of_all_views(method: MethodName) -> None:
    net = seeded(TokenNet)
    plain, images = Classifier(net.double(), Preprocessing(24, 24), NAMES), some_images(2, side=24)
    (found,) = explain(replace(plain, mirror=True), images, methods=method, target_class=3)
    own, mirrored = (
        explain(plain, np.ascontiguousarray(each), methods=method, target_class=3)[0].maps
        for each in (images, images[..., ::-1])
    )
    assert relative(found.maps, (own + mirrored[..., ::-1]) / 2) < 1e-6


def test_batches_give_what_single_images_give() -> None:
    classifier = classifier_of(module_net(), double=True)
    images = some_images(5)
    whole = explain(classifier, images, target_class=[0, 1, 2, 3, 4])
    settings = ExplainSettings(batch_size=2)
    parts = explain(classifier, images, target_class=[0, 1, 2, 3, 4], settings=settings)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.maps, other.maps, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients_gets_the_same_maps(mode: type[torch.no_grad]) -> None:
    classifier = classifier_of(module_net())
    expected = explain(classifier, some_images())
    with mode():
        found = explain(classifier, some_images())
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.maps, other.maps)


def test_a_net_made_in_inference_mode_is_explained() -> None:
    with torch.inference_mode():
        classifier = classifier_of(module_net())
    (found,) = explain(classifier, some_images(), methods=["saliency"])
    (expected,) = explain(classifier_of(module_net()), some_images(), methods=["saliency"])
    np.testing.assert_array_equal(found.maps, expected.maps)


def test_autocast_and_frozen_weights_make_no_difference() -> None:
    classifier = classifier_of(module_net())
    expected = explain(classifier, some_images())
    classifier.net.requires_grad_(False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = explain(classifier, some_images())
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.maps, other.maps)


class ReusedNet(nn.Module):
    """One ReLU module in place, called three times, inside another net."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), self.relu, nn.Conv2d(4, 4, 3), self.relu)
        self.last = nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(functional.relu_(self.last(self.inner(x))).mean((2, 3)))
        return logits


def test_reused_and_nested_relus_are_all_counted() -> None:
    torch.manual_seed(0)
    found = explain(classifier_of(ReusedNet()), some_images(), methods=["guided", "relu"])
    assert [each.relu_operations for each in found] == [3, 3]


def test_an_output_that_is_overwritten_in_place_is_kept_as_it_was() -> None:
    torch.manual_seed(0)
    classifier = classifier_of(ReusedNet())
    names = ("last", "relu:0", "relu:1")
    settings = ExplainSettings(activation_layers=names)
    page = explain_page(classifier, some_images(), methods=["grad-cam"], settings=settings)
    last, first_relu, second_relu = (each.values for each in page.activations)
    assert (last < 0).any()
    assert first_relu.shape[2:] == (14, 14) and second_relu.shape[2:] == (12, 12)
    chosen, asked = (
        page.explanations[0],
        explain(classifier, some_images(), methods=["grad-cam"], layer="last")[0],
    )
    assert chosen.layer == "last"
    np.testing.assert_allclose(chosen.maps, asked.maps, rtol=1e-5, atol=1e-7)


class OverwrittenNet(nn.Module):
    """Its last layer with rows and columns, whose output an in-place ReLU may overwrite."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv(x), inplace=self.inplace)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize("layer", [None, "conv"])
def test_an_in_place_relu_changes_no_map(layer: str | None) -> None:
    methods: list[MethodName] = ["grad-cam", "hires-cam", "eigen-cam", "guided-grad-cam"]
    plain, overwritten = (
        explain(
            classifier_of(OverwrittenNet(inplace=each)),
            some_images(),
            methods=methods,
            target_class=1,
            layer=layer,
        )
        for each in (False, True)
    )
    assert (plain[0].maps < 0).any()
    for one, other in zip(plain, overwritten, strict=True):
        np.testing.assert_allclose(other.maps, one.maps, rtol=1e-6, atol=1e-9)
        assert one.layer == other.layer


def test_only_the_head_is_differentiated_for_a_named_layer() -> None:
    classifier = classifier_of(functional_net())
    settings = ExplainSettings(activation_layers=("second",))
    (cut,) = explain(classifier, some_images(), methods=["grad-cam"], layer="second")
    whole = explain_page(
        classifier, some_images(), methods=["grad-cam"], layer="second", settings=settings
    )
    np.testing.assert_allclose(cut.maps, whole.explanations[0].maps, rtol=1e-5, atol=1e-8)


def test_a_contrast_is_the_difference_of_the_two_classes() -> None:
    classifier = classifier_of(module_net(), double=True)
    images = some_images()
    contrast = explain_contrast(classifier, images, target_class="cat", against="dog", layer="2")
    one, other = (
        explain(classifier, images, methods=["grad-cam"], target_class=name, layer="2")[0]
        for name in ("cat", "dog")
    )
    assert relative(contrast.maps, one.maps - other.maps) < 1e-6


def test_a_rule_without_relus_after_the_layer_is_reported_to_do_nothing() -> None:
    with pytest.warns(ExplanationWarning, match="no ReLU to act on after this layer"):
        found = explain(
            classifier_of(pooled_net()),
            some_images(),
            methods=["grad-cam", "grad-cam-guided-rule"],
            layer="5",
        )
    np.testing.assert_array_equal(found[0].maps, found[1].maps)
    assert "identical to the vanilla map" in found[1].warnings[0]


def test_explain_issues_each_warning_once_and_explain_page_none() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), *pooled_net()[6:7])
    classifier = classifier_of(net.append(nn.Flatten()).append(nn.Linear(4, 5)))
    with pytest.warns(ExplanationWarning, match="only 2x2 cells") as issued:
        found = explain(classifier, some_images(), methods=["grad-cam", "hires-cam"])
    assert len(issued) == 1 and issued[0].filename == __file__
    page = explain_page(classifier, some_images(), methods=["grad-cam", "hires-cam"])
    assert [each.warnings for each in page.explanations] == [each.warnings for each in found]


def test_a_net_without_relus_gets_an_error_for_guided() -> None:
    with pytest.raises(ModelError, match=r"has none.*SiLU.*use saliency"):
        explain(classifier_of(activated_net(nn.SiLU())), some_images(), methods=["guided"])


@pytest.mark.parametrize(
    ("activation", "name"), [(nn.GELU(), "GELU"), (nn.LeakyReLU(), "LeakyReLU")]
)
def test_other_activations_keep_their_derivative_and_are_named(
    activation: nn.Module, name: str
) -> None:
    parts = list(activated_net(activation))
    net = nn.Sequential(*parts[:3], nn.ReLU(), *parts[3:])
    with pytest.warns(ExplanationWarning, match=f"not defined for 1 {name}"):
        explain(classifier_of(net), some_images(), methods=["guided"])


def test_an_unknown_method_class_or_layer_names_the_nearest() -> None:
    classifier = classifier_of(functional_net())
    images = some_images()
    with pytest.raises(UsageError, match="Did you mean 'saliency'"):
        explain(classifier, images, methods=["salience"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"no class 'trukc'\. Did you mean 'truck'"):
        explain(classifier, images, target_class="trukc")
    with pytest.raises(UsageError, match="no class 7: expected 0 to 4"):
        explain(classifier, images, target_class=7)
    with pytest.raises(UsageError, match="one for each of the 3, got 2"):
        explain(classifier, images, target_class=[0, 1])
    with pytest.raises(UsageError, match=r"no layer 'secnod'.*Did you mean 'second'"):
        explain(classifier, images, layer="secnod")
    with pytest.raises(UsageError, match="runs 1 times"):
        explain(classifier, images, methods=["grad-cam"], layer="second:4")


def test_of_many_classes_the_first_and_the_last_are_named() -> None:
    names = tuple(f"class {number:02d}" for number in range(31))
    with pytest.raises(UsageError, match=r"There are 31, from 'class 00' to 'class 30'\."):
        class_position("qqqqqq", names)
    with pytest.raises(UsageError, match=r"Known: class 00, .*class 29"):
        class_position("qqqqqq", names[:30])


def test_a_layer_without_rows_and_columns_cannot_have_a_map() -> None:
    with pytest.raises(UsageError, match=r"output of layer hidden is \(12,\)"):
        explain(classifier_of(functional_net()), some_images(), layer="hidden")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((16,), r"expected an array of one image.* received uint8 \(16,\)"),
        ((1, 3, 16, 16), r"expected uint8 .* received float32 \(1, 3, 16, 16\)"),
        ((0, 3, 4, 4), "expected one image or more, received none"),
    ],
)
def test_an_array_that_is_no_image_is_refused(shape: tuple[int, ...], words: str) -> None:
    array: Any = np.zeros(shape, dtype=np.float32 if len(shape) == 4 and shape[0] else np.uint8)
    with pytest.raises(DataError, match=words):
        explain(classifier_of(module_net()), array)


# torch.jit is on its way out and says so in one way or another in every release.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_net_with_a_hidden_graph_is_refused() -> None:
    images = some_images()
    example = torch.rand(1, 3, 16, 16)
    scripted = torch.jit.trace(module_net().eval(), example)  # type: ignore[no-untyped-call]
    with pytest.raises(ModelError, match="the network is scripted"):
        explain(classifier_of(scripted), images)
    inner: Any = torch.compile(module_net())
    compiled = nn.Sequential(inner)
    with pytest.raises(ModelError, match="the layer 0 is compiled"):
        explain(classifier_of(compiled), images)


class DetachedNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = module_net()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x).detach()
        return logits


def test_logits_without_a_graph_are_refused() -> None:
    with pytest.raises(ModelError, match="logits have no graph"):
        explain(classifier_of(DetachedNet()), some_images())


class CheckpointedNet(nn.Module):
    def __init__(self, is_reentrant: bool) -> None:
        super().__init__()
        self.inner, self.is_reentrant = module_net(), is_reentrant

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = checkpoint(self.inner, x, use_reentrant=self.is_reentrant)
        return logits


def test_a_checkpointed_network_is_explained_or_says_which_checkpoints_are_possible() -> None:
    (found,) = explain(classifier_of(CheckpointedNet(False)), some_images(), methods="saliency")
    (expected,) = explain(classifier_of(module_net()), some_images(), methods="saliency")
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5)
    with pytest.raises(ModelError, match="with use_reentrant=False"):
        explain(classifier_of(CheckpointedNet(True)), some_images(), methods="saliency")


def test_a_score_that_is_cut_off_from_the_image_says_so() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module_net()

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.inner[:-1](x)
            logits: Tensor = self.inner[-1](features)
            return logits

    with pytest.raises(ModelError, match="no gradient at the image: part of the network detaches"):
        explain(classifier_of(Frozen()), some_images(), methods="saliency")


def test_a_network_without_an_answer_is_not_explained() -> None:
    net = module_net()
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = float("nan")
    for methods in (ALL_METHODS, "saliency", "grad-cam"):
        with pytest.raises(NotFinite, match="logits are NaN or infinite"):
            explain(classifier_of(net), some_images(), methods=methods)


def test_a_map_that_is_not_finite_is_refused() -> None:
    class Rooted(nn.Module):
        """Finite logits whose gradient at zero is infinite."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 5)

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.head(inputs.abs().sqrt().mean((2, 3)))
            return logits

    black = np.zeros((3, 16, 16), np.uint8)
    with pytest.raises(NotFinite, match="the map of saliency has values that are NaN or infinite"):
        explain(classifier_of(Rooted()), black, methods="saliency")


def test_a_map_at_a_named_layer_takes_one_forward_pass() -> None:
    classifier = classifier_of(functional_net())
    passes = []
    classifier.net.register_forward_hook(lambda *_: passes.append(1))
    explain(classifier, some_images(4), methods=["grad-cam"], layer="second")
    assert len(passes) == 1
