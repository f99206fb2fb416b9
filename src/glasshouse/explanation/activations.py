"""The outputs of layers for images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glasshouse.explanation.graph.layer_choice import find_call, module_of, require_layer
from glasshouse.explanation.graph.recording import record
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.nouns import Activations
from glasshouse.models.classifier import Classifier


def activations(
    classifier: Classifier, images: NDArray[np.uint8], layers: Sequence[str]
) -> tuple[Activations, ...]:
    """The outputs of the named layers, nested ones too, from one forward pass.

    A layer that runs several times has calls ``name:0``, ``name:1`` and so on; the plain name is
    the last. Raises UsageError with the nearest name for an unknown layer.
    """
    net = classifier.net
    for layer in layers:
        require_layer(net, layer)
    inputs = as_inputs(classifier, images)
    recording = record(net, inputs, keep={module_of(layer) for layer in layers})
    calls = [find_call(recording.calls, layer) for layer in layers]
    return tuple(
        Activations(layer, call.value.float().cpu().numpy())
        for layer, call in zip(layers, calls, strict=True)
        if call.value is not None
    )
