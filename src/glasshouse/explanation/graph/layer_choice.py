"""The layers of a network, and the one at which class activation maps are computed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from glasshouse.errors import UsageError, did_you_mean
from glasshouse.explanation.graph.recording import Call, Recording, is_bypassed, record
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.nouns import LayerChoice, LayerInfo
from glasshouse.models.classifier import Classifier

# Earlier layers have finer maps but worse gradients: before a max pooling most of them are zero,
# and Grad-CAM, which averages them, is often empty. So a 3x3 map is accepted, with a warning.
SMALLEST_SIDE, COARSE_SIDE = 3, 4
_NOT_SHOWN = ("Pool", "Dropout", "Identity", "Flatten")


def layers(classifier: Classifier, image: NDArray[np.uint8]) -> tuple[LayerInfo, ...]:
    """Every layer of the network in the order of execution, with its output shape.

    image: uint8 ``(3, h, w)`` of the network's input size.
    """
    calls = record(classifier.net, as_inputs(classifier, image)[:1], see_all=True).calls
    return tuple({call.name: _info(call) for call in calls}.values())


def shallow_and_deep_layers(
    classifier: Classifier, image: NDArray[np.uint8]
) -> tuple[LayerInfo, ...]:
    """The first activation (or layer, where there is none) and the layer of `choose_layer`.

    image: uint8 ``(3, h, w)`` of the network's input size.
    """
    recording = record(classifier.net, as_inputs(classifier, image)[:1], see_all=True)
    names = shallow_and_deep(recording, choose_layer(recording))
    infos = {call.name: _info(call) for call in recording.calls}
    return tuple(infos[name] for name in names)


def shallow_and_deep(recording: Recording, choice: LayerChoice) -> tuple[str, ...]:
    """The names of the first activation (or layer, where there is none) and the chosen layer."""
    spatial = [info for info in map(_info, recording.calls) if info.has_extent]
    first = next((info for info in spatial if _is_activation(info)), spatial[0])
    return tuple(dict.fromkeys([first.name, module_of(choice.name)]))


def layers_in_depth(recording: Recording, most: int = 12) -> tuple[str, ...]:
    """The names of up to `most` layers with rows and columns, evenly spread from first to last.

    Activations only, where there are at least two.
    """
    infos = {call.name: _info(call) for call in recording.calls}
    spatial = [info for info in infos.values() if info.has_extent]
    bent = [info for info in spatial if _is_activation(info)]
    names = [info.name for info in (bent if len(bent) >= 2 else spatial)]
    places = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)
    return tuple(names[place] for place in dict.fromkeys(places.tolist()))


def choose_layer(recording: Recording) -> LayerChoice:
    """The last layer with a map of at least 3x3 that no skip connection bypasses.

    A layer that a skip connection bypasses shows only part of the information. Where no map is
    that large, the largest is taken. Raises UsageError when no output has rows and columns.
    """
    spatial = [call for call in _candidates(recording.calls) if min(call.shape[2:]) > 1]
    if not spatial:
        raise UsageError(
            "no layer of this network has an output with rows and columns, which class activation "
            "maps need: use saliency, guided or relu"
        )
    wide = [call for call in spatial if min(call.shape[2:]) >= SMALLEST_SIDE]
    largest = max(min(call.shape[2:]) for call in spatial)
    large_enough = wide or [call for call in spatial if min(call.shape[2:]) == largest]
    chosen = _last_on_every_path(recording, large_enough)
    name = _address(chosen, recording.calls)
    return LayerChoice(name, _reason(name, chosen, spatial[-1]), _doubts(chosen, recording.calls))


def find_call(calls: Sequence[Call], layer: str) -> Call:
    """The call that a name refers to: ``name`` is its last call, ``name:0`` its first.

    Raises UsageError with the nearest name for an unknown one.
    """
    name, _, number = layer.partition(":")
    found = [call for call in calls if call.name == name]
    if found and not number:
        return found[-1]
    if found and number.isdecimal() and int(number) < len(found):
        return found[int(number)]
    if found:
        raise UsageError(
            f"{name} runs {len(found)} times, so {name}:0 to {name}:{len(found) - 1} exist; "
            f"got {layer}"
        )
    raise UsageError(f"layer {name} returned no tensor for this image, so it cannot be explained")


def require_layer(net: nn.Module, layer: str) -> None:
    """Raise UsageError with the nearest name when the network has no such layer."""
    known = {name for name, _ in net.named_modules() if name}
    if module_of(layer) not in known:
        nearest = did_you_mean(module_of(layer), known)
        raise UsageError(f"no layer {layer!r} in this network. {nearest}")


def require_extent(call: Call) -> None:
    """Raise UsageError for a layer without rows and columns."""
    if len(call.shape) != 4 or min(call.shape[2:]) < 2:
        raise UsageError(
            f"the output of layer {call.name} is {call.shape[1:]}, but a class activation map "
            "needs (channels, rows, columns) with at least 2 rows and columns: choose a layer "
            "before the pooling or flattening, or leave the layer out"
        )


def module_of(layer: str) -> str:
    """The name without the number of the call."""
    return layer.partition(":")[0]


def _info(call: Call) -> LayerInfo:
    return LayerInfo(call.name, call.kind, call.shape[1:], call.number + 1)


def _is_activation(info: LayerInfo) -> bool:
    return "LU" in info.kind or "Swish" in info.kind


def _candidates(calls: Sequence[Call]) -> list[Call]:
    skipped: set[object] = set()
    kept = []
    for call in calls:
        place = None if call.edge is None else (call.edge.node, call.edge.output_nr)
        if any(word in call.kind for word in _NOT_SHOWN):
            skipped.add(place)
        # A container that ends with a pooling layer shares that layer's output.
        elif len(call.shape) == 4 and place not in skipped:
            kept.append(call)
    return kept


def _last_on_every_path(recording: Recording, calls: Sequence[Call]) -> Call:
    for call in reversed(calls):
        if call.edge is not None and not is_bypassed(recording, call.edge):
            return call
    return calls[-1]


def _address(chosen: Call, calls: Sequence[Call]) -> str:
    is_last = find_call(calls, chosen.name) is chosen
    return chosen.name if is_last else f"{chosen.name}:{chosen.number}"


def _reason(name: str, chosen: Call, last: Call) -> str:
    channels, height, width = chosen.shape[1:]
    size = f"{channels} channels of {height}x{width}"
    if last.shape[2:] == chosen.shape[2:]:
        return f"{name} is the last layer with rows and columns ({size})"
    return (
        f"{name} is the last layer with a map of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} "
        f"({size}); the later {last.name} has only {last.shape[2]}x{last.shape[3]}"
    )


def _doubts(chosen: Call, calls: Sequence[Call]) -> tuple[str, ...]:
    doubts = []
    height, width = chosen.shape[2:]
    if min(height, width) < COARSE_SIDE:
        doubts.append(
            f"The map has only {height}x{width} cells and is spatially coarse: choose an earlier "
            "layer or a larger image."
        )
    place = next(place for place, call in enumerate(calls) if call is chosen)
    weighted, behind = (
        [call for call in some if call.is_leaf and call.has_weights]
        for some in (calls, calls[place + 1 :])
    )
    if len(behind) > len(weighted) / 2:
        doubts.append(
            f"{len(behind)} of {len(weighted)} layers with weights come after {chosen.name} and "
            "may mix positions, so the map is only a rough guide."
        )
    return tuple(doubts)
