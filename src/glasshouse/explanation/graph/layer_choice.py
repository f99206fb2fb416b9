"""The layers of a network, and the one at which class activation maps are computed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from glasshouse.errors import UsageError, did_you_mean
from glasshouse.explanation.graph.attention import last_attention
from glasshouse.explanation.graph.map_layout import CallKey, Layouts, MapLayout
from glasshouse.explanation.graph.recording import Call, Recording, is_bypassed, record
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.nouns import LayerChoice, LayerInfo
from glasshouse.models.classifier import Classifier
from glasshouse.models.image_inputs import Images
from glasshouse.models.predict import read_images


class NoMapLayer(UsageError):
    """No layer of a network has an output with rows and columns."""


# Earlier layers have finer maps but worse gradients: before a max pooling most of them are zero,
# and Grad-CAM, which averages them, is often empty. So a 3x3 map is accepted, with a warning.
SMALLEST_SIDE, COARSE_SIDE = 3, 4
# How many of the last layers are looked at first: measuring all layers of a transformer is slow.
_LATE = 24
_NOT_SHOWN = ("Pool", "Dropout", "Identity", "Flatten")


def layers(classifier: Classifier, image: NDArray[np.uint8]) -> tuple[LayerInfo, ...]:
    """Every layer of the network in the order of execution, with its output shape.

    image: uint8 ``(3, h, w)`` of the network's input size.
    """
    recording = record(classifier.net, as_inputs(classifier, image)[:1], see_all=True)
    return tuple(_infos(recording, Layouts(classifier.net, recording)).values())


def shallow_and_deep_layers(classifier: Classifier, image: Images) -> tuple[LayerInfo, ...]:
    """The first activation (or layer, where there is none) and the layer of `choose_layer`.

    image: as for `Classifier.predict`, or pixels ``(3, h, w)`` of the network's input size; of
    several images, the first is taken. Raises BadImage and DataError for what is no image.
    """
    # One image is meant, so that three axes are not three images.
    if isinstance(image, np.ndarray) and image.ndim == 3:
        image = [image]
    pixels = read_images(image, classifier)[:1]
    recording = record(classifier.net, as_inputs(classifier, pixels), see_all=True)
    layouts = Layouts(classifier.net, recording)
    infos = _infos(recording, layouts)
    choice = choose_layer(recording, layouts)
    return tuple(infos[name] for name in _shallow_and_deep(infos, choice))


def shallow_and_deep(
    recording: Recording, layouts: Layouts, choice: LayerChoice
) -> tuple[str, ...]:
    """The names of the first activation (or layer, where there is none) and the chosen layer."""
    return _shallow_and_deep(_infos(recording, layouts), choice)


def layers_in_depth(recording: Recording, layouts: Layouts, most: int = 12) -> tuple[str, ...]:
    """The names of up to `most` layers with rows and columns, evenly spread from first to last.

    Activations only, where there are at least two.
    """
    spatial = [info for info in _infos(recording, layouts).values() if info.has_extent]
    bent = [info for info in spatial if _is_activation(info)]
    names = [info.name for info in (bent if len(bent) >= 2 else spatial)]
    places = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)
    return tuple(names[place] for place in dict.fromkeys(places.tolist()))


def choose_layer(recording: Recording, layouts: Layouts) -> LayerChoice:
    """The last layer with a map of at least 3x3 that no skip connection bypasses.

    A layer that a skip connection bypasses shows only part of the information. Where no map is
    that large, the largest is taken. Where the maps are tokens and an attention layer comes later,
    it is the last normalisation before the last attention instead: behind it, a class token may
    already have gathered everything, and the gradient at the patches would be zero. Raises
    NoMapLayer when no output has rows and columns.
    """
    shown = _shown(recording.calls)
    late = _mapped(shown[-_LATE:], layouts)
    wide = [each for each in late if _side(each) >= SMALLEST_SIDE]
    if _on_every_path(recording, wide) is not None:
        return _chosen(recording, wide, late[-1])
    spatial = _mapped(shown, layouts)
    if not spatial:
        raise NoMapLayer(
            "no layer of this network has an output with known rows and columns, which class "
            "activation maps need: use saliency, smoothgrad, integrated-gradients or occlusion"
        )
    wide = [each for each in spatial if _side(each) >= SMALLEST_SIDE]
    largest = max(map(_side, spatial))
    large_enough = wide or [each for each in spatial if _side(each) == largest]
    return _chosen(recording, large_enough, spatial[-1])


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
    raise UsageError(
        f"layer {name} returned no tensor of real numbers for this image, so it cannot be explained"
    )


def require_layer(net: nn.Module, layer: str) -> None:
    """Raise UsageError with the nearest name when the network has no such layer."""
    known = {name for name, _ in net.named_modules() if name}
    if module_of(layer) not in known:
        nearest = did_you_mean(module_of(layer), known)
        raise UsageError(f"no layer {layer!r} in this network. {nearest}")


def require_layout(call: Call, layout: MapLayout | None) -> MapLayout:
    """The layout; raises UsageError for a layer without several rows and columns."""
    if layout is not None and layout.has_extent:
        return layout
    raise UsageError(
        f"the output of layer {call.name} is {call.shape[1:]}, but a class activation map needs at "
        "least 2 rows and columns, channels first or last, or one token for each patch of the "
        "image: choose another layer (glasshouse explain MODEL --layers lists them), or leave the "
        "layer out"
    )


def module_of(layer: str) -> str:
    """The name without the number of the call."""
    return layer.partition(":")[0]


_Mapped = tuple[Call, MapLayout]


def _infos(recording: Recording, layouts: Layouts) -> dict[str, LayerInfo]:
    found = layouts.find(recording.calls)
    return {call.name: _info(call, found) for call in recording.calls}


def _info(call: Call, layouts: dict[CallKey, MapLayout]) -> LayerInfo:
    layout = layouts.get((call.name, call.number))
    size = None if layout is None else (layout.rows, layout.columns)
    return LayerInfo(call.name, call.kind, call.shape[1:], call.number + 1, size)


def _shallow_and_deep(infos: dict[str, LayerInfo], choice: LayerChoice) -> tuple[str, ...]:
    spatial = [info for info in infos.values() if info.has_extent]
    first = next((info for info in spatial if _is_activation(info)), spatial[0])
    return tuple(dict.fromkeys([first.name, module_of(choice.name)]))


def _is_activation(info: LayerInfo) -> bool:
    return "LU" in info.kind or "swish" in info.kind.lower()


def _chosen(recording: Recording, mapped: Sequence[_Mapped], last: _Mapped) -> LayerChoice:
    """The best of these layers, which are large enough; last: of those that may be too small."""
    chosen = _on_every_path(recording, mapped) or mapped[-1]
    why = _reason(chosen, last)
    norm = _norm_before_last_attention(recording, mapped) if chosen[1].is_tokens else None
    if norm is not None:
        chosen = norm
        why = f"the last normalisation before the last attention ({_size(norm)})"
    name = _address(chosen[0], recording.calls)
    return LayerChoice(name, f"{name} is {why}", _doubts(chosen, recording.calls))


def _mapped(calls: Sequence[Call], layouts: Layouts) -> list[_Mapped]:
    """The layers whose outputs are maps of several rows and columns, in order."""
    exact = [(call, layouts.traced(call)) for call in calls]
    is_map = [layout is not None and layout.has_extent for _, layout in exact]
    last = max((place for place, known in enumerate(is_map) if known), default=-1)
    # Measuring takes a forward pass of 10 images, which networks that end with maps do not need.
    if not any(layouts.may(call) for call in calls[last + 1 :]):
        return [(call, layout) for call, layout in exact if layout and layout.has_extent]
    found = layouts.find(calls)
    pairs = [(call, found.get((call.name, call.number))) for call in calls]
    return [(call, layout) for call, layout in pairs if layout and layout.has_extent]


def _shown(calls: Sequence[Call]) -> list[Call]:
    skipped: set[object] = set()
    kept = []
    for call in calls:
        place = None if call.edge is None else (call.edge.node, call.edge.output_nr)
        if any(word in call.kind for word in _NOT_SHOWN):
            skipped.add(place)
        # A container that ends with a pooling layer shares that layer's output.
        elif len(call.shape) in (3, 4) and place not in skipped:
            kept.append(call)
    return kept


def _side(each: _Mapped) -> int:
    return min(each[1].rows, each[1].columns)


def _on_every_path(recording: Recording, mapped: Sequence[_Mapped]) -> _Mapped | None:
    """The last layer that no skip connection bypasses."""
    for each in reversed(mapped):
        edge = each[0].edge
        if edge is not None and not is_bypassed(recording, edge):
            return each
    return None


def _norm_before_last_attention(recording: Recording, mapped: Sequence[_Mapped]) -> _Mapped | None:
    attention = last_attention(recording.logits)
    if attention is None:
        return None
    norms = [
        each
        for each in mapped
        if each[1].is_tokens
        and "Norm" in each[0].kind
        and each[0].edge is not None
        and each[0].edge.node._sequence_nr() < attention._sequence_nr()
    ]
    return norms[-1] if norms else None


def _address(chosen: Call, calls: Sequence[Call]) -> str:
    is_last = find_call(calls, chosen.name) is chosen
    return chosen.name if is_last else f"{chosen.name}:{chosen.number}"


def _size(mapped: _Mapped) -> str:
    call, layout = mapped
    channels = call.shape[layout.order[1] if layout.order else 2]
    return f"{channels} channels of {layout.rows}x{layout.columns}{layout.words}"


def _reason(chosen: _Mapped, last: _Mapped) -> str:
    layout, (later, small) = chosen[1], last
    if (small.rows, small.columns) == (layout.rows, layout.columns):
        return f"the last layer with rows and columns ({_size(chosen)})"
    return (
        f"the last layer with a map of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} "
        f"({_size(chosen)}); the later {later.name} has only {small.rows}x{small.columns}"
    )


def _doubts(chosen: _Mapped, calls: Sequence[Call]) -> tuple[str, ...]:
    doubts = []
    call, layout = chosen
    if min(layout.rows, layout.columns) < COARSE_SIDE:
        doubts.append(
            f"The map has only {layout.rows}x{layout.columns} cells and is spatially coarse: "
            "choose an earlier layer or a larger image."
        )
    place = next(place for place, each in enumerate(calls) if each is call)
    weighted, behind = (
        [each for each in some if each.is_leaf and each.has_weights]
        for some in (calls, calls[place + 1 :])
    )
    if len(behind) > len(weighted) / 2:
        doubts.append(
            f"{len(behind)} of {len(weighted)} layers with weights come after {call.name} and "
            "may mix positions, so the map is only a rough guide."
        )
    return tuple(doubts)
