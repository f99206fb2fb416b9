"""Borders and defaults of explanations, against slow code that says the same in other words."""

import inspect
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from scipy.stats import spearmanr
from torch import Tensor, nn

from glasshouse.data.images import ImageSet
from glasshouse.errors import ModelError, UsageError
from glasshouse.evaluation.multi_label import LabelError
from glasshouse.explanation import label_mistakes, mistakes
from glasshouse.explanation.draw.sheet_words import short_checks
from glasshouse.explanation.explain import explain
from glasshouse.explanation.graph import layer_choice
from glasshouse.explanation.graph.layer_choice import _doubts, _reason, layers_in_depth
from glasshouse.explanation.graph.map_layout import MapLayout, candidates
from glasshouse.explanation.graph.region_test import RegionTest, _regions
from glasshouse.explanation.inputs import as_batch, as_positions, require_count
from glasshouse.explanation.label_mistakes import explain_label_mistakes
from glasshouse.explanation.maps.rollout import (
    attention_rollout,
    gradient_rollout,
    read_tokens,
    relevance,
)
from glasshouse.explanation.maps.saliency import integrated_gradients, occlusion, smooth_grad
from glasshouse.explanation.methods import (
    ALL_METHODS,
    METHODS,
    ExplainSettings,
    require_methods,
    rules_needed,
)
from glasshouse.explanation.mistakes import explain_mistakes, strongly_confused
from glasshouse.explanation.nouns import (
    Check,
    Explanation,
    LayerInfo,
    class_name_at,
    class_position,
    target_name,
)
from glasshouse.explanation.pipeline import MapRequest, explain_each_label
from glasshouse.explanation.tensors import _images_of
from glasshouse.explanation.trust.faithfulness import (
    _blurred,
    _chance,
    _places,
    faithfulness,
)
from glasshouse.explanation.trust.hiding import hide, marked_area
from glasshouse.explanation.trust.lead import lead_of
from glasshouse.explanation.trust.localisation import (
    _centre_maps,
    energy_inside,
    score_localisation,
    usual_margin,
)
from glasshouse.explanation.trust.sanity import (
    TOO_EDGY,
    TOO_STABLE,
    check_content,
    check_head,
    is_same_map,
    rank_correlation,
    with_random_head,
)
from glasshouse.models.predict import Predictions
from tests.explanation.nets import NAMES, classifier_of, module_net, pooled_net, some_images
from tests.kept import require_kept

KEPT = Path(__file__).parent / "methods.txt"
ONE = torch.eye(5)[[2]]


def explanation_of(maps: Any, method: str = "saliency", **other: Any) -> Explanation:
    values = np.asarray(maps, dtype=np.float64)
    images = np.zeros((len(values), 3, *values.shape[1:]), dtype=np.uint8)
    given = {"images": images, "logits": np.zeros((len(values), 5)),
             "targets": np.zeros(len(values), np.int64), "class_names": NAMES, **other}  # fmt: skip
    return Explanation(method, values, **given)


def test_every_method_and_every_default() -> None:
    lines = [f"{name}: {METHODS[name]}, needs layer: {METHODS[name].needs_layer}"
             for name in ALL_METHODS]  # fmt: skip
    lines += [str(ExplainSettings()), str(MapRequest())]
    lines += [f"{name}: {rules_needed([name])}" for name in ALL_METHODS]
    lines.append(str(rules_needed(ALL_METHODS)))
    order = sorted(
        (explanation_of(np.ones((1, 2, 2)), name) for name in ALL_METHODS),
        key=lambda each: [lead_of([each, other]) is each for other in rivals()].count(False),
    )
    lines.append("to begin with: " + ", ".join(each.method for each in order))
    require_kept(KEPT, "\n".join(lines) + "\n")
    assert TOO_STABLE == 0.7 and TOO_EDGY == 0.6
    assert require_methods(["relu", "saliency", "relu"]) == ("relu", "saliency")


def rivals() -> list[Explanation]:
    return [explanation_of(np.ones((1, 2, 2)), name) for name in ALL_METHODS]


def test_defaults_of_single_maps_are_those_of_the_settings() -> None:
    usual = ExplainSettings()
    for function, names in (
        (smooth_grad, ("samples", "noise", "seed")), (integrated_gradients, ("steps",)),
        (occlusion, ("window",)),
    ):  # fmt: skip
        defaults = {k: p.default for k, p in inspect.signature(function).parameters.items()}
        assert all(defaults[name] == getattr(usual, name) for name in names)


class Wave(nn.Module):
    """A network of pixels that is not linear in them."""

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.arange(x.shape[2] * x.shape[3], dtype=x.dtype).reshape(x.shape[2:])
        return torch.stack([(x * torch.sin(rows + k)).tanh().sum((1, 2, 3)) for k in range(5)], 1)


@pytest.mark.parametrize("shape", [(17, 20), (8, 8), (7, 30)])
@pytest.mark.parametrize(
    "given", [{}, {"window": 4}, {"window": 3, "stride": 1}, {"batch_size": 1}]
)
def test_occlusion_is_the_mean_fall_of_all_squares_over_a_pixel(
    shape: tuple[int, int], given: dict[str, int]
) -> None:
    x = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    side = given.get("window", math.ceil(min(shape) / 8))
    stride = given.get("stride", max(1, side // 2))
    tops, lefts = (
        sorted({*range(0, length - side + 1, stride), length - side}) for length in shape
    )
    falls, counts = np.zeros(shape), np.zeros(shape)
    net = Wave()
    for top in tops:
        for left in lefts:
            covered = x.clone()
            covered[:, :, top : top + side, left : left + side] = 0
            fall = float((net(x) - net(covered))[0, 2])
            falls[top : top + side, left : left + side] += fall
            counts[top : top + side, left : left + side] += 1
    found = occlusion(net, x, ONE, **given)
    np.testing.assert_allclose(found[0], falls / counts, atol=1e-4)


def test_rollouts_are_products_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    whole = [torch.rand(2, 3, 4, 4, generator=generator).softmax(-1) for _ in range(3)]
    pooled = [*whole, torch.rand(2, 3, 1, 4, generator=generator).softmax(-1)]
    slopes = [torch.randn(each.shape, generator=generator) for each in pooled]
    for layers in (whole, pooled):
        read = torch.rand(2, layers[-1].shape[2], generator=generator)
        for image in range(2):
            flow, chefer = np.eye(4), np.eye(4)
            for layer, slope in zip(layers, slopes, strict=False):
                mean = layer[image].mean(0).numpy()
                gain = (layer[image] * slope[image]).clamp(min=0).mean(0).numpy()
                if mean.shape == (4, 4):
                    flow = (0.5 * mean + 0.5 * np.eye(4)) @ flow
                    chefer = chefer + gain @ chefer
                else:
                    flow, chefer = mean @ flow, gain @ chefer
            own = np.eye(4) if len(chefer) == 4 else 0
            shares = read[image].numpy()
            found = attention_rollout(layers, read)[image]
            np.testing.assert_allclose(found, shares @ flow, rtol=1e-4)
            gradient = gradient_rollout(map(relevance, layers, slopes), read)[image]
            np.testing.assert_allclose(gradient, shares @ (chefer - own), rtol=1e-4, atol=1e-6)


def test_a_rollout_of_one_layer_is_half_its_weights() -> None:
    weights, read = [torch.full((1, 2, 3, 3), 1 / 3)], torch.tensor([[0.0, 1.0, 0.0]])
    assert attention_rollout(weights, read)[0].tolist() == pytest.approx([1 / 6, 2 / 3, 1 / 6])
    slopes = [torch.tensor([3.0, -3.0, 6.0]).expand(1, 2, 3, 3)]
    assert gradient_rollout(map(relevance, weights, slopes), read)[0].tolist() == pytest.approx(
        [1, 0, 2]
    )


class TwoUses(nn.Module):
    """Attention whose weights are also used in another way, before or after the values."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.embed, self.head = nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(functional.unfold(x, 2, stride=2).transpose(1, 2))
        weights = (tokens @ tokens.transpose(1, 2)).softmax(-1)
        if self.first:
            one, other = weights @ tokens, (weights * 2.0) @ tokens
        else:
            other, one = (weights * 2.0) @ tokens, weights @ tokens
        logits: Tensor = self.head((one + other).mean(1))
        return logits


class OneLayer(TwoUses):
    """A single layer of attention, used as it is."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(functional.unfold(x, 2, stride=2).transpose(1, 2))
        weights = (tokens @ tokens.transpose(1, 2)).softmax(-1)
        logits: Tensor = self.head((weights @ tokens).mean(1))
        return logits


def test_a_single_layer_of_attention_has_a_rollout() -> None:
    torch.manual_seed(0)
    (found,) = explain(classifier_of(OneLayer(True)), some_images(1), methods=["attention-rollout"])
    assert found.maps.shape == (1, 8, 8) and (found.maps > 0).all()
    assert "From 1 attention layers over 64 tokens." in found.notes


@pytest.mark.parametrize("first", [True, False])
def test_attention_that_is_changed_anywhere_has_no_rollout(first: bool) -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="used as they"):
        explain(classifier_of(TwoUses(first)), some_images(1), methods=["attention-rollout"])


def test_the_tokens_that_are_read_share_equally() -> None:
    gradient = torch.zeros(3, 2, 4, 5)
    gradient[0, 1, 2, 4] = -1.0
    gradient[1, 0, 0, 0], gradient[1, 1, 3, 1] = 2.0, 1e-9
    assert read_tokens(gradient).tolist() == [[0, 0, 1, 0], [0.5, 0, 0, 0.5], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("length", "regions"),
    [(1, [1]), (2, [0, 2]), (3, [0, 1, 2]), (4, [0, 1, 1, 2]), (6, [0, 0, 1, 1, 2, 2]),
     (7, [0, 0, 1, 1, 1, 2, 2])],
)  # fmt: skip
def test_a_length_has_three_regions(length: int, regions: list[int]) -> None:
    assert _regions(length).tolist() == regions


def test_an_image_of_the_region_test_changes_in_its_region_only() -> None:
    test = RegionTest(torch.zeros(1, 2, 9, 6))
    assert test.images.shape == (10, 2, 9, 6)
    rows, columns = _regions(9), _regions(6)
    for region in range(9):
        changed = (test.images[1 + region] != test.images[0]).all(0)
        inside = (rows == region // 3)[:, None] & (columns == region % 3)
        assert torch.equal(changed, inside)
    spread = float(test.images[0].std())
    assert 0.4 < spread < 0.6  # half of a standard normal
    other = float((test.images[1:] - test.images[0]).abs().max())
    assert other > 1.5
    again = RegionTest(torch.zeros(4, 2, 9, 6))
    assert torch.equal(again.images, test.images)


def test_the_score_of_the_region_test_is_the_mean_share_of_the_right_regions() -> None:
    test = RegionTest(torch.zeros(1, 3, 18, 18))
    maps = torch.zeros(10, 2, 3, 3)
    for region in range(9):
        # Three in its own place, of both channels together five, and one in every other place.
        maps[1 + region] = 0.0
        maps[1 + region, 0] = 1.0
        maps[1 + region, :, region // 3, region % 3] = torch.tensor([3.0, 4.0])

    def score(values: Tensor) -> float:
        return test.score(test.changes(values, values[:1]), (3, 3))

    assert score(maps) == pytest.approx(5 / (5 + 8))
    assert score(maps + 7.0) == pytest.approx(5 / 13)
    assert score(maps * torch.nan) == 0 and score(maps * 0) == 0
    few = test.changes(maps[:, :, :2, :2], maps[:1, :, :2, :2])
    assert few[:, [1, 3, 4, 5, 7]].abs().max() == 0


@pytest.mark.parametrize(
    ("shape", "image", "found"),
    [
        ((1, 8, 4, 6), (32, 48), ["4x6 (0, 1, 2, 3)", "8x4 (0, 3, 1, 2)"]),
        ((1, 8, 1, 6), (32, 48), ["8x1 (0, 3, 1, 2)"][:0]),
        ((1, 4, 6, 8), (32, 48), ["6x8 (0, 1, 2, 3)", "4x6 (0, 3, 1, 2)"]),
        ((1, 16, 5), (32, 32), ["4x4 first 0", "3x3 first 7", "3x3 first 6", "3x3 first 5",
         "3x3 first 4", "3x3 first 3", "3x3 first 2", "3x3 first 1", "3x3 first 0",
         *(f"2x2 first {k}" for k in range(12, -1, -1))]),
        ((1, 17, 5), (32, 32), 5), ((1, 6, 5), (32, 48), ["2x3 first 0"]),
        ((1, 6, 5), (32, 32), ["2x2 first 2", "2x2 first 1", "2x2 first 0"]),
        ((1, 5, 5), (32, 160), []), ((1, 20, 9), (32, 32), 3), ((1, 21, 9), (32, 32), 2),
        ((1, 10), (32, 32), []), ((1, 3, 4, 5, 6), (32, 32), []),
    ],
)  # fmt: skip
def test_the_grids_that_a_shape_allows(
    shape: tuple[int, ...], image: tuple[int, int], found: list[str] | int
) -> None:
    layouts = candidates(shape, image)
    if isinstance(found, int):
        assert len({(each.rows, each.columns) for each in layouts}) >= 1
        most = max(shape[1] - each.rows * each.columns for each in layouts)
        assert most <= 16 and {each.first for each in layouts} == set(range(most + 1))
        return
    told = [
        f"{each.rows}x{each.columns} {each.order if each.order else f'first {each.first}'}"
        for each in layouts
    ]
    assert told == found
    turned = candidates((shape[1], shape[0], *shape[2:]), image, True) if len(shape) == 3 else []
    assert [(e.rows, e.columns, e.first) for e in turned] == (
        [(e.rows, e.columns, e.first) for e in layouts] if len(shape) == 3 else []
    )


def test_tokens_are_folded_from_their_first_patch_on() -> None:
    tokens = torch.arange(2 * 7 * 3.0).reshape(2, 7, 3)
    layout = MapLayout(2, 3, first=1)
    expected = tokens[:, 1:7].reshape(2, 2, 3, 3).permute(0, 3, 1, 2)
    assert torch.equal(layout.fold(tokens), expected)
    turned = replace(layout, is_sequence_first=True)
    assert torch.equal(turned.fold(tokens.transpose(0, 1)), expected)
    assert turned.images_first == layout and layout.is_tokens
    assert MapLayout(2, 1).has_extent is False and MapLayout(2, 2).has_extent
    last = MapLayout(2, 3, (0, 3, 1, 2))
    assert last.words == ", channels last" and not last.is_tokens
    assert MapLayout(2, 3, (0, 1, 2, 3)).words == "" and layout.words == ", one per patch token"


@pytest.mark.parametrize(
    ("kinds", "most", "chosen"),
    [
        (["Conv2d", "ReLU", "Conv2d", "ReLU"], 12, [1, 3]), (["Conv2d", "ReLU", "Conv2d"], 12,
         [0, 1, 2]), (["Hardswish", "SiLU", "GELU"], 12, [0, 1, 2]), (["ReLU"] * 5, 3, [0, 2, 4]),
        (["ReLU"] * 13, 12, [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]), (["ReLU"] * 4, 1, [0]),
    ],
)  # fmt: skip
def test_layers_are_spread_from_first_to_last(
    monkeypatch: pytest.MonkeyPatch, kinds: list[str], most: int, chosen: list[int]
) -> None:
    infos = {str(k): LayerInfo(str(k), kind, (8, 4, 4), 1, (4, 4)) for k, kind in enumerate(kinds)}
    infos["flat"] = LayerInfo("flat", "ReLU", (8,), 1, None)
    infos["row"] = LayerInfo("row", "ReLU", (8, 1, 4), 1, (1, 4))
    monkeypatch.setattr(layer_choice, "_infos", lambda *_: infos)
    nothing: Any = None
    assert layers_in_depth(nothing, nothing, most) == tuple(map(str, chosen))
    if most == 12:
        assert layers_in_depth(nothing, nothing) == tuple(map(str, chosen))


def call(name: str, *, weights: bool = True, shape: tuple[int, ...] = (1, 8, 4, 4)) -> Any:
    return SimpleNamespace(name=name, is_leaf=True, has_weights=weights, shape=shape, number=0)


@pytest.mark.parametrize(
    ("side", "place", "doubts"),
    [(4, 3, 0), (3, 3, 1), (4, 2, 0), (4, 1, 0), (4, 0, 1), (3, 0, 2)],
)
def test_a_coarse_map_and_one_far_from_the_end_are_doubted(
    side: int, place: int, doubts: int
) -> None:
    calls = [call(str(number)) for number in range(4)]
    calls.insert(2, call("relu", weights=False))
    chosen = next(each for each in calls if each.name == str(place))
    layout = MapLayout(side, 9, (0, 1, 2, 3))
    said = _doubts((chosen, layout), calls)
    assert len(said) == doubts
    if side == 3:
        assert said[0].startswith("The map has only 3x9 cells")
    if place == 0:
        assert said[-1].startswith("3 of 4 layers with weights come after 0")


def test_why_a_layer_was_chosen() -> None:
    layout = MapLayout(4, 5, (0, 1, 2, 3))
    one = (call("a"), layout)
    assert _reason(one, one) == "the last layer with rows and columns (8 channels of 4x5)"
    small = (call("b"), MapLayout(1, 1, (0, 1, 2, 3)))
    assert _reason(one, small) == (
        "the last layer with a map of at least 3x3 (8 channels of 4x5); the later b has only 1x1"
    )
    tokens = (call("t", shape=(1, 21, 64)), MapLayout(4, 5, first=1))
    assert "(64 channels of 4x5, one per patch token)" in _reason(tokens, tokens)


def test_a_fifth_is_marked_rounded_and_one_pixel_at_least() -> None:
    for count, marked in ((1, 1), (2, 1), (7, 1), (8, 2), (12, 2), (13, 3), (100, 20)):
        values = np.arange(1.0, count + 1).reshape(1, 1, count)
        assert marked_area(explanation_of(values)).sum() == marked
    equal = marked_area(explanation_of(np.ones((1, 2, 5))))
    assert equal[0].tolist() == [[True, True, False, False, False], [False] * 5]


class Sums(nn.Module):
    """Logits that are weighted sums of pixels, so that hiding some can be computed by hand."""

    def __init__(self, side: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(0.05 * torch.randn(5, 3 * side * side, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = x.flatten(1) @ self.weight.T
        return logits


def test_areas_are_hidden_at_thirds_of_the_image() -> None:
    classifier = replace(classifier_of(Sums(16)), temperature=2.0)
    image = some_images(1)
    maps = np.zeros((1, 16, 16))
    maps[0, 2:5, 3:9] = np.arange(1, 19).reshape(3, 6)
    found = hide(classifier, explanation_of(maps, images=image, targets=np.array([3])))
    wanted = classifier.preprocessing
    scaled = (image / 255 - np.reshape(wanted.mean, (3, 1, 1))) / np.reshape(wanted.std, (3, 1, 1))
    weights = classifier.net.get_parameter("weight").detach().double().numpy()

    def shares(mask: Any) -> Any:
        logits = weights @ np.where(mask, 0, scaled[0]).ravel() / 2.0
        return np.exp(logits) / np.exp(logits).sum()

    mark = maps[0] > 0
    before, after = shares(np.zeros_like(mark)), shares(mark)
    assert found.before == pytest.approx(before[3], rel=1e-4)
    assert found.after == pytest.approx(after[3], rel=1e-4)
    assert (found.answer, found.answer_after) == (NAMES[before.argmax()], NAMES[after.argmax()])
    others = [
        shares(np.roll(mark, (down * 16 // 3, right * 16 // 3), axis=(0, 1)))
        for down in range(3) for right in range(3) if (down, right) != (0, 0)
    ]  # fmt: skip
    assert found.elsewhere == pytest.approx([each[3] for each in others], rel=1e-4)
    assert found.changed_elsewhere == sum(each.argmax() != before.argmax() for each in others)
    assert found.area == 18 / 256 and found.mean_elsewhere == pytest.approx(
        np.mean([each[3] for each in others]), rel=1e-4
    )


@pytest.mark.parametrize("steps", [2, 5, 8])
def test_faithfulness_is_the_area_under_curves_written_out(steps: int) -> None:
    classifier, images = classifier_of(Sums(16)), some_images(3)
    order = np.random.default_rng(0).random((3, 16, 16))
    targets = np.array([0, 4, 2])
    (found,) = faithfulness(classifier, images, [order], targets, steps=steps)
    wanted = classifier.preprocessing
    mean, std = (np.reshape(each, (3, 1, 1)) for each in (wanted.mean, wanted.std))
    inputs = torch.from_numpy((images / 255 - mean) / std).float()
    blurred = inputs
    for _ in range(3):
        padded = functional.pad(blurred, (1, 1, 1, 1), mode="replicate")
        blurred = functional.avg_pool2d(padded, 3, stride=1)
    assert torch.allclose(_blurred(inputs), blurred, atol=1e-6)

    def probability(pixels: Tensor, row: int) -> float:
        return float(classifier.net(pixels[None]).detach().softmax(1)[0, targets[row]])

    for row in range(3):
        rank = np.empty(256)
        rank[np.argsort(-order[row].ravel(), kind="stable")] = np.arange(256)
        places = torch.from_numpy(rank.reshape(16, 16) / 256)
        deleted, inserted = [], []
        for step in range(steps + 1):
            first = places < step / steps
            deleted.append(probability(inputs[row].masked_fill(first, 0), row))
            inserted.append(probability(torch.where(first, inputs[row], blurred[row]), row))
        area = np.trapezoid(deleted, dx=1 / steps), np.trapezoid(inserted, dx=1 / steps)
        assert found.deletion[row] == pytest.approx(area[0], abs=1e-5)
        assert found.insertion[row] == pytest.approx(area[1], abs=1e-5)


@pytest.mark.parametrize(("side", "box"), [(16, 3), (31, 3), (32, 5), (64, 9), (224, 29)])
def test_the_blur_grows_with_the_image(side: int, box: int) -> None:
    dot = torch.zeros(1, 1, side, side)
    dot[0, 0, side // 2, side // 2] = 1.0
    spread = _blurred(dot)[0, 0] > 1e-9
    width = int(spread.any(0).sum())
    assert width == min(side, 3 * box - 2)


def test_places_count_from_the_most_important_pixel() -> None:
    found = _places(np.array([[[3.0, 1.0], [3.0, 9.0]]]))
    assert found.tolist() == [[[0.25, 0.75], [0.5, 0.0]]]


@pytest.mark.parametrize(
    ("leads", "may_be"),
    [([0.049], True), ([0.05], False), ([0.1, 0.1], False), ([0.0, 0.0], False), ([0.4, 0.0], True),
     ([0.31, 0.1], True), ([0.3, 0.11], False)],
)  # fmt: skip
def test_what_is_within_two_standard_errors_may_be_chance(leads: list[float], may_be: bool) -> None:
    if len(leads) > 1:
        error = np.std(leads, ddof=1) / np.sqrt(len(leads))
        assert _chance(np.array(leads)) == pytest.approx(2 * error)
    assert (abs(np.mean(leads)) < _chance(np.array(leads))) == may_be


def test_the_centre_falls_off_with_the_share_of_the_image() -> None:
    found = _centre_maps(np.zeros((2, 5, 9), dtype=bool))
    assert found.shape == (2, 5, 9) and found[0, 2, 4] == 1.0
    assert found[1, 0, 4] == pytest.approx(math.exp(-8 * (2 / 5) ** 2))
    assert found[0, 2, 0] == pytest.approx(math.exp(-8 * (4 / 9) ** 2))
    assert found[0, 4, 8] == pytest.approx(found[0, 0, 0])
    assert usual_margin(300, 112) == 7.5 and usual_margin(224, 224) == 15
    masks = np.zeros((1, 32, 32), dtype=bool)
    masks[0, 0, 0] = True
    maps = np.zeros((1, 32, 32))
    # The margin of 32 pixels is 2.14, which does not reach to (2, 1), 2.24 away.
    for row, column, is_near in ((0, 2, True), (2, 1, False), (1, 1, True), (3, 0, False)):
        maps[:] = 0
        maps[0, row, column] = 1
        assert score_localisation([explanation_of(maps)], masks)[0].pointing == float(is_near)
    one, first_row = np.array([[[1.0, -5.0], [3.0, 0.0]]]), np.array([[[True, True], [False] * 2]])
    assert energy_inside(one, first_row).tolist() == [0.25]


def test_a_random_head_has_the_spread_of_the_one_that_it_replaces() -> None:
    classifier = classifier_of(module_net())
    with torch.no_grad():
        classifier.net.get_parameter("8.weight").mul_(3.0).add_(1.0)
    before = classifier.net.get_parameter("8.weight")
    found = [with_random_head(classifier, some_images(1)[0], seed) for seed in (0, 0, 1)]
    first, again, other = (each.net.get_parameter("8.weight").detach() for each in found)
    assert torch.equal(first, again) and not torch.equal(first, other)
    spread, mean = float(before.detach().std(correction=0)), float(first.mean())
    assert float(first.std(correction=0)) == pytest.approx(spread, rel=0.3)
    assert abs(mean) < spread


@pytest.mark.parametrize("size", [4, 5, 6, 7])
def test_ranks_are_correlated_as_scipy_does_it(size: int) -> None:
    first, second = np.random.default_rng(size).integers(0, 4, (2, 1, size)).astype(float)
    expected = float(spearmanr(first[0], second[0]).statistic)
    assert rank_correlation(first, second) == pytest.approx(expected)


def test_maps_are_the_same_up_to_a_hundred_thousandth() -> None:
    base = np.array([[[1.0, -2.0], [0.5, 0.0]]])
    for change, is_same in ((0.0, True), (1.9e-5, True), (2.1e-5, False)):
        other = base.copy()
        other[0, 1, 1] += change
        assert is_same_map(explanation_of(base), explanation_of(other)) == is_same
    assert not is_same_map(explanation_of(base), explanation_of(np.ones((1, 2, 3))))


def test_an_empty_map_is_said_to_be_empty_where_it_is() -> None:
    maps = np.zeros((2, 4, 4))
    maps[1] = 1.0
    for method, layer, words in (
        ("grad-cam", "conv", "nothing in this layer speaks for the class"),
        ("gradient-rollout", None, "nothing in the attention layers speaks for the class"),
        ("guided", None, "no gradient reaches the image"),
    ):
        (checked,) = check_content([explanation_of(maps, method, layer=layer, rule="guided")])
        (check,) = checked.checks
        assert words in check.words and "under the guided rule" in check.words
        assert check.values == (0.0, 1.0) and check.verdict == "doubtful"
    assert check_content([explanation_of(-maps[1:])])[0].checks == ()


def test_a_map_that_no_head_changes_and_one_that_it_empties() -> None:
    classifier = classifier_of(pooled_net())
    maps = np.random.default_rng(0).random((2, 14, 14))
    found = explanation_of(maps, "eigen-cam", images=some_images(2), layer="0")
    (checked,) = check_head(classifier, [found])
    assert checked.checks[0].words == (
        "Independent of the class: it shows what dominates the layer's activations."
    )


def test_several_doubts_are_all_told() -> None:
    checks = tuple(Check(name, (0.9,), "doubtful", "x") for name in ("edges", "faithfulness"))
    note = Check("random head", (0.9,), "note", "Independent of the class: it shows the layer.")
    assert short_checks(explanation_of(np.ones((1, 2, 2)), checks=(*checks, note))) == [
        ("doubtful", "resembles an edge detector"),
        ("doubtful", "what it marks matters no more than random pixels or edges"),
        ("note", "independent of the class"),
    ]


def test_tensors_are_shown_from_their_lowest_to_their_highest_value() -> None:
    three = torch.tensor([[[[0.0, 1.0]], [[2.0, 3.0]], [[4.0, 5.0]]]])
    assert _images_of(three)[0, :, 0].tolist() == [[0, 51], [102, 153], [204, 255]]
    two = torch.tensor([[[[0.0, 1.0]], [[2.0, 5.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])
    assert _images_of(two)[:, :, 0].tolist() == [[[0, 255]] * 3, [[0, 0]] * 3]
    one = torch.tensor([[[[-1.0, 0.0, 1.0]]]])
    assert _images_of(one)[0, :, 0].tolist() == [[0, 128, 255]] * 3
    four = torch.stack([three[0, 0], three[0, 1], three[0, 2], three[0, 2]])[None]
    assert _images_of(four)[0, 0, 0].tolist() == [0, 255]


def test_batches_and_classes_as_they_are_given() -> None:
    image = some_images(1)
    assert as_batch(image[0]).shape == (1, 3, 16, 16)
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    names = ("cat", "dog", "Dog")
    for given, found in (
        (None, [1, 0]), ("dog", [1, 1]), ("DOG", None), ("CAT", [0, 0]), (2, [2, 2]),
        (np.int64(1), [1, 1]), (["cat", 2], [0, 2]), (np.array([2, 0]), [2, 0]), ("2", [2, 2]),
        (3, None), (-1, None),
    ):  # fmt: skip
        if found is None:
            with pytest.raises(UsageError):
                as_positions(given, names, logits)  # type: ignore[arg-type]
        else:
            assert as_positions(given, names, logits).tolist() == found  # type: ignore[arg-type]
    assert as_positions("1", (), logits).tolist() == [1, 1]
    with pytest.raises(UsageError, match=r"each of the 2, got 3"):
        require_count([1, 2, 3], 2)


def test_an_unknown_class_is_answered_by_the_nearest_or_by_the_range() -> None:
    for count, words in ((30, "Known"), (31, "There are 31, from 'n00' to 'n30'.")):
        with pytest.raises(UsageError) as raised:
            class_position("zebra", tuple(f"n{k:02}" for k in range(count)))
        assert words in str(raised.value)
    with pytest.raises(UsageError, match="no class -1: expected 0 to 2"):
        class_position(-1, ("a", "b", "c"))
    assert class_name_at(("a", "b"), 1) == "b" and class_name_at(("a", "b"), 2) == "2"
    both = explanation_of(np.ones((2, 2, 2)), against=np.array([1, 3]))
    assert target_name(both, 1) == "cat rather than ship"


def test_labels_above_their_thresholds_are_explained_the_most_probable_first() -> None:
    classifier = replace(classifier_of(pooled_net()), thresholds=(0.5,) * 5)
    image = some_images(1)[0]
    request = MapRequest(("saliency",), is_checked=False)
    first = explain_each_label(replace(classifier, thresholds=(1.0,) * 5), image, request)
    assert len(first) == 1
    shares = classifier.to_probabilities(first[0].logits)[0]
    assert int(first[0].explanations[0].targets[0]) == int(shares.argmax())
    limits = tuple(float(share) for share in shares)
    pages = explain_each_label(replace(classifier, thresholds=limits), image, request)
    found = [int(page.explanations[0].targets[0]) for page in pages]
    assert found == np.argsort(-shares, kind="stable").tolist()
    own = replace(request, target_class=2)
    assert len(explain_each_label(classifier, image, own)) == 1


def predictions_of(pairs: dict[tuple[int, int], int], support: int) -> Predictions:
    """So many images of each class, of which these counts are taken for another class."""
    count = 1 + max(max(pair) for pair in pairs)
    labels = np.repeat(np.arange(count), support)
    guesses = labels.copy()
    taken = [0] * count
    for (true, predicted), number in pairs.items():
        start = true * support + taken[true]
        guesses[start : start + number] = predicted
        taken[true] += number
    logits = np.eye(count, dtype=np.float32)[guesses]
    ids = np.array([str(k) for k in range(len(labels))])
    return Predictions(logits, labels, ids, tuple(f"c{k:02}" for k in range(count)))


@pytest.mark.parametrize(("number", "support", "is_strong"), [
    (2, 40, True), (2, 41, False), (1, 20, False), (3, 60, True), (3, 61, False)
])  # fmt: skip
def test_a_pair_is_strongly_confused_from_a_twentieth_and_two_images_on(
    number: int, support: int, is_strong: bool
) -> None:
    usual = {(0, 1): 9, (1, 2): 8, (2, 3): 7}
    found = strongly_confused(predictions_of(usual | {(3, 0): number}, support))
    assert len(found) == 3 + is_strong


def test_twelve_pairs_are_shown_at_most() -> None:
    many = {(k, k + 1): 4 for k in range(14)}
    assert len(strongly_confused(predictions_of(many, 20))) == 12
    assert len(strongly_confused(predictions_of({(0, 1): 1}, 20))) == 1


def test_six_of_each_kind_of_mistake_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(
        mistakes, "_explained",
        lambda title, classifier, images, what: seen.append((title, len(what[1]))),
    )  # fmt: skip
    given = predictions_of({(0, 1): 9, (1, 0): 2}, 20)
    pixels = np.zeros((len(given), 3, 2, 2), dtype=np.uint8)
    images = ImageSet(pixels, given.labels, given.ids, given.class_names)
    nothing: Any = None
    explain_mistakes(nothing, images, given)
    assert seen == [("The worst mistakes", 6), ("c00 predicted as c01 (9 images)", 6),
                    ("c01 predicted as c00 (2 images)", 2)]  # fmt: skip
    seen.clear()
    explain_mistakes(nothing, images, given, count=3, pairs=1)
    assert seen == [("The worst mistakes", 3), ("c00 predicted as c01 (9 images)", 3)]


@pytest.mark.parametrize(("number", "support", "is_shown"), [
    (2, 40, True), (2, 41, False), (1, 10, False), (3, 60, True), (3, 61, False)
])  # fmt: skip
def test_a_label_that_is_often_mistaken_has_a_group_of_its_own(
    monkeypatch: pytest.MonkeyPatch, number: int, support: int, is_shown: bool
) -> None:
    def error(label: str, missed: bool, k: int) -> LabelError:
        names = {f.name for f in LabelError.__dataclass_fields__.values()}
        given: dict[str, Any] = dict.fromkeys(names, 0.0) | {
            "id": str(k), "label": label, "is_missed": missed
        }  # fmt: skip
        return LabelError(**given)

    counts = [("a", True, 9), ("b", True, 8), ("c", False, 7), ("d", False, number)]
    errors = [error(label, missed, k) for label, missed, times in counts for k in range(times)]
    monkeypatch.setattr(label_mistakes, "wrong_labels", lambda _: errors)
    monkeypatch.setattr(label_mistakes, "require_same_images", lambda *_: None)
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(
        label_mistakes, "_explained",
        lambda title, classifier, images, what: seen.append((title, len(what[1]))),
    )  # fmt: skip
    matrix = np.zeros((support, 4), dtype=bool)
    matrix[:, 3] = True
    predictions: Any = SimpleNamespace(class_names=tuple("abcd"), label_matrix=matrix)
    nothing: Any = None
    explain_label_mistakes(nothing, nothing, predictions)
    titles = [title for title, _ in seen]
    assert titles[:4] == ["The worst mistakes", "a missed (9 images)", "b missed (8 images)",
                          "c wrongly marked (7 images)"]  # fmt: skip
    assert [count for _, count in seen[:4]] == [6, 6, 6, 6]
    assert (len(seen) == 5) == is_shown
