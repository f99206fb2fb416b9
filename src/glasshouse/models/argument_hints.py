"""Whether a weights file fits the arguments of its network, which loading it cannot show.

Padding and normalisation leave no trace in the shapes of weights, so that a file for
``pad_type=same`` or for another mean and std loads without an error and predicts worse. The hints
come from timm's config.json next to the file, from its name, and from its first batch
normalisation, whose statistics were recorded under the right normalisation.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from glasshouse.data.decode import decode
from glasshouse.errors import GlasshouseWarning, ModelError, StorageError
from glasshouse.models.classifier import Classifier
from glasshouse.models.known_names import EXAMPLE_PHOTO
from glasshouse.models.preprocessing import Preprocessing, preprocess, scale
from glasshouse.models.pretrained import bare_net, library_of, network_names, preprocessing_of
from glasshouse.storage import read_json

_Levels = tuple[float, float, float]
_LEVELS: dict[str, tuple[_Levels, _Levels]] = {
    "mean=0.449,std=0.226": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean=0.5,std=0.5": ((0.5,) * 3, (0.5,) * 3),
    "mean=0,std=1": ((0.0,) * 3, (1.0,) * 3),
    "mean=0,std=0.00392": ((0.0,) * 3, (1 / 255,) * 3),
}
_SATURATED = "mean=0,std=0.00392"
# For networks without batch normalisation: SqueezeNet's entropy under the right normalisation is
# 0.37 of that under mean = std = 0.5, and MobileNetV2's falls to 0.71 under a wrong one.
_SURER = 0.5
# In nats; SqueezeNet has 1.35 under the right normalisation, and 3.8 or more under a wrong one.
_SURE = 1.5
# Variances of photos under the right normalisation differ from the recorded ones by a factor of
# about 1.1, under a wrong one of those above by 3.7 or more; these are their logarithms.
_DOUBTFUL, _PLAUSIBLE = 0.9, 0.5
_SAME_LEVEL = 0.05
_FROM_TENSORFLOW = re.compile(r"(?<![a-z])tf(?:same)?(?![a-z])")


# Of adapted networks: the file, the network and its normalisation, and what was said of them.
_adapted: dict[tuple[Any, ...], str] = {}


def warn_of_arguments(classifier: Classifier, weights: Path, *, has_head: bool = True) -> str:
    """Warn of what a weights file seems to need in addition, or note what it may need.

    has_head: whether the head is the file's own, so that the answers say something. Returns what
    was said, perhaps nothing.
    """
    said = argument_hint(classifier, weights, has_head=has_head)
    if said is not None:
        warnings.warn(said, GlasshouseWarning, stacklevel=3)
        return said
    note = undecided_note(classifier, weights)
    if note is not None:
        warnings.warn(f"note: {note}", GlasshouseWarning, stacklevel=3)
    return note or ""


def warn_of_adapted(classifier: Classifier, weights: Path) -> str:
    """The same for a network whose head is new, once: a training may adapt it several times."""
    levels = classifier.preprocessing
    name = (classifier.architecture or {}).get("pretrained")
    key = (weights.resolve(), name, levels.mean, levels.std)
    if key not in _adapted:
        _adapted[key] = warn_of_arguments(classifier, weights, has_head=False)
    return _adapted[key]


def is_warned_of(note: str) -> bool:
    """Whether a note on an adapted network was a warning of this process before."""
    return note in _adapted.values()


def argument_hint(classifier: Classifier, weights: Path, *, has_head: bool = True) -> str | None:
    """The arguments that a weights file seems to need in addition, or None when all seems right.

    classifier: a pretrained network of a library, loaded from the file, with the preprocessing in
    use. has_head: whether the head is the file's own. Returns a sentence with the name and
    arguments to use.
    """
    architecture = classifier.architecture or {}
    full = str(architecture.get("pretrained", ""))
    given = dict(architecture.get("arguments", {}))
    config = _config_near(weights)
    twin = _tensorflow_twin(full)
    is_tf = _is_from_tensorflow(config, weights, twin) and not _bare(full).startswith("tf_")
    levels, reason = _levels(classifier, config, is_tf=is_tf, has_head=has_head)
    pads_otherwise = is_tf and given.get("pad_type") != "same" and full.startswith("timm/")
    fits_twin = twin is not None and levels is not None and _are_usual(levels, twin)
    if twin is not None and (pads_otherwise or fits_twin):
        # It has TensorFlow's padding, normalisation and epsilon, all at once.
        kept = {key: value for key, value in given.items() if key != "pad_type"}
        wanted = {} if levels is None or fits_twin else _parts(levels)
        use = _with_arguments(twin, {**kept, **wanted})
    elif pads_otherwise or levels is not None:
        wanted = {"pad_type": "same"} if pads_otherwise else {}
        wanted |= {} if levels is None else _parts(levels)
        # What was given stays, so that the whole can be pasted.
        use = _with_arguments(_shown(full), {**given, **_given_levels(classifier, full), **wanted})
    else:
        return None
    why = ", and ".join(filter(None, (_why_tf(config) if pads_otherwise else "", reason)))
    return (
        f"{weights.name} loads into {_bare(full)}, but {why}. Its predictions are probably wrong; "
        f"use {use}"
    )


def undecided_note(classifier: Classifier, weights: Path) -> str | None:
    """What a weights file of timm may need, where neither the file nor its place can tell.

    TensorFlow's networks have the shapes of those without ``tf_``, and pad differently. Where batch
    normalisation was folded into the convolutions, as converters do, no statistics are left to
    check. None where the path, timm's config.json or the arguments decide.
    """
    architecture = classifier.architecture or {}
    full = str(architecture.get("pretrained", ""))
    given = architecture.get("arguments", {})
    is_decided = "pad_type" in given or _bare(full).startswith("tf_") or _config_near(weights)
    if not full.startswith("timm/") or is_decided:
        return None
    twin = _tensorflow_twin(full)
    if twin is not None and _bare(full) not in _plain(weights):
        return (
            f"{weights.name} fits {_bare(full)} and {twin}, which pads differently, and nothing in "
            f"it says which; if it comes from TensorFlow, use {twin}"
        )
    if _takes_padding(full) and _is_folded(classifier.net):
        wanted = {**given, "pad_type": "same", **_parts("mean=0.5,std=0.5")}
        return (
            f"the batch normalisation of {weights.name} is folded into its convolutions, so that "
            "neither padding nor mean and std can be checked; if it comes from TensorFlow, use "
            f"{_with_arguments(_shown(full), wanted)}"
        )
    return None


def _takes_padding(name: str) -> bool:
    try:
        bare_net(name, None, {"pad_type": "same"})
    except ModelError:
        return False
    return True


def _is_folded(net: nn.Module) -> bool:
    """Whether the first batch normalisation has placeholders for statistics."""
    first = next((m for m in net.modules() if isinstance(m, nn.BatchNorm2d)), None)
    return first is not None and first.running_mean is not None and not first.running_mean.any()


def _bare(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


def _shown(name: str) -> str:
    """The name to use: with its library where the other one has a network of that name."""
    bare = _bare(name)
    return (
        bare if name.startswith(f"{library_of(bare)[0]}/") else f"{name.partition('/')[0]}/{bare}"
    )


def _tensorflow_twin(name: str) -> str | None:
    """timm's network of the same shapes whose weights come from TensorFlow, if it has one."""
    twin = f"tf_{_bare(name)}"
    return twin if name.startswith("timm/") and twin in network_names() else None


def _are_usual(levels: str, name: str) -> bool:
    usual = preprocessing_of(name)
    return levels == _as_arguments((usual.mean, usual.std))


def _with_arguments(name: str, arguments: Mapping[str, Any]) -> str:
    listed = ",".join(f"{key}={value}" for key, value in arguments.items())
    return f"{name}:{listed}" if listed else name


def _given_levels(classifier: Classifier, name: str) -> dict[str, str]:
    """The mean and std in use, where they are not the usual ones of the network."""
    used, usual = classifier.preprocessing, preprocessing_of(name)
    if (used.mean, used.std) == (usual.mean, usual.std):
        return {}
    return _parts(_as_arguments((used.mean, used.std)))


def _parts(arguments: str) -> dict[str, str]:
    return {key: value for key, _, value in (part.partition("=") for part in arguments.split(","))}


def _levels(
    classifier: Classifier, config: Mapping[str, Any], *, is_tf: bool, has_head: bool
) -> tuple[str | None, str]:
    """The mean and std that fit better than those in use, with the reason."""
    used = classifier.preprocessing
    known = _config_levels(config)
    if known is not None:
        if _is_near(known, (used.mean, used.std)):
            return None, ""
        return _as_arguments(known), "its config.json names another mean and std"
    if any(isinstance(module, nn.BatchNorm2d) for module in classifier.net.modules()):
        measured = _misfits(classifier)
        if measured is not None:
            best = min(measured, key=lambda key: measured[key])
            if measured["used"] > _DOUBTFUL and measured[best] < _PLAUSIBLE:
                return best, "its batch normalisation was recorded under another mean and std"
            return None, ""
    elif has_head and (surest := _surest(classifier)) is not None:
        return surest, "it is far surer of photos under another mean and std"
    # Normalisation that was folded into the convolutions has no statistics left to compare.
    if is_tf and not _is_near(_LEVELS["mean=0.5,std=0.5"], (used.mean, used.std)):
        return "mean=0.5,std=0.5", "TensorFlow's networks usually take values from -1 to 1"
    return None, ""


def _config_near(weights: Path) -> Mapping[str, Any]:
    """What timm's config.json in the folder of the file says; empty without one."""
    try:
        found = read_json(weights.with_name("config.json"))
    except StorageError:
        return {}
    return found if isinstance(found, dict) and "architecture" in found else {}


def _is_from_tensorflow(config: Mapping[str, Any], weights: Path, twin: str | None) -> bool:
    if config:
        return str(config["architecture"]).startswith("tf_")
    if twin is not None and twin in _plain(weights):
        return True
    return _FROM_TENSORFLOW.search(_plain(Path(weights.name))) is not None


def _plain(weights: Path) -> str:
    """A path as names of networks are written; the folders may have them as well."""
    return str(weights).lower().replace("-", "_")


def _why_tf(config: Mapping[str, Any]) -> str:
    where = "config.json" if config else "name"
    return f"its {where} says that it comes from TensorFlow, which pads differently"


def _config_levels(config: Mapping[str, Any]) -> tuple[_Levels, _Levels] | None:
    try:
        found = config["pretrained_cfg"]
        mean, std = (tuple(float(value) for value in found[key]) for key in ("mean", "std"))
        return ((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def _is_near(one: tuple[_Levels, _Levels], other: tuple[_Levels, _Levels]) -> bool:
    return bool(np.abs(np.array(one) - np.array(other)).max() < _SAME_LEVEL)


def _as_arguments(levels: tuple[_Levels, _Levels]) -> str:
    mean, std = (f"{float(np.mean(each)):.3g}" for each in levels)
    return f"mean={mean},std={std}"


def _surest(classifier: Classifier) -> str | None:
    """The mean and std under which a network is far surer of photos than under those in use."""
    entropy = _entropies(classifier)
    best = min(entropy, key=lambda key: entropy[key])
    return best if entropy[best] < _SURER * entropy["used"] else None


def _entropies(classifier: Classifier) -> dict[str, float]:
    """The mean entropy of what the network predicts for photos, in nats, by mean and std."""
    found: dict[str, float] = {}
    for key, preprocessing in _candidates(classifier):
        # A network with saturated inputs is sure of everything. One that is sure as it is needs no
        # comparison, which takes as long as predicting sixty images.
        if key == _SATURATED or found.get("used", _SURE) < _SURE:
            continue
        with torch.inference_mode():
            logits = classifier.net(_photos(preprocessing)).double()
        shares = logits.log_softmax(dim=1)
        found[key] = float(-(shares.exp() * shares).sum(dim=1).mean())
    return found


def _candidates(classifier: Classifier) -> list[tuple[str, Preprocessing]]:
    used = classifier.preprocessing
    others = [(key, replace(used, mean=mean, std=std)) for key, (mean, std) in _LEVELS.items()]
    return [("used", used), *others]


def _photos(preprocessing: Preprocessing) -> Tensor:
    """Three photos and their corners as the network takes them, ``(15, 3, h, w)``."""
    # Predicting and trials load this module, and need nothing of scikit-learn.
    from sklearn.datasets import load_sample_images

    views = []
    for photo in (decode(EXAMPLE_PHOTO), *load_sample_images().images):
        height, width = photo.shape[0] // 5, photo.shape[1] // 5
        rows, columns = ((slice(None, -cut), slice(cut, None)) for cut in (height, width))
        views += [photo, *(photo[one, other] for one in rows for other in columns)]
    pixels = np.stack([preprocess(each, preprocessing) for each in views])
    return scale(torch.from_numpy(pixels), preprocessing)


def _misfits(classifier: Classifier) -> dict[str, float] | None:
    """How far photos are from the first batch normalisation's statistics, by mean and std.

    In natural logarithms of the ratio of variances; "used" is the preprocessing of the classifier.
    None for a network without batch normalisation, or with placeholders for its statistics.
    """
    first = next((m for m in classifier.net.modules() if isinstance(m, nn.BatchNorm2d)), None)
    if first is None or first.running_var is None or _is_folded(classifier.net):
        return None
    if not (first.running_var > 0).all():
        return None
    found = {}
    for key, preprocessing in _candidates(classifier):
        inputs = _inputs_of(first, classifier, preprocessing)
        if inputs is None:
            return None
        variances = inputs.double().var(dim=(0, 2, 3))
        ratio = variances.clamp_min(1e-12) / first.running_var.double()
        found[key] = float(ratio.log().abs().median())
    return found


class _Reached(Exception):
    """The layer has its inputs, and the rest of the network need not run."""


def _inputs_of(
    layer: nn.Module, classifier: Classifier, preprocessing: Preprocessing
) -> Tensor | None:
    """What the layer receives for a few photos ``(n, channels, h, w)``; None if it is not run."""
    received: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> Literal[None]:
        received.append(inputs[0])
        raise _Reached

    hook = layer.register_forward_pre_hook(keep)
    try:
        with torch.inference_mode():
            classifier.net(_photos(preprocessing))
    except (_Reached, RuntimeError):
        pass
    finally:
        hook.remove()
    return received[0] if received and received[0].ndim == 4 else None
