"""One trial forward pass of a network that may come from anywhere, and what it shows.

Networks return logits, probabilities, dictionaries or tuples of them, and take one channel or
three. What they do is read from the graph of the trial, not from the names of their layers.
"""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from glasshouse.errors import ModelError
from glasshouse.models.final_activation import FinalActivation, Watching
from glasshouse.models.forward import device_of, evaluating
from glasshouse.models.net_outputs import Place, logits_at, place_of_logits
from glasshouse.models.preprocessing import Preprocessing, scale
from glasshouse.models.random_state import kept_random_state, seeded

# Two, because what is right for one image may still mix the images of a batch.
_IMAGES = 2
# By how much answers may differ by rounding, as a share of the largest; in half precisions.
_ALLOWED, _ALLOWED_IN_HALF = 1e-3, 0.05
# As Pillow and the ITU (BT.601) weight red, green and blue.
_LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class TrialPass:
    """What a network did with two images of noise.

    channels: how many it takes. place: where in its answer the logits are. logits: the values
    there, ``(2, k)``. activation: the softmax or sigmoid that they come from, if any. last: the
    name of the operation that they come from; empty without a graph. is_flat: whether the answer
    has just this shape. changes_input: whether it writes into its input. changes_with: what the
    answer for an image depends on besides the image; None as it should be.
    """

    channels: int
    place: Place
    logits: Tensor
    activation: FinalActivation | None
    last: str
    is_flat: bool
    changes_input: bool
    changes_with: Literal["chance", "batch"] | None = None


def run_trial(
    net: nn.Module,
    preprocessing: Preprocessing,
    class_count: int | None,
    *,
    asks_again: bool = True,
) -> TrialPass:
    """Pass noise through a network, which is left as it was.

    class_count: None where the classes are not known. asks_again: whether a second pass, of one
    image, compares the answers; it takes half the time of the first. Raises ModelError for a
    network that takes no images of this size, or whose answer holds no logits.
    """
    try:
        with evaluating(net):
            inputs = trial_inputs(net, preprocessing)
    except NotImplementedError as error:
        raise ModelError(
            f"the network cannot be brought into evaluation mode ({error}), as one of "
            "torch.export: pass the nn.Module that was exported"
        ) from error
    channels, (answer, watching, changes_input) = _answered(net, inputs)
    # Whatever the caller's modes: a part of the answer has its place in the graph as well.
    with torch.inference_mode(False), torch.enable_grad():
        place = place_of_logits(answer, _IMAGES, class_count)
        logits = logits_at(answer, place, _IMAGES)
    activation, last = watching.final(logits)
    answers, changes_with = [answer], None
    if asks_again:
        given = as_taken(net, inputs, channels)
        alone, single = _answer_to_one(net, given, place)
        answers.append(single)
        if not _are_alike(alone, logits[:1]):
            changes_with = _changes_with(net, given, place, logits.detach())
    return TrialPass(
        channels=channels,
        place=place,
        logits=logits.detach(),
        activation=activation,
        last=last,
        is_flat=all(isinstance(each, Tensor) and each.ndim == 2 for each in answers),
        changes_input=changes_input,
        changes_with=changes_with,
    )


def give_sizes(net: nn.Module, preprocessing: Preprocessing) -> None:
    """Give lazy layers their sizes and first weights, by a forward pass of noise.

    Raises ModelError for a network that does not accept it. The random state is the caller's.
    """
    inputs = trial_inputs(net, preprocessing)
    # Not in inference mode, as weights that are made there cannot be trained.
    with evaluating(net), torch.inference_mode(False), torch.no_grad():
        try:
            net(inputs)
        # A network of the user's own may raise anything.
        except Exception as error:
            raise ModelError(why_not_accepted(net, inputs, error)) from error


def trial_inputs(net: nn.Module, preprocessing: Preprocessing) -> Tensor:
    """Two images of noise as the input ``(2, 3, h, w)`` of a network, on its device."""
    size = _IMAGES, 3, preprocessing.height, preprocessing.width
    noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    noise[1] //= 4  # darker, since to many networks all noise looks alike
    return scale(torch.from_numpy(noise).to(device_of(net)), preprocessing)


def as_taken(net: nn.Module, inputs: Tensor, channels: int) -> Tensor:
    """The input in the precision of the network's weights.

    It becomes luminance for one channel, and has an alpha of 1 (opaque) added for four: images with
    transparency are placed on white where they are read.
    """
    if channels == 4:
        inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
    if channels == 1:
        weights = inputs.new_tensor(_LUMINANCE).view(1, 3, 1, 1)
        inputs = (inputs * weights).sum(1, keepdim=True)
    weight = next((p for p in net.parameters() if p.is_floating_point()), None)
    return inputs if weight is None else inputs.to(weight.dtype)


def why_not_accepted(net: nn.Module, inputs: Tensor, error: Exception) -> str:
    """Which layer of a Sequential fails at which shape; for other networks, torch's own words."""
    words = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    values = inputs
    for name, layer in net.named_children() if isinstance(net, nn.Sequential) else ():
        try:
            result = layer(values)
        except Exception:
            shape = "x".join(str(side) for side in values.shape[1:])
            return (
                f"layer {name} ({type(layer).__name__}) does not accept its input of {shape} per "
                f"image. {_advice(layer, values) or words}"
            )
        values = result
    size = "x".join(str(side) for side in inputs.shape[1:])
    return (
        f"the network does not accept images of {size} ({words}). Expected one whose forward takes "
        "a batch of images (n, channels, h, w) alone: wrap another one in a module that adds the "
        "rest"
    )


def _answered(net: nn.Module, inputs: Tensor) -> tuple[int, tuple[Any, Watching, bool]]:
    """The number of channels that the network takes, and its answer."""
    try:
        return 3, _watched(net, as_taken(net, inputs, 3))
    # A network of the user's own may raise anything.
    except Exception as error:
        failed = error
    grey = as_taken(net, inputs, 1)
    try:
        return 1, _watched(net, grey)
    except Exception:
        _refuse_other_channels(net, grey)
    with _quietly(net), torch.no_grad():
        raise ModelError(why_not_accepted(net, as_taken(net, inputs, 3), failed)) from failed


def _refuse_other_channels(net: nn.Module, grey: Tensor) -> None:
    """Raise ModelError for a network that takes two channels, or four and more."""
    for channels in (2, 4, 5, 6):
        try:
            _watched(net, grey.expand(-1, channels, -1, -1))
        except Exception:
            continue
        raise ModelError(
            f"the network takes images of {channels} channels, but images have three (red, green "
            "and blue): put a layer before it that makes its channels of these three"
        )


def _watched(net: nn.Module, inputs: Tensor) -> tuple[Any, Watching, bool]:
    # The graph is read, not computed with: the values in it, for two images, would take gigabytes.
    try:
        return _passed(net, inputs, saved_tensors_hooks(_nothing, _nothing))
    # A network that differentiates on its way needs these values, or forbids the hooks; any other
    # error comes again.
    except Exception:
        return _passed(net, inputs, nullcontext())


def _nothing(_: object) -> Any:
    return None


def _passed(
    net: nn.Module, inputs: Tensor, hooks: AbstractContextManager[object]
) -> tuple[Any, Watching, bool]:
    with _quietly(net), torch.enable_grad(), hooks:
        # Its own weights may be frozen, but no operation may write into a leaf of the graph.
        given = inputs.detach().clone().requires_grad_().clone()
        version = given._version
        with Watching() as watching:
            answer = run_net(net, given)
        return answer, watching, given._version != version


def _answer_to_one(net: nn.Module, inputs: Tensor, place: Place) -> tuple[Tensor, Any]:
    """The logits of the first image alone, and the answer that they are in.

    Raises ModelError for a network that takes two images but not one.
    """
    try:
        answer = _answer_again(net, inputs[:1], seed=1)
        return logits_at(answer, place, 1), answer
    except Exception as error:
        words = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ModelError(
            f"the network answers two images at once, but not a single one ({words}): pass a "
            "network that takes any number of images"
        ) from error


def _changes_with(
    net: nn.Module, inputs: Tensor, place: Place, logits: Tensor
) -> Literal["chance", "batch"]:
    """What makes the answer for an image differ when it is asked again, alone."""
    again = logits_at(_answer_again(net, inputs, seed=2), place, _IMAGES)
    return "batch" if _are_alike(again, logits) else "chance"


def _answer_again(net: nn.Module, inputs: Tensor, seed: int) -> Any:
    # Seeded, as what is random would otherwise be drawn as before.
    with _quietly(net), torch.no_grad(), seeded(device_of(net), seed):
        return run_net(net, inputs.clone())


def _are_alike(one: Tensor, other: Tensor) -> bool:
    is_exact = one.dtype in (torch.float32, torch.float64)
    allowed = (_ALLOWED if is_exact else _ALLOWED_IN_HALF) * other.abs().max()
    difference = (one - other).abs().max()
    # Answers that are not finite are refused where they are given.
    return not bool(difference > allowed)


def run_net(net: nn.Module, inputs: Tensor) -> Any:
    """The network's answer, also with weights that were created in inference mode."""
    named = [*net.named_parameters(), *net.named_buffers()]
    # Tensors created in inference mode cannot be saved for a backward pass; copies can.
    stand_ins = {name: tensor.clone() for name, tensor in named if tensor.is_inference()}
    if not stand_ins:
        return net(inputs)
    return torch.func.functional_call(net, stand_ins, (inputs,))


@contextmanager
def _quietly(net: nn.Module) -> Iterator[None]:
    """Evaluation mode without warnings; the caller's modes and random state do not matter."""
    device = device_of(net)
    # Nothing is gained by compiling for two images.
    is_compiled = any(hasattr(module, "_orig_mod") for module in net.modules())
    with (
        torch.compiler.set_stance("force_eager") if is_compiled else nullcontext(),
        warnings.catch_warnings(action="ignore"),
        evaluating(net),
        torch.inference_mode(False),
        torch.autocast(device.type, enabled=False),
        kept_random_state(device),
    ):
        yield


def _advice(layer: nn.Module, values: Tensor) -> str:
    weight = next((p for p in layer.parameters() if p.dtype != values.dtype), None)
    if weight is not None:
        own, given = (str(each.dtype).removeprefix("torch.") for each in (weight, values))
        return (
            f"Its weights are {own}, but its input is {given}: bring the whole network to one "
            "precision, such as with net.float()."
        )
    if isinstance(layer, nn.Linear) and values.ndim > 2:
        return "Put nn.Flatten() before it."
    if isinstance(layer, nn.Linear):
        size = values.shape[1]
        return f"Its in_features is {layer.in_features}, expected {size}; or use nn.LazyLinear."
    if isinstance(layer, nn.Conv2d) and values.ndim == 4 and values.shape[1] != layer.in_channels:
        return f"Its in_channels is {layer.in_channels}, expected {values.shape[1]}."
    if values.ndim == 4:
        return "Use padding, fewer pools or strides, or larger images."
    return ""
