"""Maps from the attention layers of a recorded forward pass."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from torch import Tensor

from glasshouse.errors import ModelError
from glasshouse.explanation.graph.attention import Attention, are_consecutive, attention_layers
from glasshouse.explanation.graph.map_layout import Layouts, MapLayout
from glasshouse.explanation.graph.recording import Recording, full, gradients
from glasshouse.explanation.maps.rollout import (
    attention_rollout,
    gradient_rollout,
    read_tokens,
    relevance,
)

_INSTEAD = "use grad-cam, occlusion or integrated-gradients"


def rollout_map(name: str, recording: Recording, layouts: Layouts, selector: Tensor) -> Tensor:
    """The map ``(n, rows, columns)`` of attention-rollout or gradient-rollout.

    selector ``(n, k)`` weights the logits. Raises ModelError for a network that they are not
    defined for.
    """
    layers = require_rollout(recording)
    layout = _token_layout(recording, layouts, layers[0].shape[-1])
    last = layers[-1]
    if name == "attention-rollout":
        (found,) = gradients(recording, selector, [last.edge])
        read = read_tokens(last.gradient(found))
        tokens = attention_rollout((full(layer.weights()) for layer in layers), read)
    else:
        read, relevances = _relevances(recording, selector, layers)
        tokens = gradient_rollout(relevances, read)
    return layout.fold(tokens[..., None])[:, 0]


def _relevances(
    recording: Recording, selector: Tensor, layers: Sequence[Attention]
) -> tuple[Tensor, list[Tensor]]:
    """The tokens that the head reads, and each layer's relevance.

    Of weights and gradients, which have an axis of heads, one layer's are kept at a time: each is
    used on the way of the backward pass, which meets the last layer first.
    """
    found: dict[int, Tensor] = {}
    read: list[Tensor] = []

    def use(number: int, at_edge: Tensor | None) -> None:
        if at_edge is not None:
            layer = layers[number]
            slope = full(layer.gradient(full(at_edge)))
            if layer is layers[-1]:
                read.append(read_tokens(slope))
            found[number] = relevance(full(layer.weights()), slope)

    def user(number: int) -> Callable[[tuple[Tensor | None, ...]], None]:
        return lambda given: use(number, given[0])

    with ExitStack() as stack:
        for number, layer in list(enumerate(layers))[1:]:
            stack.callback(layer.edge.node.register_prehook(user(number)).remove)
        (first,) = gradients(recording, selector, [layers[0].edge])
    use(0, first)
    if len(found) < len(layers):
        raise ModelError(
            "a rollout needs attention layers that the class score has a gradient at, but part of "
            f"this network detaches values: {_INSTEAD}"
        )
    return read[0], [found[number] for number in range(len(layers))]


def allows_rollout(recording: Recording, layouts: Layouts) -> bool:
    """Whether the network has attention that a rollout is defined for."""
    try:
        layers = require_rollout(recording)
        _token_layout(recording, layouts, layers[0].shape[-1])
    except ModelError:
        return False
    return True


def rollout_note(recording: Recording) -> str:
    """What a rollout was made from."""
    layers = require_rollout(recording)
    return f"From {len(layers)} attention layers over {layers[0].shape[-1]} tokens."


def require_rollout(recording: Recording) -> tuple[Attention, ...]:
    """The attention layers in order; raises ModelError where their product means nothing."""
    layers = attention_layers(recording.logits)
    if not layers:
        raise ModelError(
            "a rollout needs attention layers (a softmax over tokens, or "
            f"scaled_dot_product_attention), but this network has none: {_INSTEAD}"
        )
    shapes = [layer.shape for layer in layers]
    if not _are_over_same_tokens(shapes, len(recording.logits)):
        sizes = dict.fromkeys("x".join(map(str, shape[-2:])) for shape in shapes)
        raise ModelError(
            "a rollout multiplies attention weights, for which all layers must be over the same "
            f"tokens of the whole image; those of this network are {', '.join(sizes)} (queries x "
            f"keys), in part perhaps in windows: {_INSTEAD}"
        )
    if not all(layer.is_plain for layer in layers):
        raise ModelError(
            "a rollout needs attention weights that sum to 1 over the tokens and are used as they "
            "are, but this network takes the softmax along another axis, or changes them between "
            f"the softmax and the values: {_INSTEAD}"
        )
    if not are_consecutive(layers):
        raise ModelError(
            "a rollout needs attention layers that follow each other, but some of this network "
            f"run side by side: {_INSTEAD}"
        )
    return layers


def _are_over_same_tokens(shapes: Sequence[tuple[int, ...]], count: int) -> bool:
    tokens = shapes[0][-1]
    is_whole = all(len(shape) == 4 and shape[0] == count for shape in shapes)
    are_square = all(shape[-2] == tokens for shape in shapes[:-1])
    return is_whole and are_square and all(shape[-1] == tokens for shape in shapes)


def _token_layout(recording: Recording, layouts: Layouts, tokens: int) -> MapLayout:
    # The axis of the images may have the same length.
    starts = (len(recording.logits), tokens), (tokens, len(recording.logits))
    calls = [call for call in recording.calls if len(call.shape) == 3 and call.shape[:2] in starts]
    # Any of them will do; the last few include some that no attention has mixed much.
    found = [layout for layout in layouts.find(calls[-8:]).values() if layout.is_tokens]
    if not found:
        raise ModelError(
            f"a rollout gives one value per token, but how the {tokens} tokens of this network lie "
            f"over the image could not be found: {_INSTEAD}"
        )
    return found[-1].images_first
