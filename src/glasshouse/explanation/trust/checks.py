"""What "all" means for one net, and every check on its maps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch.autograd.graph import GradientEdge

from glasshouse.explanation.graph.layer_choice import (
    LayerInfo,
    choose_layer,
    find_call,
    require_layer,
)
from glasshouse.explanation.graph.recording import input_edge, nodes_between, record
from glasshouse.explanation.graph.relu_rules import count_relus
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.methods import METHODS, MethodName
from glasshouse.explanation.nouns import Explanation, shown
from glasshouse.explanation.trust.faithfulness import check_faithfulness
from glasshouse.explanation.trust.sanity import (
    check_content,
    check_edges,
    check_head,
    check_sameness,
)
from glasshouse.models.classifier import Classifier

SHEET_METHODS: tuple[MethodName, ...] = (
    "saliency", "guided", "relu", "grad-cam", "grad-cam-guided-rule", "grad-cam-relu-rule",
    "guided-grad-cam", "hires-cam", "grad-cam++", "layer-cam", "eigen-cam", "smoothgrad",
    "integrated-gradients", "occlusion",
)  # fmt: skip


def sheet_methods(
    classifier: Classifier, image: NDArray[np.uint8], layer: str | None = None
) -> tuple[MethodName, ...]:
    """The methods of a sheet; a rule about ReLUs only where it has some to act on.

    layer: where class activation maps are drawn; unset: `choose_layer`'s. Raises UsageError for an
    unknown one.
    """
    if layer is not None:
        require_layer(classifier.net, layer)
    recording = record(classifier.net, as_inputs(classifier, image)[:1], see_all=True)
    call = find_call(recording.calls, layer or choose_layer(recording).name)

    def acts(edge: GradientEdge | None) -> bool:
        return edge is not None and count_relus(nodes_between(recording.logits, [edge])).changed > 0

    everywhere, behind = acts(input_edge(recording)), acts(call.edge)
    return tuple(
        name
        for name in SHEET_METHODS
        if METHODS[name].rule == "vanilla"
        or (behind if METHODS[name].source == "layer" else everywhere)
    )


def telling_layers(classifier: Classifier, image: NDArray[np.uint8]) -> tuple[LayerInfo, ...]:
    """The first activation, or layer where there is none, and the last layer with a map."""
    recording = record(classifier.net, as_inputs(classifier, image)[:1], see_all=True)
    infos = [LayerInfo(c.name, c.kind, c.shape[1:], c.number + 1) for c in recording.calls]
    spatial = [info for info in infos if info.has_extent]
    activations = [info for info in spatial if "LU" in info.kind or "Swish" in info.kind]
    deepest = choose_layer(recording).name
    last = [info for info in spatial if info.name == deepest.partition(":")[0]]
    return tuple(dict.fromkeys([(activations or spatial)[0], last[-1]]))


def check_all(
    classifier: Classifier, explanations: Sequence[Explanation]
) -> tuple[Explanation, ...]:
    """Every check of this package on the maps of one `explain` call, cheapest first.

    Of a map that is empty for every image nothing more is asked.
    """
    done = {each.method: each for each in check_content(explanations)}
    filled = [each for each in done.values() if shown(each).any()]
    if filled:
        checked = check_head(classifier, check_sameness(check_edges(filled)))
        done |= {each.method: each for each in check_faithfulness(classifier, checked)}
    return tuple(done[each.method] for each in explanations)
