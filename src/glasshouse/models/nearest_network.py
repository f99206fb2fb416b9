"""Which network of torchvision or timm a weights file is for, where it does not fit the one named.

Only some networks are built for comparison, without memory: those with a similar name, and one of
each family of torchvision, then the members of the family that has the same names.
"""

import difflib
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache

from torch import Tensor

from glasshouse.errors import ModelError
from glasshouse.models import pretrained

# Building a network without memory takes 0.02 to 3 s, and somebody waits for the message.
_SECONDS = 10.0
_SIMILAR = 6
_Shapes = frozenset[tuple[str, tuple[int, ...]]]


def describe_nearest(name: str, file_name: str, weights: Mapping[str, Tensor]) -> str:
    """A sentence on the network that these weights fit better than the one named; may be empty."""
    shapes = frozenset((key, tuple(value.shape)) for key, value in weights.items())
    found, count = _nearest(name, file_name, shapes)
    if count == len(shapes):
        return f"All its tensors fit {found}: use that name."
    if count and found == name.rpartition("/")[2].partition(":")[0]:
        return f"None that was compared fits better: {count} of {len(shapes)} tensors fit this one."
    if 2 * count > len(shapes):
        return f"The nearest network is {found}, which {count} of its {len(shapes)} tensors fit."
    return ""


@lru_cache(maxsize=8)
def _nearest(name: str, file_name: str, shapes: _Shapes) -> tuple[str, int]:
    """The network that most tensors fit, and their number."""
    deadline = time.monotonic() + _SECONDS
    names = {key for key, _ in shapes}
    stem = file_name.partition(".")[0].lower().replace("-", "_")
    known = pretrained.network_names()
    similar = [
        each
        for text in (stem, name.rpartition("/")[2])
        for each in difflib.get_close_matches(text, known, _SIMILAR)
    ]
    scores = _scores(similar, shapes, deadline)
    if max(scores.values(), default=0) < len(shapes):
        families = pretrained.torchvision_families()
        # By names alone: the smallest of a family has other shapes, and most of the names.
        alike = {
            family: len(names & {key for key, _ in _shapes(members[0])})
            for family, members in families.items()
            if time.monotonic() < deadline
        }
        best = max(alike, key=lambda family: alike[family], default=None)
        if best is not None and alike[best]:
            scores |= _scores(families[best], shapes, deadline)
    found = max(scores, key=lambda each: scores[each], default="")
    return found, scores.get(found, 0)


def _scores(names: Iterable[str], shapes: _Shapes, deadline: float) -> dict[str, int]:
    """How many tensors fit each network, for as many as there is time for."""
    return {
        name: len(shapes & _shapes(name))
        for name in dict.fromkeys(names)
        if time.monotonic() < deadline
    }


def _shapes(name: str) -> _Shapes:
    try:
        return pretrained.weight_shapes(name)
    except ModelError:
        return frozenset()
