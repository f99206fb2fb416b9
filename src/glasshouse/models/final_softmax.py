"""A softmax at the end of a network, as Keras users write it, belongs to loss and predictions.

Both apply it to the logits, so a network that ended in one would have it twice: training would
still run, but with small gradients, and probabilities would be nearly equal.
"""

import warnings
from collections import OrderedDict

from torch import nn

from glasshouse.errors import GlasshouseWarning
from glasshouse.settings import ActivationLayer, Conv, Dense, Layer, Residual, TorchLayer


def logit_layers(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers without a final softmax, so that they return logits."""
    if not layers:
        return layers
    *rest, last = layers
    if isinstance(last, ActivationLayer) and last.activation == "softmax":
        return tuple(rest)
    if isinstance(last, Conv | Dense | Residual) and last.activation == "softmax":
        return (*rest, last.model_copy(update={"activation": "linear"}))
    if isinstance(last, TorchLayer) and last.name == "Sequential":
        return (*rest, last.model_copy(update={"layers": logit_layers(last.layers)}))
    if isinstance(last, TorchLayer) and last.name in ("Softmax", "LogSoftmax"):
        return tuple(rest) if last.arguments.get("dim") in _OVER_CLASSES else layers
    return layers


def logit_net(net: nn.Module) -> nn.Module:
    """A Sequential without a final softmax, sharing its layers; any other network as it is."""
    # Subclasses may have a constructor and a forward of their own.
    if type(net) is not nn.Sequential or len(net) == 0:
        return net
    *rest, (name, last) = net._modules.items()
    if isinstance(last, nn.Softmax | nn.LogSoftmax) and last.dim in _OVER_CLASSES:
        warnings.warn(describe_left_off(type(last).__name__), GlasshouseWarning, stacklevel=2)
        return _like(net, rest)
    inner = logit_net(last)
    return net if inner is last else _like(net, [*rest, (name, inner)])


def describe_left_off(what: str, *, is_adjusted: bool = False) -> str:
    """What is said of a network whose last operation is left off, with what adjusts its values."""
    kind = what.lower()
    if is_adjusted:
        return (
            f"The network ends in a {kind} and a small change of its values, such as a clamp; both "
            "are left off: the values before them are the logits."
        )
    return f"The network ends in a {kind}, which is left off: the values before it are the logits."


# Without a dim, torch takes that of the classes for an output (n, k).
_OVER_CLASSES = (None, 1, -1)


def _like(net: nn.Module, children: list[tuple[str, nn.Module]]) -> nn.Module:
    kept = nn.Sequential(OrderedDict(children))
    kept.training = net.training  # .train() would also change the shared layers
    return kept
