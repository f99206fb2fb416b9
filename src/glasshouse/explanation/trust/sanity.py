"""Sanity checks: does a map depend on the class, and does it show more than edges?"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from glasshouse.errors import ModelError
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.graph.recording import Recording, record
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.methods import CLASSLESS, METHODS, ExplainSettings, require_methods
from glasshouse.explanation.nouns import CANNOT, Check, Explanation, Floats
from glasshouse.models.classifier import Classifier
from glasshouse.rng import derive

TOO_STABLE = 0.7
TOO_EDGY = 0.6
# Grey values of the sRGB primaries (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114])


def with_random_head(
    classifier: Classifier,
    image: NDArray[np.uint8],
    seed: int = 0,
    recording: Recording | None = None,
) -> Classifier:
    """A copy whose last layer with weights has random ones of the same standard deviation.

    recording: of such an image with every layer, where there is one.
    """
    if recording is None:
        recording = record(classifier.net, as_inputs(classifier, image)[:1], see_all=True)
    head = _head_name(recording)
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
    recording: Recording | None = None,
) -> tuple[Explanation, ...]:
    """Check whether each map depends on the network's last layer (Adebayo et al. 2018).

    The value is the rank correlation with the map of a copy whose last layer is random. A map
    that stays above 0.7 reflects the image rather than the reason for the class.
    """
    first = explanations[0]
    random_one = with_random_head(classifier, first.images[0], seed, recording)
    layers = {explanation.layer for explanation in explanations if explanation.layer}
    page = explain_page(
        random_one,
        first.images,
        methods=require_methods([explanation.method for explanation in explanations]),
        target_class=first.targets,
        layer=next(iter(layers), None),
        settings=settings,
    )
    others = {other.method: other for other in page.explanations}
    return tuple(_with(each, _head_check(each, others[each.method])) for each in explanations)


def check_edges(explanations: Sequence[Explanation]) -> tuple[Explanation, ...]:
    """Check how much each map resembles edges (Sobel), which need no network to draw."""
    return tuple(_with(explanation, _edge_check(explanation)) for explanation in explanations)


def check_content(explanations: Sequence[Explanation]) -> tuple[Explanation, ...]:
    """Mark the maps that are empty, which are drawn in a single colour."""
    checked = []
    for explanation in explanations:
        strength = np.abs(shown(explanation)).max((1, 2))
        if (strength > 0).all():
            checked.append(explanation)
            continue
        where = "no gradient reaches the image"
        if explanation.is_cam:
            place = "this layer" if explanation.layer else "the attention layers"
            where = f"nothing in {place} speaks for the class"
        words = f"The map is correct but empty: {where} under the {explanation.rule} rule."
        check = Check("empty", tuple(map(float, strength)), "doubtful", words)
        checked.append(_with(explanation, check))
    return tuple(checked)


def check_sameness(explanations: Sequence[Explanation]) -> tuple[Explanation, ...]:
    """Note which of the maps are equal to another one, up to rounding."""
    return tuple(_with_sameness(explanation, explanations) for explanation in explanations)


def is_same_map(first: Explanation, second: Explanation) -> bool:
    """Whether two explanations have equal maps, up to rounding."""
    one, other = first.maps, second.maps
    if one.shape != other.shape:
        return False
    size = float(np.abs(other).max())
    return float(np.abs(one - other).max()) <= 1e-5 * size


def sobel(images: NDArray[np.uint8]) -> Floats:
    """The magnitude of the grey-value gradient ``(n, h, w)`` by Sobel's 3x3 filters."""
    # Only checks need SciPy, which takes most of a second to import; so below.
    from scipy import ndimage

    grey = np.einsum("nchw,c->nhw", images.astype(np.float64), _LUMA)
    edges = [
        np.hypot(*(ndimage.sobel(each, axis, mode="nearest") for axis in (0, 1))) for each in grey
    ]
    return np.stack(edges)


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of two maps; 0 where one of them is constant."""
    from scipy.stats import rankdata

    # spearmanr would warn of constant maps, which are common here.
    a, b = (rankdata(values) - (values.size + 1) / 2 for values in (first, second))
    size = float(np.sqrt((a.ravel() @ a.ravel()) * (b.ravel() @ b.ravel())))
    return float(a.ravel() @ b.ravel()) / size if size else 0.0


def _head_name(recording: Recording) -> str:
    weighted = [call.name for call in recording.calls if call.is_leaf and call.has_weights]
    if not weighted:
        raise ModelError("this network has no layer with weights that could be randomised")
    return weighted[-1]


def _head_check(explanation: Explanation, other: Explanation) -> Check:
    values = _correlations(explanation.maps, other.maps)
    if explanation.method in CLASSLESS:
        what = "the layer's activations" if explanation.layer else "the network's attention"
        words = f"Independent of the class: it shows what dominates {what}."
        return Check("random head", values, "note", words)
    if not any(np.ptp(each) for each in other.maps):
        words = f"{CANNOT}: with a random last layer, the map is empty."
        return Check("random head", values, "note", words)
    doubt = (
        "It hardly changes with a random last layer (similarity {:.2f}, where 1 is the same map): "
        "it reflects the image more than the reason for the class."
    )
    good = "It changes with a random last layer (similarity {:.2f}, where 1 is the same map)."
    return _judged("random head", values, TOO_STABLE, doubt, good)


def _edge_check(explanation: Explanation) -> Check:
    edges = sobel(explanation.images)
    values = _correlations(np.abs(shown(explanation)), edges)
    if not edges.any():
        return Check("edges", values, "note", f"{CANNOT}: the image has no edges to compare with.")
    doubt = (
        "It resembles an edge detector (similarity {:.2f}, where 1 is the same map): much of it "
        "could be drawn without the network."
    )
    good = "It is not just an edge detector (similarity {:.2f}, where 1 is the same map)."
    return _judged("edges", values, TOO_EDGY, doubt, good)


def _correlations(maps: Floats, others: Floats) -> tuple[float, ...]:
    return tuple(rank_correlation(*pair) for pair in zip(maps, others, strict=True))


def _judged(name: str, values: tuple[float, ...], limit: float, doubt: str, good: str) -> Check:
    """Doubtful where the median of the values exceeds the limit."""
    middle = float(np.median(values))
    if middle > limit:
        return Check(name, values, "doubtful", doubt.format(middle))
    return Check(name, values, "good", good.format(middle))


def _with_sameness(explanation: Explanation, others: Sequence[Explanation]) -> Explanation:
    names = [
        METHODS[other.method].title
        for other in others
        if other.method != explanation.method and is_same_map(explanation, other)
    ]
    if not names:
        return explanation
    words = f"Identical to {', '.join(names)} here."
    return _with(explanation, Check("sameness", (), "note", words))


def _with(explanation: Explanation, check: Check) -> Explanation:
    kept = tuple(old for old in explanation.checks if old.name != check.name)
    return replace(explanation, checks=(*kept, check))
