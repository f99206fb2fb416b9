"""Does the net rely on the pixels that a map marks? Deletion and insertion, with baselines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from glasshouse.explanation.graph.recording import computing
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Check, Explanation, Floats
from glasshouse.explanation.trust.sanity import sobel
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import evaluating
from glasshouse.rng import derive

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Faithfulness:
    """Areas under the class's probability, 0..1, a value per image ``(n,)``.

    deletion: pixels set to zero, most important first (low is faithful). insertion: pixels put
    back into a blurred image (high is faithful).
    """

    deletion: Scores
    insertion: Scores


def faithfulness(
    classifier: Classifier,
    images: NDArray[np.uint8],
    orders: Sequence[Floats],
    targets: NDArray[np.int64],
    *,
    steps: int = 8,
) -> tuple[Faithfulness, ...]:
    """Delete and insert pixels in orders of importance ``(n, h, w)`` (Petsiuk et al. 2018).

    All colours of a pixel go together; the areas follow the trapezoid rule over steps + 1 points.
    """
    inputs = as_inputs(classifier, images)
    blurred = _blurred(inputs)
    # Every order starts with the same images and ends with the same.
    whole, empty, start = (
        _probability(classifier, each, targets)
        for each in (inputs, torch.zeros_like(inputs), blurred)
    )
    results = []
    for order in orders:
        falling, rising = [whole], [start]
        places = _places(order)
        for step in range(1, steps):
            gone = torch.from_numpy(places < step / steps).to(inputs.device)[:, None]
            pair = torch.cat([inputs.masked_fill(gone, 0), torch.where(gone, inputs, blurred)])
            deleted, inserted = np.split(_probability(classifier, pair, np.tile(targets, 2)), 2)
            falling.append(deleted)
            rising.append(inserted)
        results.append(Faithfulness(_area([*falling, empty]), _area([*rising, whole])))
    return tuple(results)


def check_faithfulness(
    classifier: Classifier, explanations: Sequence[Explanation], *, steps: int = 8, seed: int = 0
) -> tuple[Explanation, ...]:
    """Add to each map how it fares against a random order and against Sobel's edges."""
    first = explanations[0]
    images, targets = first.images, first.targets
    generator = np.random.default_rng(derive(seed, "random order"))
    maps = [shown(explanation) for explanation in explanations]
    random_order = generator.random((len(images), *images.shape[2:]))
    orders = [random_order, sobel(images), *maps]
    found = faithfulness(classifier, images, orders, targets, steps=steps)
    baselines = {"random pixels": found[0], "edges": found[1]}
    return tuple(
        replace(explanation, checks=(*explanation.checks, _check(own, baselines)))
        for explanation, own in zip(explanations, found[2:], strict=True)
    )


def _check(own: Faithfulness, baselines: dict[str, Faithfulness]) -> Check:
    ours = _gap(own)
    # A lead that two decimals do not show is none; adding zero makes -0.00 a plain zero.
    rivals = {n: round(float(np.mean(_gap(r))), 2) + 0.0 for n, r in baselines.items()}
    mean, best = round(float(np.mean(ours)), 2) + 0.0, max(rivals, key=lambda name: rivals[name])
    error = float(np.std(ours, ddof=1) / math.sqrt(len(ours))) if len(ours) > 1 else math.nan
    spread = "" if math.isnan(error) else f" ± {error:.2f}"
    listed = ", ".join(f"{name} {value:+.2f}" for name, value in rivals.items())
    figures = f"insertion minus deletion {mean:+.2f}{spread}; {listed}"
    values = tuple(float(value) for value in ours)
    if mean > rivals[best]:
        words = f"The network relies on what it marks ({figures})."
        return Check("faithfulness", values, "good", words)
    words = f"The network relies no more on what it marks than on {best} ({figures})."
    return Check("faithfulness", values, "doubtful", words)


def _gap(result: Faithfulness) -> Scores:
    return result.insertion - result.deletion


def _places(importance: Floats) -> NDArray[np.float64]:
    """Each pixel's place in the order, 0 for the most important, below 1."""
    flat = -importance.reshape(len(importance), -1)
    order = np.argsort(flat, axis=1, kind="stable")
    places = np.empty(flat.shape, dtype=np.float64)
    np.put_along_axis(places, order, np.arange(flat.shape[1]) / flat.shape[1], axis=1)
    return places.reshape(importance.shape)


def _blurred(inputs: Tensor) -> Tensor:
    # Three box filters are close to a Gaussian, at any size and without a kernel to build.
    side = max(3, min(inputs.shape[2:]) // 16 * 2 + 1)
    for _ in range(3):
        padded = functional.pad(inputs, (side // 2,) * 4, mode="replicate")
        inputs = functional.avg_pool2d(padded, side, stride=1)
    return inputs


def _probability(classifier: Classifier, inputs: Tensor, targets: NDArray[np.int64]) -> Scores:
    with computing(inputs.device), evaluating(classifier.net):
        logits = classifier.net(inputs).double() / classifier.temperature
    chosen = logits.softmax(1)[torch.arange(len(targets)), torch.from_numpy(targets)]
    result: Scores = chosen.cpu().numpy()
    return result


def _area(curve: Sequence[Scores]) -> Scores:
    points = np.stack(curve)
    result: Scores = (points[1:] + points[:-1]).mean(0) / 2
    return result
