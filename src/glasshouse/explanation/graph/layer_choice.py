"""Which layers a net has, and which one a class activation map is drawn at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from glasshouse.errors import UsageError, did_you_mean
from glasshouse.explanation.graph.recording import Call, Recording, is_bypassed, record
from glasshouse.explanation.inputs import as_inputs
from glasshouse.models.classifier import Classifier

# An earlier layer has a finer map and worse gradients: before a pooling of maxima most of them are
# zero, and Grad-CAM's mean over them is often empty. So a map of 3x3 is taken, with a warning.
SMALLEST_SIDE, COARSE_SIDE = 3, 4
_NOT_LAYERS_TO_SEE = ("Pool", "Dropout", "Identity", "Flatten")


@dataclass(frozen=True)
class LayerInfo:
    """A layer that can be explained: its name, class, output shape without the batch, calls."""

    name: str
    kind: str
    shape: tuple[int, ...]
    calls: int

    @property
    def has_extent(self) -> bool:
        """Whether its output has rows and columns, as a map needs."""
        return len(self.shape) == 3 and min(self.shape[1:]) > 1


@dataclass(frozen=True)
class LayerChoice:
    """The layer of a map, and why it was taken; warnings are plain sentences."""

    name: str
    reason: str
    warnings: tuple[str, ...] = ()


def layers(classifier: Classifier, image: NDArray[np.uint8]) -> tuple[LayerInfo, ...]:
    """Every layer of the net in the order in which it ends, with its output shape.

    image: uint8 ``(3, h, w)`` of the net's size.
    """
    inputs = as_inputs(classifier, image)[:1]
    calls = record(classifier.net, inputs, see_all=True).calls
    infos: dict[str, LayerInfo] = {}
    for call in calls:
        infos[call.name] = LayerInfo(call.name, call.kind, call.shape[1:], call.number + 1)
    return tuple(infos.values())


def choose_layer(recording: Recording) -> LayerChoice:
    """The last layer before pooling that all information passes, with a map of 3x3 or more.

    Layers that a skip goes around show only a part of what the net saw. Where no map is that
    large, the largest is taken. Raises UsageError when no output has rows and columns.
    """
    spatial = [call for call in _candidates(recording.calls) if min(call.shape[2:]) > 1]
    if not spatial:
        raise UsageError(
            "no layer of this network has an output with rows and columns, so that no class "
            "activation map can be drawn: use saliency, guided or relu"
        )
    wide = [call for call in spatial if min(call.shape[2:]) >= SMALLEST_SIDE]
    largest = max(min(call.shape[2:]) for call in spatial)
    large_enough = wide or [call for call in spatial if min(call.shape[2:]) == largest]
    chosen = _last_on_every_way(recording, large_enough)
    name = _address(chosen, recording.calls)
    return LayerChoice(name, _reason(name, chosen, spatial[-1]), _doubts(chosen, recording.calls))


def find_call(calls: Sequence[Call], layer: str) -> Call:
    """The call that a name means: ``name`` its last call, ``name:0`` its first.

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
    raise UsageError(f"layer {name} gave no output that can be explained for this image")


def require_layer(net: nn.Module, layer: str) -> None:
    """Raise UsageError with the nearest name when the net has no such layer."""
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


def _candidates(calls: Sequence[Call]) -> list[Call]:
    skipped: set[object] = set()
    kept = []
    for call in calls:
        place = None if call.edge is None else (call.edge.node, call.edge.output_nr)
        if any(word in call.kind for word in _NOT_LAYERS_TO_SEE):
            skipped.add(place)
        # A container that ends with a pooling layer has the same output as that layer.
        elif len(call.shape) == 4 and place not in skipped:
            kept.append(call)
    return kept


def _last_on_every_way(recording: Recording, calls: Sequence[Call]) -> Call:
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
        f"({size}); {last.name} behind it has only {last.shape[2]}x{last.shape[3]}"
    )


def _doubts(chosen: Call, calls: Sequence[Call]) -> tuple[str, ...]:
    doubts = []
    height, width = chosen.shape[2:]
    if min(height, width) < COARSE_SIDE:
        doubts.append(
            f"The map has only {height}x{width} cells: it says little about where. Choose an "
            "earlier layer or a larger image."
        )
    weighted = [call for call in calls if call.is_leaf and call.has_weights]
    behind = [call for call in weighted if calls.index(call) > calls.index(chosen)]
    if len(behind) > len(weighted) / 2:
        doubts.append(
            f"{len(behind)} of {len(weighted)} layers with weights lie behind {chosen.name}: the "
            "network mixes places after it, so the map is a rough guide."
        )
    return tuple(doubts)
