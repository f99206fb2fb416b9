"""The outputs of layers for images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glasshouse.explanation.graph.layer_choice import find_call, module_of, require_layer
from glasshouse.explanation.graph.map_layout import Layouts
from glasshouse.explanation.graph.recording import Recording, record
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
    layouts = Layouts(net, recording)
    return tuple(activations_of(layer, recording, layouts) for layer in layers)


def activations_of(layer: str, recording: Recording, layouts: Layouts) -> Activations:
    """The recorded output of one layer, with its channels first where it is a map."""
    call = find_call(recording.calls, layer)
    assert call.value is not None
    layout = layouts.find([call]).get((call.name, call.number))
    values = call.value if layout is None else layout.fold(call.value)
    return Activations(layer, values.float().cpu().numpy())
