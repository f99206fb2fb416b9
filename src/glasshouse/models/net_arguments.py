"""Which arguments of a library's network a file or a command line may set.

A run folder may come from anybody. The constructors of torchvision and timm also take arguments
that download, unpickle or name a file, and their number grows with each version; so the list is one
of what is allowed. Everything on it decides the shape of a network, or how it is trained.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glasshouse.errors import ModelError, UsageError, did_you_mean
from glasshouse.settings import PretrainedSettings

SHAPING = frozenset(
    {
        # Layers of timm's networks, by name or by size.
        "act_layer", "norm_layer", "aa_layer", "attn_layer", "mlp_layer", "norm_act_layer",
        "pad_type", "global_pool", "output_stride", "bn_eps", "bn_momentum", "bn_tf",
        "drop_rate", "drop_path_rate", "drop_block_rate", "proj_drop_rate", "attn_drop_rate",
        "pos_drop_rate", "patch_drop_rate", "channel_multiplier", "channel_divisor",
        "stem_size", "stem_width", "stem_type", "stem_stride", "stem_norm",
        "stem_chs", "fix_stem", "num_features", "head_hidden_size", "head_norm_first", "head_bias",
        "img_size", "input_size", "patch_size", "window_size", "embed_dim", "embed_dims", "depth",
        "depths", "dims", "num_heads", "mlp_ratio", "mlp_ratios", "qkv_bias", "qk_norm",
        "init_values", "class_token", "reg_tokens", "no_embed_class", "pos_embed", "pre_norm",
        "fc_norm", "final_norm", "dynamic_img_size", "dynamic_img_pad", "always_partition",
        "strict_img_size", "use_fc_norm", "ls_init_value", "use_grn", "conv_mlp", "conv_bias",
        "kernel_sizes", "layers", "channels", "base_width", "cardinality", "block_reduce_first",
        "down_kernel_size", "avg_down", "zero_init_last", "zero_init_last_bn", "replace_stem_pool",
        "bottle_ratio", "group_size", "width_factor", "in_chans",
        # torchvision.
        "aux_logits", "transform_input", "init_weights", "dropout", "width_mult", "groups",
        "width_per_group", "zero_init_residual", "replace_stride_with_dilation", "growth_rate",
        "block_config", "num_init_features", "bn_size", "memory_efficient", "reduced_tail",
        "dilated", "round_nearest", "stochastic_depth_prob", "layer_scale", "image_size",
        "hidden_dim", "mlp_dim", "num_layers", "attention_dropout",
    }
)  # fmt: skip
# The names of layers and modes; no path or address can be written with these characters.
_WORD = re.compile(r"[A-Za-z0-9_]{0,32}")


def network_settings(text: str) -> PretrainedSettings:
    """What ``NAME:key=value,...`` says on a command line.

    Keys that model.pretrained does not have are arguments of the network. Raises UsageError and
    ModelError for what cannot be read.
    """
    name, arguments = split_name(text, {})
    keys = PretrainedSettings.model_fields.keys() - {"name", "arguments"}
    own = {key: arguments.pop(key) for key in keys & arguments.keys()}
    for key in ("mean", "std"):
        if key in own:
            own[key] = channel_values(key, own[key])
    require_pixels(own.get("input_size"))
    try:
        return PretrainedSettings(name=name, arguments=arguments, **own)
    except UsageError as error:
        raise UsageError(str(error).replace(PretrainedSettings.__name__, text, 1)) from error


def settings_for_use(name: str, weights: Path | None = None) -> PretrainedSettings:
    """The settings of ``NAME:key=value,...`` and --weights, for what does not train.

    Raises UsageError for keys that only training uses, and for weights that are named twice.
    """
    settings = network_settings(name)
    for key in ("stem", "hidden", "dropout"):
        if key in settings.model_fields_set:
            raise UsageError(
                f"{name}: {key} changes a network before it is trained: use it with `glasshouse "
                "train SOURCE --backbone`"
            )
    if weights is None:
        return settings
    if "weights" in settings.model_fields_set:
        raise UsageError(f"{name} and --weights {weights} each name weights: use one of them")
    return settings.model_copy(update={"weights": str(weights)})


def split_name(name: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Split ``NAME:key=value,...`` into the name and all arguments; raises ModelError."""
    bare, colon, text = name.partition(":")
    return bare, {**arguments, **(parsed_arguments(name, text) if colon else {})}


def parsed_arguments(given: str, text: str) -> dict[str, Any]:
    """The values of ``key=value,key=value``; ``mean=0.4,0.5,0.6`` is a list of three.

    given: what the text is part of, for ModelError.
    """
    found: dict[str, list[str]] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals and key.isidentifier():
            found[key] = [value]
        elif found and not equals:
            next(reversed(found.values())).append(part)
        else:
            raise ModelError(
                f"'{given}': expected NAME:key=value, received '{part}' after the colon"
            )
    return {
        key: _value(parts[0]) if len(parts) == 1 else [_value(part) for part in parts]
        for key, parts in found.items()
    }


def channel_values(key: str, value: Any) -> tuple[float, float, float]:
    """A mean or deviation per channel from a number or three; raises UsageError."""
    numbers = value if isinstance(value, list) else [value] * 3
    is_valid = len(numbers) == 3 and all(
        isinstance(each, int | float) and (key == "mean" or each > 0) for each in numbers
    )
    if not is_valid:
        shown = ",".join(map(str, value)) if isinstance(value, list) else value
        raise UsageError(
            f"{key}={shown}: expected a number, or three for red, green and blue, for example "
            f"{key}=0.5"
        )
    red, green, blue = (float(each) for each in numbers)
    return red, green, blue


def require_pixels(size: Any) -> None:
    """Raise UsageError for an input_size that is no number of pixels; None is one not given."""
    if size is not None and not (isinstance(size, int) and size > 0):
        raise UsageError(f"input_size={size}: expected a number of pixels")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def require_shaping(name: str, arguments: Mapping[str, Any]) -> None:
    """Raise ModelError for an argument of a network that does not shape it.

    Values may be numbers, true and false, plain words, and lists of those. Those that only some
    networks take are left to their constructors.
    """
    for key, value in arguments.items():
        if key not in SHAPING:
            hint = did_you_mean(key, SHAPING)
            raise ModelError(
                f"{name}: '{key}' cannot be set. Expected an argument that shapes the network, "
                "such as pad_type or drop_rate; those that load files or weights are refused."
                f"{f' {hint}' if hint.startswith('Did') else ''}"
            )
        if not _is_plain(value):
            raise ModelError(
                f"{name}: {key}={value!r} is refused; expected a number, true or false, a plain "
                "word, or a list of those"
            )
    require_channels(arguments.get("in_chans", 3))


def require_channels(channels: object) -> None:
    """Raise ModelError for a number of channels that cannot be made of an RGB image."""
    if channels not in (1, 3, 4):
        raise ModelError(
            f"in_chans={channels}: expected 1 (luminance), 3 (red, green, blue) or 4 (and alpha)"
        )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    return value is None or isinstance(value, bool | int | float)
