"""May a map be trusted? Does it need the class, and does it see more than edges?"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from glasshouse.errors import ModelError
from glasshouse.explanation.explain import explain
from glasshouse.explanation.graph.recording import record
from glasshouse.explanation.graph.relu_rules import ExplanationWarning
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.methods import ExplainSettings, MethodName
from glasshouse.explanation.nouns import Check, Explanation, Floats, shown
from glasshouse.models.classifier import Classifier
from glasshouse.rng import derive

TOO_STABLE = 0.7
TOO_EDGY = 0.6
# Grey values of the sRGB primaries (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114])


def with_random_head(classifier: Classifier, image: NDArray[np.uint8], seed: int = 0) -> Classifier:
    """A copy whose last layer with weights has random ones of the same spread."""
    head = _head_name(classifier, image)
    generator = torch.Generator().manual_seed(derive(seed, "random head"))
    with torch.inference_mode(False), torch.no_grad():
        net = copy.deepcopy(classifier.net)
        layer = net.get_submodule(head)
        for name, parameter in list(layer.named_parameters(recurse=False)):
            drawn = torch.randn(parameter.shape, generator=generator).to(parameter)
            setattr(layer, name, nn.Parameter(drawn * parameter.std(correction=0)))
    return replace(classifier, net=net)


def check_head(
    classifier: Classifier,
    explanations: Sequence[Explanation],
    *,
    settings: ExplainSettings | None = None,
    seed: int = 0,
) -> tuple[Explanation, ...]:
    """Add to each map whether it changes with the net's last layer (Adebayo et al. 2018).

    The figure is the rank correlation of the map with that of a net whose head is random: one
    that stays above 0.7 shows the image rather than the reason for the class.
    """
    others = _with_random_head_explained(classifier, explanations, settings, seed)
    return tuple(
        _with(explanation, _head_check(explanation, other))
        for explanation, other in zip(explanations, others, strict=True)
    )


def check_edges(explanations: Sequence[Explanation]) -> tuple[Explanation, ...]:
    """Add to each map how much it looks like an edge detector (Sobel) that knows no net."""
    return tuple(_with(explanation, _edge_check(explanation)) for explanation in explanations)


def check_content(explanations: Sequence[Explanation]) -> tuple[Explanation, ...]:
    """Add a check to the maps in which nothing speaks for the class, which draw as one colour."""
    checked = []
    for explanation in explanations:
        strength = np.abs(shown(explanation)).max((1, 2))
        if (strength > 0).all():
            checked.append(explanation)
            continue
        where = (
            "no gradient reaches the image"
            if explanation.layer is None
            else ("nothing in this layer speaks for the class")
        )
        words = f"It is empty, not broken: {where} under the {explanation.rule} rule."
        check = Check("empty", tuple(map(float, strength)), "doubtful", words)
        checked.append(_with(explanation, check))
    return tuple(checked)


def check_sameness(explanations: Sequence[Explanation]) -> tuple[Explanation, ...]:
    """Add a note to the maps that are equal to another one of these to within rounding."""
    return tuple(_with_sameness(explanation, explanations) for explanation in explanations)


def sobel(images: NDArray[np.uint8]) -> Floats:
    """The length of the grey-value gradient ``(n, h, w)`` by Sobel's 3x3 filters."""
    grey = np.einsum("nchw,c->nhw", images.astype(np.float64), _LUMA)
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    down = padded[:, 2:] - padded[:, :-2]
    across = padded[:, :, 2:] - padded[:, :, :-2]
    vertical = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    horizontal = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    result: Floats = np.hypot(vertical, horizontal)
    return result


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of two maps; 0 where one of them is constant."""
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else 0.0


def _head_name(classifier: Classifier, image: NDArray[np.uint8]) -> str:
    calls = record(classifier.net, as_inputs(classifier, image)[:1], see_all=True).calls
    weighted = [call.name for call in calls if call.is_leaf and call.has_weights]
    if not weighted:
        raise ModelError("this network has no layer with weights whose randomising could be seen")
    return weighted[-1]


def _with_random_head_explained(
    classifier: Classifier,
    explanations: Sequence[Explanation],
    settings: ExplainSettings | None,
    seed: int,
) -> list[Explanation]:
    first = explanations[0]
    random_one = with_random_head(classifier, first.images[0], seed)
    layers = {explanation.layer for explanation in explanations if explanation.layer}
    methods: list[MethodName] = [explanation.method for explanation in explanations]  # type: ignore[misc]
    with warnings.catch_warnings():
        # The same warnings were issued when the explanations themselves were made.
        warnings.simplefilter("ignore", ExplanationWarning)
        others = explain(
            random_one,
            first.images,
            methods=methods,
            target_class=first.targets,
            layer=next(iter(layers), None),
            settings=settings,
        )
    by_method = {other.method: other for other in others}
    return [by_method[explanation.method] for explanation in explanations]


def _head_check(explanation: Explanation, other: Explanation) -> Check:
    values = _correlations(explanation.maps, other.maps)
    if explanation.method == "eigen-cam":
        words = "It does not depend on the class at all: it shows what the layer sees most."
        return Check("random head", values, "note", words)
    doubt = (
        "It hardly changes when the last layer is random (rank correlation {:.2f}): it shows the "
        "image more than the reason for the class."
    )
    good = "It changes when the last layer is random (rank correlation {:.2f})."
    return _judged("random head", values, TOO_STABLE, doubt, good)


def _edge_check(explanation: Explanation) -> Check:
    values = _correlations(np.abs(shown(explanation)), sobel(explanation.images))
    doubt = (
        "It looks like an edge detector (rank correlation with Sobel {:.2f}): much of it could be "
        "drawn without the network."
    )
    good = "It is not an edge detector (rank correlation with Sobel {:.2f})."
    return _judged("edges", values, TOO_EDGY, doubt, good)


def _correlations(maps: Floats, others: Floats) -> tuple[float, ...]:
    return tuple(rank_correlation(*pair) for pair in zip(maps, others, strict=True))


def _judged(name: str, values: tuple[float, ...], most: float, doubt: str, good: str) -> Check:
    """Doubtful where the middle of the values is above the most that is allowed."""
    middle = float(np.median(values))
    if middle > most:
        return Check(name, values, "doubtful", doubt.format(middle))
    return Check(name, values, "good", good.format(middle))


def _with_sameness(explanation: Explanation, others: Sequence[Explanation]) -> Explanation:
    names = [
        other.method
        for other in others
        if other.method != explanation.method and _is_same(explanation.maps, other.maps)
    ]
    if not names:
        return explanation
    words = f"It is the same map as {', '.join(names)} here."
    return _with(explanation, Check("sameness", (), "note", words))


def _is_same(first: Floats, second: Floats) -> bool:
    if first.shape != second.shape:
        return False
    size = float(np.abs(second).max())
    return float(np.abs(first - second).max()) <= 1e-5 * size


def _with(explanation: Explanation, check: Check) -> Explanation:
    kept = tuple(old for old in explanation.checks if old.name != check.name)
    return replace(explanation, checks=(*kept, check))


def _ranks(values: Floats) -> NDArray[np.float64]:
    _, places, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middles: NDArray[np.float64] = last - (counts - 1) / 2
    return middles[places]
