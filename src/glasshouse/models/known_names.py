"""The names that a model may have on the command line, known without importing torch."""

import importlib.util
import re
from collections.abc import Collection
from fnmatch import fnmatch
from functools import cache
from importlib import resources
from pathlib import Path

from glasshouse.errors import ModelError, UsageError, did_you_mean

ASSETS = Path(str(resources.files("glasshouse"))) / "assets"
EXAMPLE_PHOTO = ASSETS / "photos" / "chelsea.png"
_LIBRARIES = ("torchvision", "timm")
# How both libraries declare a network; further decorators may stand between the two lines.
_DECLARATION = re.compile(
    r"^@register_model(?:\(\))?\n(?:@.*\n|\s+.*\n|\)\n)*def (\w+)\(", re.MULTILINE
)


def example_photo() -> Path:
    """The file of a photo to try a classifier on without a download: a cat, 451 x 300 pixels.

    Stéfan van der Walt, who took it, placed it in the public domain.
    """
    return EXAMPLE_PHOTO


def bundled_names() -> list[str]:
    """The names of the bundled models, in alphabetical order."""
    return sorted(path.parent.name for path in ASSETS.glob("*/model.json"))


def require_known(name: str, others: tuple[str, ...] = ()) -> None:
    """Raise UsageError, with the nearest name, for one that nothing is called.

    name: not that of a folder; arguments of the network may follow a colon. others: names that are
    allowed as well. Passes where the libraries' own lists cannot be found.
    """
    bare = name.partition(":")[0]
    if bare not in others and not _may_be_known(bare):
        raise unknown_name(bare, tuple(_library_names()), others)


def require_backbone(name: str) -> None:
    """Raise ModelError, with the nearest name, for a model.pretrained.name that nothing has.

    Passes where the libraries' own lists cannot be found.
    """
    bare = name.partition(":")[0]
    if not _may_be_known(bare):
        raise unknown_network(bare, tuple(_library_names()))


def _may_be_known(bare: str) -> bool:
    """Whether a name is that of a bundled model or a network, as far as is known without torch."""
    names = _library_names()
    prefix, _, network = bare.rpartition("/")
    # Timm's names may end with the tag of their weights, as in resnet50.a1_in1k.
    is_network = network.partition(".")[0] in names and prefix in ("", *_LIBRARIES)
    return not names or is_network or bare in bundled_names()


def may_match(pattern: str) -> bool:
    """Whether a pattern matches a network, as far as is known without torch."""
    names = _library_names()
    return not names or any(
        is_match(library, name, pattern) for library in _LIBRARIES for name in names
    )


def is_match(library: str, name: str, pattern: str) -> bool:
    """Whether a pattern such as ``resnet*`` or ``timm/resnet*`` matches the name of a network."""
    return fnmatch(name, pattern) or fnmatch(f"{library}/{name}", pattern)


def require_unchanged(name: str, *, has_changes: bool) -> None:
    """Raise ModelError for other weights or arguments of a bundled model."""
    if has_changes:
        raise ModelError(f"{name} comes with its weights and takes no other weights or arguments")


def require_own_weights(
    name: str, weights: Path | None, class_names: Collection[str] | None
) -> None:
    """Raise UsageError for weights or class names next to a model that has its own."""
    for option, value in (("weights", weights), ("class names", class_names)):
        if value is not None:
            raise UsageError(
                f"{name} has its own {option}: --{option.replace(' ', '-')} is for networks that "
                "`glasshouse models` lists, and for --net without a run"
            )


def unknown_name(name: str, networks: tuple[str, ...], others: tuple[str, ...] = ()) -> UsageError:
    """The error for a name that is neither bundled nor one of the networks or the others."""
    return UsageError(
        f"'{name}' is not a run folder, a bundled model"
        f"{', a preset, a recipe' if others else ''} or a network of torchvision or timm. "
        f"{_file_hint(name) or _hint(name, networks, others)}"
    )


def _file_hint(name: str) -> str:
    """What to do where an image stands in the place of the model; empty for what is no file."""
    if not Path(name).is_file():
        return ""
    return f"A model comes before the files, as in `glasshouse predict cifar10-small {name}`."


def unknown_network(name: str, networks: tuple[str, ...]) -> ModelError:
    """The error for a network to start from that neither library has, and that is not bundled."""
    return ModelError(
        f"neither torchvision nor timm has a network '{name}'. {_hint(name, networks)}"
    )


def _hint(name: str, networks: tuple[str, ...], others: tuple[str, ...] = ()) -> str:
    """The nearest name: of the few first, among which a near one is rarely meant by chance."""
    for names in ((*bundled_names(), *others), networks):
        hint = did_you_mean(name, names)
        if hint.startswith("Did"):
            return hint
    return "`glasshouse models` lists all names."


@cache
def _library_names() -> frozenset[str]:
    """The networks that the source files of the libraries declare; none where there are no files.

    Importing the libraries would give the same names, but takes seconds.
    """
    found: set[str] = set()
    for library in _LIBRARIES:
        spec = importlib.util.find_spec(library)
        if spec is None or spec.origin is None:
            continue
        for path in (Path(spec.origin).parent / "models").glob("*.py"):
            found.update(_DECLARATION.findall(path.read_text(encoding="utf-8")))
    return frozenset(found)
