"""Which network of torchvision or timm a weights file is for, where it does not fit the one named.

The shapes of its tensors are compared with those of all networks. What is said to fit has been
tried, on the network without memory, as loading would do it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from glasshouse.errors import ModelError, UsageError
from glasshouse.models import pretrained
from glasshouse.models.classifier import MODEL_FILE
from glasshouse.models.library_weights import translated
from glasshouse.models.renamed_parts import with_own_names
from glasshouse.models.structures import Shape, Structure, count_shapes, nearest_structures
from glasshouse.models.weight_files import read_weights
from glasshouse.models.weight_names import without_prefix
from glasshouse.models.weights import COUNTER
from glasshouse.wording import first_of

# Below this share of equal shapes, another name would be no help.
_NEAR = 0.5
# Networks of different names inside and equal shapes, such as both libraries' of one paper.
_TRIED, _SHOWN = 4, 3
OWN_CODE = "name the code that builds its network: --net FILE.py:FUNCTION --weights"


def describe_nearest(name: str, file_name: str, weights: Mapping[str, Tensor]) -> str:
    """Sentences on the network that these weights fit better than the one named, and what to do.

    name: empty where none was named. weights: as they are in the file.
    """
    given = count_shapes(tuple(v.shape) for k, v in weights.items() if not k.endswith(COUNTER))
    found, share = nearest_structures(given, pretrained.network_names())
    if share < _NEAR:
        return f"No network of torchvision or timm has a similar structure: {OWN_CODE} {file_name}."
    tries = [
        (structure, arguments, rename)
        for rename in (False, True)
        for structure in found[:_TRIED]
        for arguments in ({}, *_guesses(structure, given))
    ]
    for structure, arguments, rename in tries:
        first, *others = _by_file_name(structure.names, file_name)
        if _fits(first, arguments, weights, rename=rename):
            text = ",".join(f"{key}={value}" for key, value in arguments.items())
            advice = f"All its tensors fit {first}{':' * bool(text)}{text}: use that name."
            return advice + _same_structure(others)
    names = [each for structure in found for each in structure.names]
    _, bare = pretrained.library_of(name) if name else ("", "")
    nearest = name if name in names or bare in names else names[0]
    common = sum(min(count, given[shape]) for shape, count in found[0].shapes.items())
    seen = next((key for key in weights if not key.endswith(COUNTER)), "")
    return (
        f"The nearest structure is {nearest}: {common} of the {given.total()} tensors have shapes "
        f"of it, but it was changed or has other names, such as {seen}; {OWN_CODE} {file_name}."
    )


def file_as_model(path: Path, weights: Path | None) -> UsageError | None:
    """The error for a file in the place of a model's name; None where that is no weights file.

    weights: the file that was named besides, which is then described.
    """
    file = path if weights is None else weights
    if (path.parent / MODEL_FILE).is_file() and path.suffix == ".safetensors":
        return UsageError(f"{path} has the weights of the model in {path.parent}: name that folder")
    try:
        found, _ = read_weights(file)
    except ModelError:
        return None
    if weights is None:
        words = f"{path} is a weights file: put its network in its place, and add --weights {path}"
    else:
        words = f"{path} is a file in the place of MODEL: put the network of {weights} before it"
    return UsageError(f"{words}. {describe_nearest('', file.name, found)}")


def _by_file_name(names: Iterable[str], file_name: str) -> list[str]:
    """Names in the order given, after the one that the file is named after."""
    stem = file_name.lower().replace("-", "_")
    lengths = {each: len(each.rpartition("/")[2]) for each in names}
    named = {name: size for name, size in lengths.items() if name[-size:] in stem}
    return sorted(lengths, key=lambda name: -named.get(name, 0))


def _same_structure(others: list[str]) -> str:
    if not others:
        return ""
    verb = "has" if len(others) == 1 else "have"
    return (
        f" {first_of(others, _SHOWN)} {verb} the same tensors, and may differ in "
        "preprocessing, padding or activation: use the name that it was trained under."
    )


def _guesses(structure: Structure, given: Mapping[Shape, int]) -> list[dict[str, Any]]:
    """Arguments that would explain the only tensor whose shape is another one."""
    other = [shape for shape, count in structure.shapes.items() if given.get(shape, 0) < count]
    if len(other) != 1:
        return []
    own = other[0]
    alike = [shape for shape in given if len(shape) == len(own) and shape not in structure.shapes]
    if len(own) == 4 and own[1] == 3:
        stems = (shape for shape in alike if (own[0], *own[2:]) == (shape[0], *shape[2:]))
        return [{"in_chans": shape[1]} for shape in stems if shape[1] in (1, 4)]
    if len(own) != 3 or own[0] != 1:
        return []
    size = pretrained.preprocessing_of(structure.names[0]).height
    sizes = []
    for shape in alike:
        # Position embeddings, of the squares of a grid and of up to a few other tokens.
        for tokens in range(6):
            sides = [(each[1] - tokens) ** 0.5 for each in (shape, own) if each[1] > tokens]
            if shape[2] == own[2] and len(sides) == 2 and all(s.is_integer() for s in sides):
                sizes.append(round(size * sides[0] / sides[1]))
    return [{"img_size": each} for each in dict.fromkeys(sizes)]


def _fits(
    name: str, arguments: Mapping[str, Any], weights: Mapping[str, Tensor], *, rename: bool
) -> bool:
    """Whether these weights load into the network, with a head for any number of classes."""
    try:
        known = pretrained.weight_names(name, arguments)
        found, _ = without_prefix(weights, known.all, "the file")
        if rename:
            found, _ = with_own_names(weights, known.shapes, known.head)
        if known.head <= found.keys():
            count = int(found[min(known.head)].shape[0])
            net = pretrained.bare_net(name, count, arguments)
        else:
            net = pretrained.bare_net(name, None, arguments)
        expected = net.state_dict()
        fitted = translated(name, net, found, is_resized=bool(pretrained.size_in(arguments)))
    except ModelError:
        return False
    shapes = {key: v.shape for key, v in fitted.items() if not key.endswith(COUNTER)}
    return shapes == {key: v.shape for key, v in expected.items() if not key.endswith(COUNTER)}
