"""Weights whose parts have other names than the network's, found by what is in the parts.

Wrapping a network or replacing its head often renames its parts: torchvision's
``layer1.0.conv1.weight`` becomes ``features.4.0.conv1.weight``. The largest parts are matched
first. A part of the file stands for a part of the network only if no other has the same tensors, by
inner name and shape, and if nothing is left over. Parts that differ inside belong to another
network: timm's resnet50c is not its resnet50d.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from torch import Tensor

from glasshouse.models.weights import COUNTER
from glasshouse.wording import first_of

Shape = tuple[int | None, ...]
_Parts = dict[str, dict[str, Shape]]
_SHOWN = 4


def with_own_names(
    weights: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    head: Collection[str],
) -> tuple[dict[str, Tensor], str]:
    """The weights under the names of the network, with words on which parts were renamed.

    shapes: of the network's own tensors. head: the names of those with a row per class, of which
    the file may have any number. Weights whose parts cannot be told apart are returned as they are,
    without words.
    """
    wanted = {
        key: (None, *shape[1:]) if key in head else shape
        for key, shape in shapes.items()
        if not key.endswith(COUNTER)
    }
    given = {key: tuple(v.shape) for key, v in weights.items() if not key.endswith(COUNTER)}
    pairs = _pairs(wanted, given, head) if len(wanted) == len(given) else {}
    if not pairs:
        return dict(weights), ""
    renamed = {
        own + key.removeprefix(theirs): value
        for own, theirs in pairs.items()
        for key, value in weights.items()
        if key == theirs or key.startswith(f"{theirs}.")
    }
    changed = [f"'{theirs}' as '{own}'" for own, theirs in pairs.items() if own != theirs]
    return renamed, f"parts were found by their tensors: {first_of(changed, _SHOWN)}"


def _pairs(
    wanted: Mapping[str, Shape], given: Mapping[str, Shape], head: Collection[str]
) -> dict[str, str]:
    """The part of the file for each part of the network; none unless all tensors have one."""
    theirs = _parts(given)
    found: dict[str, str] = {}
    open_parts = list(_inside("", wanted))
    while open_parts:
        # The largest first, since what they use is no candidate for the others.
        open_parts.sort(key=lambda part: -len(part[1]))
        for own, tensors in open_parts:
            candidates = [
                part
                for part, inner in theirs.items()
                if _are_alike(tensors, inner) and not _is_used(part, found.values())
            ]
            if len(candidates) > 1:
                candidates = [part for part in candidates if f".{part}".endswith(f".{own}")]
            is_head = all(own + inner in head for inner in tensors)
            if len(candidates) == 1 or (not candidates and is_head and "" not in tensors):
                break
        else:
            return {}
        open_parts.remove((own, tensors))
        if candidates:
            found[own] = candidates[0]
        else:
            open_parts += _inside(f"{own}.", tensors)
    return found


def _parts(given: Mapping[str, Shape]) -> _Parts:
    """The tensors in each part of a file, down to single ones, whose name inside is empty."""
    parts: _Parts = defaultdict(dict)
    for key, shape in given.items():
        parts[key][""] = shape
        for place, letter in enumerate(key):
            if letter == ".":
                parts[key[:place]][key[place:]] = shape
    return parts


def _inside(prefix: str, tensors: Mapping[str, Shape]) -> Iterator[tuple[str, dict[str, Shape]]]:
    """The next smaller parts, with their tensors."""
    inner: _Parts = defaultdict(dict)
    for key, shape in tensors.items():
        name, dot, rest = key.removeprefix(".").partition(".")
        inner[name][dot + rest] = shape
    return ((prefix + name, found) for name, found in inner.items())


def _are_alike(wanted: Mapping[str, Shape], given: Mapping[str, Shape]) -> bool:
    return wanted.keys() == given.keys() and all(
        len(shape) == len(given[key])
        and all(one in (None, other) for one, other in zip(shape, given[key], strict=True))
        for key, shape in wanted.items()
    )


def _is_used(part: str, used: Collection[str]) -> bool:
    return any(f"{part}.".startswith(f"{u}.") or f"{u}.".startswith(f"{part}.") for u in used)
