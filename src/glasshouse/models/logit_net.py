"""Any network as one that takes float32 RGB images and returns logits.

Training, prediction and explanation need no more of a network than that, so differences between
networks end here.
"""

import copy
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from glasshouse.errors import GlasshouseWarning, ModelError
from glasshouse.models.final_activation import BOUNDED, FinalActivation, LeavingOff
from glasshouse.models.final_softmax import describe_left_off
from glasshouse.models.net_arguments import require_channels
from glasshouse.models.net_outputs import Place, logits_at
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.models.trial import TrialPass, as_taken, give_sizes, run_trial

# After these operations a value may be any number; only after others can it be a probability.
_OPEN = (
    "Addmm", "Mm", "Bmm", "Convolution", "Mean", "AdaptiveAvgPool2D", "AvgPool2D", "Amax", "Max",
    "AdaptiveMaxPool2D", "MaxPool2DWithIndices", "Logsumexp", "Index", "IndexSelect", "Gather",
    "Sum", "Mul", "Add", "Sub", "Logit", "Log", "Abs", "NativeBatchNorm", "NativeLayerNorm",
    "AccumulateGrad", "",
)  # fmt: skip
# A last layer of these is odd, but its values are still used as logits.
_HALF_OPEN = ("Relu", "LeakyRelu", "Elu", "Gelu", "Silu", "Hardswish", "Softplus", "Threshold")
_LIMITING = (*_HALF_OPEN, "Tanh", "Hardtanh", "Clamp")
# After these, values change in steps, and their gradient is zero.
_STEPS = ("Sign", "Sgn", "Round", "Floor", "Ceil", "Trunc", "Heaviside")
# How near a decision that was made differentiable is to 0 or 1.
_NEAR = 1e-5
# What probabilities of classes sum to, also in percent.
_SUMS = (1.0, 100.0)


@dataclass(frozen=True)
class Reading:
    """How a network is called: the channels it takes, and how its answer becomes logits.

    activation: is left off. are_probabilities: the logarithms of its values are its logits.
    is_single: its one value z becomes the logits (0, z). is_flat: its answer has no further axes.
    is_cast: its weights are not float32. is_copied: it writes into its input.
    """

    channels: int = 3
    place: Place = None
    activation: FinalActivation | None = None
    are_probabilities: bool = False
    is_single: bool = False
    is_flat: bool = True
    is_cast: bool = False
    is_copied: bool = False


def as_logit_net(
    net: nn.Module,
    preprocessing: Preprocessing,
    class_names: tuple[str, ...],
    *,
    is_multi_label: bool = False,
    is_known: bool = False,
) -> nn.Module:
    """The network itself if it returns logits ``(n, k)``, else one that shares all it consists of.

    A trial forward pass shows what the network does; what is done about it is said in a warning. A
    softmax or sigmoid at the end is left off, one output z becomes the logits (0, z), an answer
    with several parts is reduced to its logits, and a network of one channel gets luminance.
    class_names: empty where they are not known. is_multi_label: each output answers yes or no by
    itself. is_known: whether a library or Glasshouse has built it, so that its answer for an image
    depends on nothing else. Raises ModelError for a network that does not accept such images, and
    for one whose outputs are not one per class.
    """
    if not _has_values(net, preprocessing):
        return net
    condition = _condition(net, preprocessing, len(class_names), is_multi_label)
    if _FOUND_PLAIN.get(net) == condition:
        return net
    if isinstance(net, _ReadNet):
        outputs = run_trial(net, preprocessing, None, asks_again=False).logits.shape[1]
        _require_count(outputs, class_names, is_multi_label)
        _FOUND_PLAIN[net] = condition
        return net
    # What torch.compile hides is computed in the same way by the network it was given.
    plain: nn.Module = getattr(net, "_orig_mod", net)
    trial = run_trial(plain, preprocessing, len(class_names) or None, asks_again=not is_known)
    reading = _reading(plain, trial, class_names, is_multi_label)
    unsteady = _unsteady(plain, trial)
    if unsteady:
        warnings.warn(unsteady, GlasshouseWarning, stacklevel=2)
    if reading == Reading():
        _FOUND_PLAIN[net] = condition
        return net
    if isinstance(plain, torch.jit.ScriptModule):
        raise ModelError(
            "the network is scripted, so that its answer cannot be read as logits: pass the "
            "nn.Module that torch.jit was given"
        )
    for sentence in _notes(trial, reading, class_names):
        warnings.warn(sentence, GlasshouseWarning, stacklevel=2)
    return _read(plain, reading)


def taking_rgb(net: nn.Module, channels: int) -> nn.Module:
    """A network that was built for 1 or 4 channels, as one that takes RGB images.

    It shares all it consists of. Of images it receives the luminance, or red, green, blue and an
    alpha of 1. Raises ModelError for another number of channels than 1, 3 and 4.
    """
    require_channels(channels)
    return net if channels == 3 else _read(net, Reading(channels=channels))


# Classifiers are copied with other fields again and again; one trial of a network is enough.
_FOUND_PLAIN: WeakKeyDictionary[nn.Module, tuple[object, ...]] = WeakKeyDictionary()


def _condition(net: nn.Module, *others: object) -> tuple[object, ...]:
    return repr(net), {each.dtype for each in net.parameters()}, *others


def _has_values(net: nn.Module, preprocessing: Preprocessing) -> bool:
    """Whether a network is not on the meta device; lazy layers get their sizes."""
    weights = [*net.parameters(), *net.buffers()]
    if any(each.is_meta for each in weights if not is_lazy(each)):
        return False
    if any(is_lazy(each) for each in weights):
        with torch.random.fork_rng(devices=[]):
            give_sizes(net, preprocessing)
    return True


def _reading(
    net: nn.Module, trial: TrialPass, class_names: tuple[str, ...], is_multi_label: bool
) -> Reading:
    outputs, activation = trial.logits.shape[1], trial.activation
    are_probabilities = activation is None and _are_probabilities(trial)
    if is_multi_label:
        _require_separate_answers(trial, are_probabilities)
    else:
        _require_softmax_over_classes(trial)
        _require_no_separate_answers(trial)
    _require_no_limits(trial, is_single=outputs == 1 and not is_multi_label)
    _require_count(outputs, class_names, is_multi_label)
    weight = next((p for p in net.parameters() if p.is_floating_point()), None)
    return Reading(
        channels=trial.channels,
        place=trial.place,
        activation=activation,
        are_probabilities=are_probabilities,
        is_single=outputs == 1 and not is_multi_label,
        is_flat=trial.is_flat or trial.place is not None,
        is_cast=weight is not None and weight.dtype != torch.float32,
        is_copied=trial.changes_input,
    )


def _require_count(outputs: int, class_names: tuple[str, ...], is_multi_label: bool) -> None:
    """Raise ModelError unless there is one output per class, or one for two classes."""
    count = len(class_names)
    is_single = outputs == 1 and not is_multi_label
    if not count or (count == 2 if is_single else outputs == count):
        return
    if is_single:
        raise ModelError(
            f"the network returns one value per image, which tells two classes apart, but there "
            f"{'is one class' if count == 1 else f'are {count} classes'}: name two classes, first "
            "the one that low values stand for, or give its last layer an output per class"
        )
    raise ModelError(
        f"the network returns {outputs} values per image, but there "
        f"{'is 1 class' if count == 1 else f'are {count} classes'}: its last layer needs {count} "
        "outputs, or the classifier as many class names as outputs"
    )


def _require_softmax_over_classes(trial: TrialPass) -> None:
    activation = trial.activation
    if activation is None or activation.axis is None:
        return
    if activation.axis == 0:
        raise ModelError(
            f"the {activation.kind} at the end of the network is computed over the images of a "
            "batch (dim=0), so that the answer for an image depends on the others: use dim=1"
        )
    if trial.logits.shape[1] == 1:
        raise ModelError(
            f"the {activation.kind} at the end of the network has one value, so that its answer is "
            "always the same: use a sigmoid, or an output per class"
        )


def _require_no_separate_answers(trial: TrialPass) -> None:
    """Raise ModelError for several outputs that are each a yes or no."""
    kind = None if trial.activation is None else trial.activation.kind
    if kind in ("sigmoid", "log-sigmoid") and trial.logits.shape[1] > 1:
        raise ModelError(
            f"the network ends in a {kind} of {trial.logits.shape[1]} outputs, each of which "
            "answers yes or no, so that an image may have several labels: pass the classifier "
            "thresholds, one per label; if exactly one is right, pass the network without the "
            f"{kind}"
        )


def _require_separate_answers(trial: TrialPass, are_probabilities: bool) -> None:
    """Raise ModelError for outputs of which only one can be right."""
    is_softmax = trial.activation is not None and "softmax" in trial.activation.kind
    if is_softmax or are_probabilities:
        raise ModelError(
            "the network ends in a softmax, after which one class is right, but the classifier has "
            "thresholds for several labels: leave the thresholds out, or the softmax"
        )


def _require_no_limits(trial: TrialPass, *, is_single: bool) -> None:
    """Raise ModelError for outputs from an activation that is neither a sigmoid nor a softmax."""
    if trial.activation is None and _are_decisions(trial):
        raise ModelError(
            "the network returns decisions, 0 or 1, or rounded values, which say little about how "
            "certain they are: pass a network that returns the values before argmax, rounding or "
            "a comparison"
        )
    if _are_negative_logarithms(trial):
        raise ModelError(
            "the network returns negative logarithms of probabilities, so that its lowest value "
            "stands for the most probable class: pass a network that returns their negation"
        )
    if trial.activation is not None or trial.last in _OPEN:
        return
    if is_single and (trial.last in _LIMITING or _is_fraction(trial.logits)):
        raise ModelError(
            f"the one output of the network comes from an operation ({trial.last}) that limits its "
            "values, and not from a sigmoid at its end: pass a network that returns the value "
            "before it"
        )
    is_limited = trial.last not in _HALF_OPEN and _is_fraction(trial.logits)
    if is_limited and not _are_probabilities(trial):
        raise ModelError(
            f"the outputs of the network are between 0 and 1, but do not sum to 1 (they come from "
            f"{trial.last}): expected logits, or a softmax of them; pass a network that returns "
            "the values before this operation"
        )


def _are_decisions(trial: TrialPass) -> bool:
    """Whether the values are 0 or 1, or change in steps.

    Without a graph they come from a comparison, also where all are 0. A decision that was given the
    gradient of probabilities, as by Gumbel softmax, comes from them and is near 0 or 1.
    """
    values = trial.logits
    near = torch.minimum(values.abs(), (values - 1).abs())
    if not trial.last:
        return not near.any()
    return trial.last in _STEPS or (trial.last in BOUNDED and bool((near < _NEAR).all()))


def _unsteady(net: nn.Module, trial: TrialPass) -> str:
    """What is said of answers that depend on more than the image; empty where they do not."""
    if trial.changes_with == "chance":
        return (
            "The network's answers are random: the same image has another one each time, as with "
            "dropout that is always on or Gumbel softmax. Each answer and map is one draw."
        )
    if trial.changes_with is None:
        return ""
    names = [
        name
        for name, module in net.named_modules()
        if getattr(module, "running_mean", "") is None and isinstance(module, _BatchNorm)
    ]
    cause = f": layer {names[0]} has no running statistics" if names else ""
    return (
        f"The network's answer for an image depends on the other images of its batch{cause}. The "
        "same image alone, or among others, has another answer and other maps."
    )


def _is_fraction(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _are_probabilities(trial: TrialPass) -> bool:
    """Whether each row of the values consists of the probabilities of the classes."""
    # On the CPU, as MPS has no float64.
    values, is_open = trial.logits.cpu().double(), trial.last in _OPEN
    # Constant values may sum to anything, and those of a linear layer do so by chance.
    is_constant = is_open and torch.equal(values[0], values[1])
    if trial.last in ("Addmm", "Convolution") or is_constant or bool((values < 0).any()):
        return False
    sums, precision = values.sum(1), torch.finfo(trial.logits.dtype).eps
    return any(bool(((sums / whole - 1).abs() < 64 * precision).all()) for whole in _SUMS)


def _are_negative_logarithms(trial: TrialPass) -> bool:
    found = replace(trial, logits=(-trial.logits).exp())
    return trial.activation is None and trial.logits.shape[1] > 1 and _are_probabilities(found)


def _notes(trial: TrialPass, reading: Reading, names: tuple[str, ...]) -> list[str]:
    """What is said of a network that is not called as it is."""
    found = []
    if reading.activation is not None:
        kind = reading.activation.kind
        found.append(describe_left_off(kind, is_adjusted=reading.activation.is_adjusted))
    if reading.are_probabilities:
        found.append(
            "The network returns probabilities; no softmax that could be left off was found, so "
            "their logarithms are used as logits."
        )
    if reading.is_single:
        low, high = names or ("class 0", "class 1")
        found.append(
            f"The network has one output, which is read as a sigmoid's: high values stand for "
            f"{high}, low values for {low}."
        )
    if reading.place is not None:
        where = f"'{reading.place}'" if isinstance(reading.place, str) else f"part {reading.place}"
        found.append(f"The network returns several values: its logits are taken from {where}.")
    if reading.channels == 1:
        found.append("The network takes one channel: it receives the luminance of images.")
    return found


class _ReadNet(nn.Module):
    """What is placed before the class of a network, so that calling it returns logits."""

    reading: Reading

    def __call__(self, inputs: Tensor) -> Tensor:
        """Images ``(n, 3, h, w)`` to logits ``(n, k)``, float32 or those of a float64 network."""
        reading = self.reading
        taken = as_taken(self, inputs, reading.channels)
        taken = taken.clone() if reading.is_copied else taken
        call = super().__call__
        if reading.activation is None:
            answer: Any = call(taken)
        else:
            # Apart from the context, of which torch.export knows nothing.
            without = LeavingOff(reading.activation)
            with without:
                answer = call(taken)
            without.require_found()
            answer = answer if without.given is None else without.given
        values = logits_at(answer, reading.place, inputs.shape[0])
        values = values if values.dtype == torch.float64 else values.float()
        if reading.are_probabilities:
            values = values.clamp_min(torch.finfo(values.dtype).tiny).log()
        if reading.is_single:
            values = torch.cat([torch.zeros_like(values), values], 1)
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (type(self).__mro__[2], self.reading), self.__dict__

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        # A class of the network's own may say how it is copied.
        plain: nn.Module = object.__new__(type(self).__mro__[2])
        object.__setattr__(plain, "__dict__", self.__dict__)
        made = memo[id(self)] = _read(copy.deepcopy(plain, memo), self.reading)
        return made


def _read(net: nn.Module, reading: Reading) -> nn.Module:
    # The same layers, weights, hooks and mode, by the same names: whatever is done to the one is
    # done to the other. A module around it would change the names of layers and weights.
    own = _blank(type(net), reading)
    object.__setattr__(own, "__dict__", net.__dict__)
    return own


def _blank(kind: Any, reading: Reading) -> nn.Module:
    made: nn.Module = object.__new__(_class(kind, reading))
    return made


@lru_cache(maxsize=256)
def _class(kind: Any, reading: Reading) -> type[nn.Module]:
    # Networks make others of their own class, as a Sequential does of a slice of its layers.
    own = {"reading": reading, "__class__": property(lambda _: kind)}
    return type(kind.__name__, (_ReadNet, kind), own)
