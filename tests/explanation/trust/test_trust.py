"""Checks of sanity and faithfulness, and scores against masks."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glasshouse.errors import DataError
from glasshouse.explanation.explain import explain
from glasshouse.explanation.methods import ExplainSettings
from glasshouse.explanation.nouns import Explanation
from glasshouse.explanation.trust.checks import check_all
from glasshouse.explanation.trust.faithfulness import (
    Faithfulness,
    _check,
    check_faithfulness,
    faithfulness,
)
from glasshouse.explanation.trust.localisation import (
    energy_inside,
    pointing_game,
    score_localisation,
    usual_margin,
)
from glasshouse.explanation.trust.sanity import (
    TOO_EDGY,
    TOO_STABLE,
    _judged,
    check_content,
    check_edges,
    check_head,
    check_sameness,
    rank_correlation,
    sobel,
    with_random_head,
)
from glasshouse.models.predict import logits_of
from tests.explanation.nets import NAMES, classifier_of, module_net, pooled_net, some_images
from tests.on_mps import AnsweringOnMps


class CornerNet(nn.Module):
    """The brighter the upper left corner, the more certain of the first class."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 5)
        with torch.no_grad():
            self.head.weight[:] = torch.tensor([[8.0], [0], [0], [0], [0]])

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x[:, :, :4, :4].mean((1, 2, 3))[:, None])
        return logits


def explanation_of(maps: object, images: object = None) -> Explanation:
    values = np.asarray(maps, dtype=np.float64)
    shape = (len(values), 3, *values.shape[1:])
    given = np.zeros(shape, dtype=np.uint8) if images is None else np.asarray(images)
    targets = np.zeros(len(values), dtype=np.int64)
    return Explanation("saliency", values, given, np.zeros((len(values), 5)), targets, NAMES)


def test_rank_correlation_is_one_for_any_growing_change_and_zero_for_a_constant() -> None:
    values = np.random.default_rng(0).random((4, 4))
    assert rank_correlation(values, values**3) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)
    assert rank_correlation(values, np.ones((4, 4))) == 0
    ties = np.array([1.0, 1, 2, 3]), np.array([1.0, 2, 3, 3])
    assert rank_correlation(*ties) == pytest.approx(8 / 9)


def test_sobel_sees_an_edge_and_nothing_else() -> None:
    image = np.zeros((1, 3, 6, 6), dtype=np.uint8)
    image[:, :, :, 3:] = 100
    edges = sobel(image)[0]
    np.testing.assert_allclose(edges[:, [2, 3]], 400)
    np.testing.assert_allclose(edges[:, [0, 1, 4, 5]], 0)
    lying = sobel(image.transpose(0, 1, 3, 2))[0]
    np.testing.assert_allclose(lying, edges.T)


def test_sobel_adds_the_slopes_of_both_directions_and_weighs_the_colours() -> None:
    rows, columns = np.mgrid[:6, :6]
    slope = np.zeros((1, 3, 6, 6), dtype=np.uint8)
    slope[0, 1] = 3 * rows + 4 * columns
    # A kernel has 8 times the slope, and green a weight of 0.587.
    np.testing.assert_allclose(sobel(slope)[0, 1:-1, 1:-1], 8 * 0.587 * 5)


def test_only_the_last_layer_is_randomised_and_only_in_a_copy() -> None:
    classifier = classifier_of(module_net())
    other = with_random_head(classifier, some_images(1)[0])
    for (name, ours), theirs in zip(
        classifier.net.named_parameters(), other.net.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs) != name.startswith("8."), name


def test_a_map_that_needs_the_head_passes_and_one_that_does_not_is_doubtful() -> None:
    classifier = classifier_of(pooled_net())
    found = explain(classifier, some_images(), methods=["grad-cam", "eigen-cam"], target_class=0)
    cam, eigen = check_head(classifier, found)
    assert cam.checks[0].name == "random head" and len(cam.checks[0].values) == 3
    assert eigen.checks[0].verdict == "note" and eigen.checks[0].values == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("limit", [TOO_STABLE, TOO_EDGY])
def test_a_map_is_doubtful_only_above_the_limit(limit: float) -> None:
    def verdict(*values: float) -> str:
        return _judged("edges", values, limit, "doubt {:.2f}", "good {:.2f}").verdict

    assert [verdict(value) for value in (-0.9, 0.1, 0.45, 0.5, limit)] == ["good"] * 5
    assert [verdict(value) for value in (limit + 0.01, 0.99)] == ["doubtful"] * 2
    # The middle one of several images decides.
    assert verdict(0.1, 0.5, 0.99) == "good"
    assert verdict(0.1, 0.8, 0.99) == "doubtful"
    assert verdict(0.0, 0.8, 0.8) == "doubtful"


def test_a_map_that_resembles_edges_by_half_is_not_doubtful() -> None:
    images = some_images(1, side=32)
    edges = sobel(images)
    rank = edges.ravel().argsort().argsort().reshape(edges.shape) / edges.size
    noise = np.random.default_rng(1).random(edges.shape)
    half, most = (
        check_edges([explanation_of(share * rank + (1 - share) * noise, images)])[0].checks[0]
        for share in (0.38, 0.5)
    )
    assert 0.45 < half.values[0] < 0.6 and half.verdict == "good"
    assert 0.6 < most.values[0] < 0.75 and most.verdict == "doubtful"


def test_the_random_network_is_asked_for_the_same_class_at_the_same_layer() -> None:
    classifier, images = classifier_of(pooled_net()), some_images(4)
    how: dict[str, Any] = {
        "methods": ["grad-cam", "smoothgrad"],
        "target_class": 3,
        "layer": "2",
        "settings": ExplainSettings(samples=2, noise=0.4, seed=5),
    }
    random_one = with_random_head(classifier, images[0], seed=1)
    found = explain(classifier, images, **how)
    others = explain(random_one, images, **how)
    # Left to itself, it would explain another class.
    assert (others[0].logits.argmax(1) != 3).all()
    checked = check_head(classifier, found, settings=how["settings"], seed=1)
    for first, other, own in zip(found, others, checked, strict=True):
        expected = [rank_correlation(*pair) for pair in zip(first.maps, other.maps, strict=True)]
        assert own.checks[0].values == pytest.approx(expected, abs=1e-4)


def test_an_edge_detector_is_doubtful() -> None:
    images = some_images(2)
    edges = explanation_of(sobel(images), images)
    noise = explanation_of(np.random.default_rng(1).random((2, 16, 16)), images)
    first, second = check_edges([edges, noise])
    assert first.checks[0].verdict == "doubtful" and "edge detector" in first.checks[0].words
    assert "(similarity 1.00, where 1 is the same map)" in first.checks[0].words
    assert second.checks[0].verdict == "good"


def test_equal_maps_and_empty_maps_are_named() -> None:
    first, second = explanation_of(np.ones((1, 4, 4))), explanation_of(np.zeros((1, 4, 4)))
    (empty,) = check_content([second])
    assert "correct but empty: no gradient" in empty.checks[0].words
    assert check_content([first])[0].checks == ()
    classifier = classifier_of(pooled_net())
    found = explain(
        classifier, some_images(), methods=["grad-cam", "hires-cam", "layer-cam"], layer="5"
    )
    checked = check_sameness(found)
    assert "Identical to HiResCAM" in checked[0].checks[0].words
    assert checked[2].checks == ()


def test_deleting_what_matters_lowers_the_probability_fastest() -> None:
    classifier = classifier_of(CornerNet())
    images = np.full((2, 3, 16, 16), 255, dtype=np.uint8)
    images[:, :, 4:] = 60
    corner = np.zeros((2, 16, 16))
    corner[:, :4, :4] = 1
    targets = np.zeros(2, dtype=np.int64)
    right, wrong = faithfulness(classifier, images, [corner, -corner], targets)
    assert (right.deletion < wrong.deletion - 0.3).all()
    assert (right.insertion > wrong.insertion).all()


def test_the_same_number_of_pixels_is_deleted_at_every_step() -> None:
    seen: list[int] = []

    class Counting(CornerNet):
        def forward(self, x: Tensor) -> Tensor:
            seen.extend((x[:, 0] == 0).flatten(1).sum(1).tolist())
            return super().forward(x)

    images = np.full((1, 3, 16, 16), 255, dtype=np.uint8)
    order = np.arange(256.0).reshape(1, 16, 16)
    classifier = classifier_of(Counting())
    seen.clear()
    faithfulness(classifier, images, [order], np.zeros(1, np.int64), steps=8)
    # All and none of the pixels are measured once, and the insertions have none at zero.
    assert sorted(set(seen)) == [0, 32, 64, 96, 128, 160, 192, 224, 256]


def test_probabilities_of_faithfulness_are_calibrated() -> None:
    images = np.full((2, 3, 16, 16), 255, dtype=np.uint8)
    corner = np.zeros((2, 16, 16))
    corner[:, :4, :4] = 1
    targets = np.zeros(2, dtype=np.int64)
    plain = classifier_of(CornerNet())
    halved = classifier_of(copy.deepcopy(plain.net))
    with torch.no_grad():
        halved.net.get_parameter("head.weight").div_(2)
        halved.net.get_parameter("head.bias").div_(2)
    (found,) = faithfulness(replace(plain, temperature=2.0), images, [corner], targets)
    (expected,) = faithfulness(halved, images, [corner], targets)
    (uncalibrated,) = faithfulness(plain, images, [corner], targets)
    np.testing.assert_allclose(found.deletion, expected.deletion, rtol=1e-6)
    np.testing.assert_allclose(found.insertion, expected.insertion, rtol=1e-6)
    assert np.abs(found.insertion - uncalibrated.insertion).min() > 0.01


@pytest.mark.parametrize(("temperature", "is_judged"), [(1.0, False), (3.0, True)])
def test_whether_a_class_is_too_improbable_is_a_calibrated_question(
    temperature: float, is_judged: bool
) -> None:
    # 0.003 % at temperature 1, and 1.2 % at 3.
    explanation = replace(corner_of(2), logits=np.array([[-9.0, 0, 0, 0, 0]] * 2))
    classifier = replace(classifier_of(CornerNet()), temperature=temperature)
    (checked,) = check_faithfulness(classifier, [explanation])
    assert ("too low" not in checked.checks[-1].words) == is_judged


def test_faithfulness_is_reported_with_its_baselines() -> None:
    classifier = classifier_of(CornerNet())
    images = some_images(2)
    corner = np.zeros((2, 16, 16))
    corner[:, :4, :4] = 1
    good, bad = check_faithfulness(
        classifier, [explanation_of(corner, images), explanation_of(-corner, images)]
    )
    assert good.checks[-1].verdict == "good" and "random pixels" in good.checks[-1].words
    assert bad.checks[-1].verdict == "doubtful" and "±" in bad.checks[-1].words


class DeafNet(CornerNet):
    """Hardly hears the image, so that no order of deleting it shows in two decimals."""

    def forward(self, x: Tensor) -> Tensor:
        deaf: Tensor = 1e-4 * super().forward(x)
        return deaf


def test_a_lead_smaller_than_the_reported_precision_does_not_count() -> None:
    corner = np.zeros((2, 16, 16))
    corner[:, :4, :4] = 1
    classifier, image = classifier_of(DeafNet()), some_images(2)
    (checked,) = check_faithfulness(classifier, [explanation_of(corner, image)])
    assert checked.checks[-1].verdict == "doubtful"
    assert "deletion +0.00" in checked.checks[-1].words and "-0.00" not in checked.checks[-1].words


def test_pointing_and_energy_against_a_mask() -> None:
    maps = np.zeros((3, 4, 4))
    maps[0, 1, 1], maps[0, 3, 3] = 3, 1
    maps[1, 3, 3] = 2
    masks = np.zeros((3, 4, 4), dtype=bool)
    masks[:, :2, :2] = True
    assert pointing_game(maps, masks).tolist() == [True, False, False]
    # The second points at (3, 3), the square root of 8 away from (1, 1).
    assert pointing_game(maps, masks, margin=2.8).tolist() == [True, False, False]
    assert pointing_game(maps, masks, margin=2.9).tolist() == [True, True, False]
    assert not pointing_game(maps, np.zeros_like(masks), margin=9).any()
    # A miss by exactly the margin is one.
    beside = np.zeros((1, 4, 4))
    beside[0, 1, 3] = 1
    for margin, is_hit in ((2, False), (2.01, True)):
        assert pointing_game(beside, masks[:1], margin=margin).tolist() == [is_hit]
    assert usual_margin(224, 300) == 15
    np.testing.assert_allclose(energy_inside(maps, masks), [0.75, 0, 0])
    with pytest.raises(DataError, match="a mask of each map's size"):
        pointing_game(maps, masks[:2])


def test_the_centre_is_scored_like_a_method() -> None:
    masks = np.zeros((2, 9, 9), dtype=bool)
    masks[0, 4, 4] = True
    masks[1, 0, 0] = True
    rows = score_localisation([explanation_of(masks.astype(float))], masks)
    assert [(row.method, row.on_object) for row in rows] == [("saliency", 1.0), ("centre", 0.5)]
    assert [row.pointing for row in rows] == [1.0, 0.5]
    assert score_localisation([], masks, margin=6)[0].pointing == 1.0


def test_an_empty_map_gets_no_further_checks() -> None:
    classifier = classifier_of(pooled_net())
    first, second = explain(classifier, some_images(), methods=["saliency", "grad-cam"])
    empty = replace(second, maps=np.zeros_like(second.maps))
    filled, checked = check_all(classifier, [first, empty])
    assert [check.name for check in checked.checks] == ["empty"]
    assert {"edges", "random head", "faithfulness"} <= {check.name for check in filled.checks}
    assert [c.name for c in check_all(classifier, [empty])[0].checks] == ["empty"]


def corner_of(count: int) -> Explanation:
    corner = np.zeros((count, 16, 16))
    corner[:, :4, :4] = 1
    return explanation_of(corner, some_images(count))


def test_nothing_is_judged_where_the_class_is_improbable() -> None:
    explanation = corner_of(2)
    logits = np.array([[-9.0, 0, 0, 0, 0]] * 2)
    (checked,) = check_faithfulness(
        classifier_of(CornerNet()), [replace(explanation, logits=logits)]
    )
    check = checked.checks[-1]
    assert check.is_open and check.verdict == "note"
    assert "probability of under 0.1 %" in check.words and len(check.values) == 2


def test_faithfulness_is_that_of_the_answer_in_all_its_views() -> None:
    images, targets = corner_of(2).images, np.zeros(2, dtype=np.int64)
    # From the bottom up, the first half of which this network does not look at.
    rows = np.broadcast_to(np.arange(16.0)[:, None], (2, 16, 16))
    areas = []
    for mirror in (False, True):
        # Of the mirror image, this network says something else.
        net = CornerNet()
        classifier = replace(classifier_of(net), mirror=mirror)
        (found,) = faithfulness(classifier, images, [rows], targets, steps=2)
        whole = classifier.to_probabilities(logits_of(classifier, images))
        # Without pixels, its answer is its bias.
        bias = net.head.bias.detach().numpy()
        nothing = classifier.to_probabilities(np.tile(bias, (2, 1)))
        np.testing.assert_allclose(found.deletion, (3 * whole + nothing)[:, 0] / 4, rtol=1e-5)
        areas.append(found.deletion)
    assert (np.abs(areas[0] - areas[1]) > 0.05).all()


def test_a_single_image_is_named_and_a_small_difference_on_it_is_not_judged() -> None:
    def area(insertion: float) -> Faithfulness:
        return Faithfulness(np.zeros(1), np.array([insertion]))

    rivals = {"random pixels": area(0.6), "edges": area(0.1)}
    for value in (0.62, 0.64, 0.6, 0.58, 0.56):  # above and below
        close = _check(area(value), rivals)
        assert close.verdict == "note" and close.is_open
        assert "the difference from random pixels is so small that it may be chance" in close.words
    clear, worse = (_check(area(value), rivals) for value in (0.66, 0.54))
    assert clear.verdict == "good" and "+0.66 (one image)" in clear.words
    assert worse.verdict == "doubtful"


def test_a_difference_over_several_images_counts_beyond_two_standard_errors() -> None:
    rival = Faithfulness(np.zeros(4), np.full(4, 0.5))
    steady = Faithfulness(np.zeros(4), np.array([0.52, 0.53, 0.52, 0.53]))
    erratic = Faithfulness(np.zeros(4), np.array([0.9, 0.1, 0.95, 0.2]))
    # Leads of 0.1 and 0.4 in turn: 2.9 standard errors above nothing. Of -0.1 and 0.4: 1.0.
    for low, verdict in ((0.1, "good"), (-0.1, "note")):
        leads = np.array([low, 0.4, low, 0.4])
        ahead, behind = (
            _check(Faithfulness(np.zeros(4), 0.5 + sign * leads), {"edges": rival})
            for sign in (1, -1)
        )
        assert ahead.verdict == verdict and ahead.is_open == (verdict == "note")
        assert behind.verdict == {"good": "doubtful"}.get(verdict, verdict)
    assert _check(steady, {"edges": rival}).verdict == "good"
    assert _check(erratic, {"edges": rival}).is_open


def test_an_image_of_one_colour_has_no_edges_to_compare_with() -> None:
    (checked,) = check_edges([explanation_of(np.ones((1, 16, 16)))])
    assert checked.checks[0].is_open and checked.checks[0].verdict == "note"


def test_faithfulness_needs_no_float64_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[torch.dtype] = []
    move = Tensor.to

    def to(self: Tensor, *given: Any, **more: Any) -> Tensor:
        if given and isinstance(given[0], torch.device):
            sent.append(self.dtype)
        return move(self, *given, **more)

    orders, targets = [np.random.default_rng(0).random((2, 16, 16))], np.zeros(2, dtype=np.int64)
    net = CornerNet()
    (usual,) = faithfulness(classifier_of(net), some_images(2), orders, targets)
    classifier = classifier_of(AnsweringOnMps(net))
    monkeypatch.setattr(Tensor, "to", to)
    (found,) = faithfulness(classifier, some_images(2), orders, targets)
    assert torch.bool in sent and torch.float64 not in sent
    assert np.array_equal(found.deletion, usual.deletion)
    assert np.array_equal(found.insertion, usual.insertion)
