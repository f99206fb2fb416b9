"""Class activation maps of all classes at once, for a linear head."""

from collections.abc import Iterator

import torch
from torch import Tensor

from glasshouse.errors import UsageError
from glasshouse.explanation.graph.layer_choice import (
    choose_layer,
    find_call,
    module_of,
    require_layer,
    require_layout,
)
from glasshouse.explanation.graph.map_layout import Layouts, MapLayout
from glasshouse.explanation.graph.recording import (
    Call,
    Recording,
    differentiating,
    full,
    nodes_between,
    record,
)
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.nouns import Floats
from glasshouse.models.classifier import Classifier
from glasshouse.models.image_inputs import Images
from glasshouse.models.predict import read_images

# Operations whose derivative does not depend on their input.
_LINEAR = (
    "Addmm", "Mm", "T", "View", "UnsafeView", "ReshapeAlias", "Mean", "Squeeze", "Unsqueeze",
    "Clone", "AdaptiveAvgPool2D", "AvgPool2D", "Convolution", "Sum", "Permute", "Transpose",
    "Expand", "ToCopy", "Alias", "AccumulateGrad", "Flatten", "NativeBatchNorm", "Add",
)  # fmt: skip
_CHUNK = 100


def class_maps(classifier: Classifier, images: Images, *, layer: str | None = None) -> Floats:
    """Raw Grad-CAMs ``(n, classes, h, w)`` of all classes, from one forward pass.

    images: as for `Classifier.predict`. After pooling and a linear layer, the gradient of a class
    is the same for every image, so all maps are one product. Raises BadImage and DataError for what
    is no image, and UsageError for a head with activations, where each class needs a backward pass:
    call `explain` for the classes of interest.
    """
    inputs, views = as_inputs(classifier, read_images(images, classifier)), classifier.views
    recording, call, layout = _recorded(classifier, views.stacked(inputs), layer)
    assert call.value is not None and call.edge is not None
    _require_linear(recording, call)
    weights = torch.cat(list(_class_weights(recording, call, layout)))
    each = torch.einsum("nchw,kc->nkhw", layout.fold(full(call.value)), weights)
    maps: Floats = views.mean_map(each, inputs.shape[2:]).cpu().numpy()
    return maps


def _recorded(
    classifier: Classifier, inputs: Tensor, layer: str | None
) -> tuple[Recording, Call, MapLayout]:
    if layer is not None:
        require_layer(classifier.net, layer)
    if layer is None:
        one = record(classifier.net, inputs[:1], see_all=True)
        layer = choose_layer(one, Layouts(classifier.net, one)).name
    name = module_of(layer)
    recording = record(classifier.net, inputs, keep={name}, cut=name if name == layer else None)
    call = find_call(recording.calls, layer)
    layout = Layouts(classifier.net, recording).find([call]).get((call.name, call.number))
    return recording, call, require_layout(call, layout)


def _require_linear(recording: Recording, call: Call) -> None:
    assert call.edge is not None
    behind = nodes_between(recording.logits, [call.edge])
    names = {node.name().split("Backward")[0] for node in behind}
    bent = sorted(names - set(_LINEAR))
    if bent:
        raise UsageError(
            f"after layer {call.name} the network is not linear ({', '.join(bent)}), so the maps "
            "of all classes cannot be computed at once: explain single classes instead"
        )


def _class_weights(recording: Recording, call: Call, layout: MapLayout) -> Iterator[Tensor]:
    """The mean gradient of each logit ``(classes, channels)``, in blocks of classes."""
    assert call.edge is not None
    logits = recording.logits
    count = logits.shape[1]
    for start in range(0, count, _CHUNK):
        chosen = torch.arange(start, min(start + _CHUNK, count), device=logits.device)
        selectors = logits.new_zeros(len(chosen), *logits.shape, requires_grad=False)
        selectors[torch.arange(len(chosen)), 0, chosen] = 1
        with differentiating(logits.device):
            (gradient,) = torch.autograd.grad(
                logits, [call.edge], selectors, retain_graph=True, is_grads_batched=True
            )
        # The first image of each: the gradient is the same for all.
        first = gradient.select(2 if layout.is_sequence_first else 1, 0)
        yield layout.images_first.fold(first).mean((2, 3))
