"""The outputs of layers for images."""

from collections.abc import Sequence

from glasshouse.explanation.graph.layer_choice import find_call, module_of, require_layer
from glasshouse.explanation.graph.map_layout import Layouts
from glasshouse.explanation.graph.recording import Recording, record
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.nouns import Activations
from glasshouse.models.classifier import Classifier
from glasshouse.models.image_inputs import Images
from glasshouse.models.predict import read_images


def activations(
    classifier: Classifier, images: Images, layers: Sequence[str]
) -> tuple[Activations, ...]:
    """The outputs of the named layers, nested ones too, from one forward pass.

    images: as for `Classifier.predict`. A layer that runs several times has calls ``name:0``,
    ``name:1`` and so on; the plain name is the last. Raises UsageError with the nearest name for an
    unknown layer, BadImage and DataError for what is no image.
    """
    net = classifier.net
    for layer in layers:
        require_layer(net, layer)
    inputs = as_inputs(classifier, read_images(images, classifier))
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
