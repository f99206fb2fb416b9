"""The names of weights without what wrappers put before them, found from the network's own names.

DataParallel adds ``module.``, torch.compile ``_orig_mod.``, and training frameworks the name of the
attribute that holds the network, each inside the other.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from glasshouse.errors import ModelError
from glasshouse.wording import first_of


def without_prefix(
    weights: Mapping[str, Tensor], expected: Collection[str], source: object
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights under the names of the network, with notes on what was removed.

    expected: the network's own names. What is not under the prefix, such as the weights of a loss,
    is left out. Raises ModelError, naming the prefixes, where several sets of weights fit equally.
    """
    known = frozenset(expected)
    counts = Counter(prefix for key in weights for prefix in _prefixes(key, known))
    most = max(counts.values(), default=0)
    # Blocks repeat a few names of the whole network, such as conv1.weight.
    if 2 * most < len(known):
        prefix = "" if counts[""] == most > 0 else _shared(weights)
    else:
        prefix = _only([each for each, count in counts.items() if count == most], weights, source)
    if not prefix:
        return dict(weights), ()
    rest = [key for key in weights if not key.startswith(prefix)]
    notes = [f"'{prefix}' was removed from the names in {source}"]
    if rest:
        notes.append(f"not under '{prefix}', and left out: {first_of(rest, 3)}")
    kept = {key[len(prefix) :]: v for key, v in weights.items() if key.startswith(prefix)}
    return kept, tuple(notes)


def _prefixes(key: str, expected: frozenset[str]) -> Iterator[str]:
    """What comes before a name of the network at the end of a key."""
    start = 0
    while start >= 0:
        if key[start:] in expected:
            yield key[:start]
        start = key.find(".", start) + 1 or -1


def _shared(weights: Mapping[str, Tensor]) -> str:
    """The prefix of all keys, up to a dot; names of the original authors may come after it."""
    keys, prefix = list(weights), ""
    while keys:
        first, dot, _ = keys[0][len(prefix) :].partition(".")
        longer = prefix + first + dot
        if not dot or not all(key.startswith(longer) for key in keys):
            return prefix
        prefix = longer
    return prefix


def _only(prefixes: list[str], weights: Mapping[str, Tensor], source: object) -> str:
    """The prefix to remove, of several that as many names of the network follow."""
    first = prefixes[0]
    if "" in prefixes:
        return ""
    if all(_equal(weights, first, other) for other in prefixes[1:]):
        return first
    shown = " and ".join(f"'{prefix}'" for prefix in prefixes)
    raise ModelError(
        f"{source} has several sets of weights for this network, under {shown}: save the one that "
        "you mean to a file of its own"
    )


def _equal(weights: Mapping[str, Tensor], one: str, other: str) -> bool:
    inner = (key[len(one) :] for key in weights if key.startswith(one))
    pairs = ((weights[one + name], weights.get(other + name)) for name in inner)
    return all(b is not None and a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
