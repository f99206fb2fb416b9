"""Does the prediction rely on the pixels that a map highlights? Deletion and insertion."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from glasshouse.explanation.graph.recording import computing
from glasshouse.explanation.inputs import answering, as_inputs
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import CANNOT, Check, Explanation, Floats
from glasshouse.explanation.trust.sanity import sobel
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import evaluating
from glasshouse.rng import derive
from glasshouse.wording import percentage

Scores = NDArray[np.float64]

# Images per forward pass.
_BATCH = 64
# On a single image, another random order of pixels may change its area by this much.
_SMALL = 0.05
# Below this probability of the explained class, hiding pixels has nothing left to lower.
NEGLIGIBLE = 0.01


@dataclass(frozen=True)
class Faithfulness:
    """Areas under the curve of the class's probability, in 0..1, one per image ``(n,)``.

    deletion: pixels are set to zero, most important first (low is faithful). insertion: pixels
    are restored in a blurred image (high is faithful).
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
    """Delete and insert pixels by importance, orders of ``(n, h, w)`` (Petsiuk et al. 2018).

    All colours of a pixel change together; areas by the trapezoidal rule over steps + 1 points.
    """
    inputs = as_inputs(classifier, images)
    blurred = _blurred(inputs)
    # Every order starts and ends with the same images.
    whole, empty, start = (
        _probability(classifier, each, targets)
        for each in (inputs, torch.zeros_like(inputs), blurred)
    )
    results = []
    for order in orders:
        curve = np.concatenate(list(_curves(classifier, inputs, blurred, (order, targets), steps)))
        deletion, insertion = curve[:, 0], curve[:, 1]
        results.append(
            Faithfulness(_area([whole, *deletion, empty]), _area([start, *insertion, whole]))
        )
    return tuple(results)


def _curves(
    classifier: Classifier,
    inputs: Tensor,
    blurred: Tensor,
    what: tuple[Floats, NDArray[np.int64]],
    steps: int,
) -> Iterator[Scores]:
    """Probabilities ``(some steps, 2, n)`` with pixels deleted and inserted, in blocks of steps."""
    order, targets = what
    places = _places(order)[:, None]
    at_once = max(1, _BATCH // (2 * len(inputs)))
    for first in range(1, steps, at_once):
        images = []
        for step in range(first, min(first + at_once, steps)):
            # Compared before it is sent: MPS has no float64.
            important = torch.from_numpy(places < step / steps).to(inputs.device)
            images += [inputs.masked_fill(important, 0), torch.where(important, inputs, blurred)]
        found = _probability(classifier, torch.cat(images), np.tile(targets, len(images)))
        yield found.reshape(-1, 2, len(inputs))


def check_faithfulness(
    classifier: Classifier, explanations: Sequence[Explanation], *, steps: int = 8, seed: int = 0
) -> tuple[Explanation, ...]:
    """Check each map against a random order of pixels and against Sobel's edges."""
    first = explanations[0]
    images, targets = first.images, first.targets
    generator = np.random.default_rng(derive(seed, "random order"))
    maps = [shown(explanation) for explanation in explanations]
    random_order = generator.random((len(images), *images.shape[2:]))
    orders = [random_order, sobel(images), *maps]
    found = faithfulness(classifier, images, orders, targets, steps=steps)
    baselines = {"random pixels": found[0], "edges": found[1]}
    share = classifier.to_probabilities(first.logits)
    largest = float(share[np.arange(len(targets)), targets].max())
    return tuple(
        replace(
            explanation,
            checks=(
                *explanation.checks,
                _check(own, baselines) if largest >= NEGLIGIBLE else _too_improbable(own, largest),
            ),
        )
        for explanation, own in zip(explanations, found[2:], strict=True)
    )


def _too_improbable(own: Faithfulness, largest: float) -> Check:
    words = (
        f"{CANNOT}: the explained class has a probability of {percentage(largest)}, "
        "too low for deleting pixels to lower it."
    )
    return Check("faithfulness", tuple(_gap(own).tolist()), "note", words)


def _check(own: Faithfulness, baselines: dict[str, Faithfulness]) -> Check:
    ours = _gap(own)
    # A lead has to show in the two decimals that are reported. Adding zero turns -0.00 into 0.00.
    rivals = {n: round(float(np.mean(_gap(r))), 2) + 0.0 for n, r in baselines.items()}
    mean, best = round(float(np.mean(ours)), 2) + 0.0, max(rivals, key=lambda name: rivals[name])
    error = float(np.std(ours, ddof=1) / math.sqrt(len(ours))) if len(ours) > 1 else math.nan
    spread = " (one image)" if math.isnan(error) else f" ± {error:.2f}"
    listed = ", ".join(f"{name} {value:+.2f}" for name, value in rivals.items())
    numbers = f"insertion minus deletion {mean:+.2f}{spread}; {listed}"
    values = tuple(float(value) for value in ours)
    difference = ours - _gap(baselines[best])
    chance = _chance(difference)
    # Where both are equal and sure in these decimals, that is an answer.
    is_even = mean == rivals[best] and chance < 0.005
    if abs(difference.mean()) < chance and not is_even:
        words = (
            f"{CANNOT}: the difference from {best} is so small that it may be chance ({numbers})."
        )
        return Check("faithfulness", values, "note", words)
    if mean > rivals[best]:
        words = f"The prediction relies on the pixels this map highlights ({numbers})."
        return Check("faithfulness", values, "good", words)
    words = f"The prediction relies no more on the highlighted pixels than on {best} ({numbers})."
    return Check("faithfulness", values, "doubtful", words)


def _chance(differences: Scores) -> float:
    """How far from zero chance may take a mean: two standard errors, which one image has not."""
    if len(differences) == 1:
        return _SMALL
    return float(2 * differences.std(ddof=1) / math.sqrt(len(differences)))


def _gap(result: Faithfulness) -> Scores:
    return result.insertion - result.deletion


def _places(importance: Floats) -> NDArray[np.float64]:
    """Each pixel's rank as a share of all pixels: 0 for the most important, always below 1."""
    flat = -importance.reshape(len(importance), -1)
    order = np.argsort(flat, axis=1, kind="stable")
    places = np.empty(flat.shape, dtype=np.float64)
    np.put_along_axis(places, order, np.arange(flat.shape[1]) / flat.shape[1], axis=1)
    return places.reshape(importance.shape)


def _blurred(inputs: Tensor) -> Tensor:
    # Three box filters approximate a Gaussian at any size.
    side = max(3, min(inputs.shape[2:]) // 16 * 2 + 1)
    for _ in range(3):
        padded = functional.pad(inputs, (side // 2,) * 4, mode="replicate")
        inputs = functional.avg_pool2d(padded, side, stride=1)
    return inputs


def _probability(classifier: Classifier, inputs: Tensor, targets: NDArray[np.int64]) -> Scores:
    # Convolutions are a third faster in this layout, and the scores agree up to rounding.
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    net = answering(classifier)
    with computing(inputs.device), evaluating(net):
        # On the CPU, as MPS has no float64.
        logits = net(inputs).cpu().double() / classifier.temperature
    shares = logits.sigmoid() if classifier.is_multi_label else logits.softmax(1)
    chosen = shares[torch.arange(len(targets)), torch.from_numpy(targets)]
    result: Scores = chosen.numpy()
    return result


def _area(curve: Sequence[Scores]) -> Scores:
    points = np.stack(curve)
    result: Scores = (points[1:] + points[:-1]).mean(0) / 2
    return result
