"""Weights for a network of torchvision or timm: its names, its image size, its channels.

What the two libraries do with their own weights when they are asked for another size or number of
channels, by their own functions.
"""

import sys
from collections.abc import Mapping

from torch import Tensor, nn

from glasshouse.models.libraries import timm_library, torchvision_library
from glasshouse.models.pretrained import library_of

_RGB = 3


def translated(
    name: str, net: nn.Module, weights: Mapping[str, Tensor], *, is_resized: bool = False
) -> Mapping[str, Tensor]:
    """Weights of the original authors under the names of the library, for its network.

    timm has such a translation for many networks; weights with its own names are returned as is.
    is_resized: whether the network was built for another image size than usual, to which position
    embeddings are then interpolated.
    """
    source, bare = library_of(name)
    if not is_resized and (source == "torchvision" or set(weights) == set(net.state_dict())):
        return weights
    try:
        found = (
            _by_torchvision(net, weights)
            if source == "torchvision"
            else _by_timm(bare, net, weights)
        )
    # Each is written for certain files only; whatever does not match is reported by strict loading.
    except Exception:
        return weights
    return found


def with_channels(
    net: nn.Module, weights: Mapping[str, Tensor], channels: int
) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Weights of a network for RGB images, for the same network with other channels; and notes.

    As timm does: for one channel, the weights of the three are summed; for more, they are repeated
    in turn and scaled to the same sum.
    """
    adapt = timm_library().models.adapt_input_conv
    own = net.state_dict()
    keys = [
        key for key, value in weights.items() if key in own and _is_stem(value, own[key], channels)
    ]
    if not keys:
        return weights, ()
    how = "summed" if channels == 1 else "repeated and scaled"
    note = f"the weights of {_RGB} input channels were {how} for {channels}: {', '.join(keys)}"
    return {**weights, **{key: adapt(channels, weights[key]) for key in keys}}, (note,)


def _is_stem(given: Tensor, own: Tensor, channels: int) -> bool:
    """Whether kernels ``(filters, channels, h, w)`` differ by RGB and this number of channels."""
    return (
        given.ndim == own.ndim == 4
        and given.shape != own.shape
        and (given.shape[0], *given.shape[2:]) == (own.shape[0], *own.shape[2:])
        and given.shape[1] * channels == own.shape[1] * _RGB
        # Of a stem that turns space into depth, timm can only sum the channels.
        and (channels == 1 or given.shape[1] == _RGB)
    )


def _by_timm(bare: str, net: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    entry = timm_library().models.model_entrypoint(bare.partition(".")[0])
    # Not part of timm's public interface, so it may be missing.
    translate = getattr(sys.modules[entry.__module__], "checkpoint_filter_fn", None)
    return weights if translate is None else dict(translate(dict(weights), net))


def _by_torchvision(net: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if "encoder.pos_embedding" not in weights:
        return weights
    interpolate = torchvision_library().models.vision_transformer.interpolate_embeddings
    return dict(interpolate(net.image_size, net.patch_size, dict(weights)))
