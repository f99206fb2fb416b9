from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glasshouse.errors import UsageError
from glasshouse.explanation.explain import explain, explain_page
from glasshouse.explanation.graph import recording
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.methods import METHODS, ROLLOUTS, ExplainSettings
from glasshouse.explanation.pipeline import MapRequest, add_slow_maps, explain_image, sheet_methods
from glasshouse.explanation.trust.checks import check_all
from tests.explanation.nets import (
    activated_net,
    classifier_of,
    module_net,
    pooled_net,
    some_images,
)


def test_rules_about_relus_are_left_out_where_there_are_none() -> None:
    smooth = classifier_of(activated_net(torch.nn.SiLU()))
    assert not {"guided", "relu", "guided-grad-cam"} & {*sheet_methods(smooth, some_images()[0])}
    classifier = classifier_of(module_net())
    assert "guided" in sheet_methods(classifier, some_images()[0])


def test_all_methods_of_a_network_without_maps_are_those_of_its_inputs() -> None:
    torch.manual_seed(0)
    images = some_images()
    dense = nn.Sequential(nn.Flatten(), nn.Linear(images[0].size, 8), nn.ReLU(), nn.Linear(8, 5))
    classifier = classifier_of(dense)
    request = MapRequest(methods=("all",), activations="shallow and deep")
    page = explain_image(classifier, images[0], request)
    names = [each.method for each in page.explanations]
    assert names == list(sheet_methods(classifier, images[0]))
    assert {"saliency", "integrated-gradients", "occlusion"} <= {*names}
    assert not [name for name in names if METHODS[name].needs_layer]
    # Saliency by hand: the largest absolute gradient over the channels of the input.
    inputs = as_inputs(classifier, images[:1]).detach().requires_grad_()
    logits = dense(inputs)
    (gradient,) = torch.autograd.grad(logits[0, logits.argmax()], inputs)
    saliency = next(each for each in page.explanations if each.method == "saliency")
    expected = gradient.abs().amax(1)[0].numpy()
    np.testing.assert_allclose(saliency.maps[0], expected, rtol=1e-5, atol=1e-8)
    for methods in (("grad-cam",), ("all", "grad-cam")):
        with pytest.raises(UsageError, match="use saliency, smoothgrad"):
            explain_image(classifier, images[0], MapRequest(methods=methods))


class AttentivePooling(nn.Module):
    """A weighted mean of places, whose weights are a softmax over all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.score, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 1), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        places = self.body(images).relu().flatten(2).transpose(1, 2)
        shares = self.score(places).softmax(1)
        logits: Tensor = self.head((places.transpose(1, 2) @ shares)[..., 0])
        return logits


def test_pooling_by_a_softmax_over_places_is_no_attention_between_tokens() -> None:
    classifier = classifier_of(AttentivePooling())
    methods = sheet_methods(classifier, some_images(1)[0])
    assert "grad-cam" in methods and not set(methods) & set(ROLLOUTS)


def test_grad_cam_under_the_rules_is_on_the_sheet_where_it_is_another_map() -> None:
    rules = {"grad-cam-guided-rule", "grad-cam-relu-rule"}
    image = some_images()[0]
    dense = classifier_of(module_net())  # a ReLU between dense layers, behind the last map
    assert rules <= {*sheet_methods(dense, image)} and rules <= {*sheet_methods(dense, image, "0")}
    pooled = classifier_of(pooled_net())
    assert not rules & {*sheet_methods(pooled, image)}
    assert rules <= {*sheet_methods(pooled, image, "0")}
    (cam,) = explain(pooled, some_images(), methods=["grad-cam"])
    assert "under the guided and the relu rule is identical to this map" in " ".join(cam.notes)
    (cam,) = explain(dense, some_images(), methods=["grad-cam"])
    assert "identical to this map" not in " ".join(cam.notes)
    with pytest.raises(UsageError, match="Did you mean"):
        sheet_methods(dense, image, "00")


class CountedNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.forwards = pooled_net(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        logits: Tensor = self.inner(x)
        return logits


def test_methods_layers_and_maps_come_from_one_forward_pass() -> None:
    net = CountedNet()
    request = MapRequest(activations="shallow and deep", has_slow=False, is_checked=False)
    classifier = classifier_of(net)
    net.forwards = 0  # without the trial that every new classifier makes
    page = explain_image(classifier, some_images(1)[0], request)
    assert net.forwards == 1
    assert len(page.explanations) == 9
    assert [each.layer for each in page.activations] == ["inner.2", "inner.5"]


def test_the_checks_use_the_same_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[nn.Module] = []
    monkeypatch.setattr(
        recording, "require_traceable", lambda net: recorded.append(net)
    )  # record() begins with it
    classifier = classifier_of(module_net())
    explain_image(classifier, some_images(1)[0], MapRequest(has_slow=False))
    # The other one is the copy with a random head.
    assert [net is classifier.net for net in recorded] == [True, False]


@pytest.mark.parametrize("inplace", [False, True])
def test_the_maps_are_those_of_explain(inplace: bool) -> None:
    classifier, image = classifier_of(module_net(inplace=inplace)), some_images(1)[0]
    request = MapRequest(activations=("0", "7"), has_slow=False, is_checked=False)
    page = explain_image(classifier, image, request)
    methods = sheet_methods(classifier, image)[:11]
    settings = ExplainSettings(activation_layers=("0", "7"))
    expected = explain_page(classifier, image, methods=methods, settings=settings)
    assert [each.method for each in page.explanations] == list(methods)
    for one, other in zip(page.explanations, expected.explanations, strict=True):
        np.testing.assert_array_equal(one.maps, other.maps)
        assert (one.layer, one.notes, one.warnings) == (other.layer, other.notes, other.warnings)
    for mine, theirs in zip(page.activations, expected.activations, strict=True):
        np.testing.assert_array_equal(mine.values, theirs.values)


def test_a_layer_that_a_group_chooses_keeps_its_own_values() -> None:
    # The ReLUs overwrite the outputs of the convolutions in front of them.
    classifier, image = classifier_of(module_net(inplace=True)), some_images(1)[0]
    found = explain_image(
        classifier, image, MapRequest(("saliency",), activations="in depth", is_checked=False)
    )
    expected = explain_page(
        classifier,
        image,
        methods=["saliency"],
        settings=ExplainSettings(activation_layers=tuple(a.layer for a in found.activations)),
    )
    for mine, theirs in zip(found.activations, expected.activations, strict=True):
        np.testing.assert_array_equal(mine.values, theirs.values)


def test_named_methods_and_a_named_class_are_checked_as_asked() -> None:
    classifier, image = classifier_of(module_net()), some_images(1)[0]
    request = MapRequest(("xgrad-cam", "saliency"), target_class="ship", layer="2")
    page = explain_image(classifier, image, request)
    assert [each.method for each in page.explanations] == ["xgrad-cam", "saliency"]
    assert page.explanations[0].layer == "2" and page.explanations[0].targets.tolist() == [3]
    assert all(each.checks for each in page.explanations)
    with pytest.raises(UsageError, match="no method"):
        explain_image(classifier, image, replace(request, methods=("all", "x")))


def test_slow_maps_are_added_once_and_checked() -> None:
    classifier, image = classifier_of(module_net()), some_images(1)[0]
    page = explain_image(classifier, image, MapRequest(("saliency",), target_class=1))
    for _ in range(2):
        page = add_slow_maps(classifier, page)
    methods = [each.method for each in page.explanations]
    assert methods == ["saliency", "smoothgrad", "integrated-gradients", "occlusion"]
    assert all(each.checks and each.targets.tolist() == [1] for each in page.explanations)


def test_nothing_below_explain_issues_warnings() -> None:
    # Warnings are errors in the tests.
    classifier = classifier_of(pooled_net())
    methods = ("grad-cam", "grad-cam-guided-rule")
    page = explain_image(classifier, some_images(1)[0], MapRequest(methods, layer="5"))
    assert "no ReLU to act on" in page.explanations[1].warnings[0]
    assert check_all(classifier, page.explanations)
