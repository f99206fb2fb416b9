"""The names that a model may have on the command line, known without importing torch."""

import importlib.util
import re
from collections.abc import Collection
from functools import cache
from importlib import resources
from pathlib import Path

from glasshouse.errors import UsageError, did_you_mean

ASSETS = Path(str(resources.files("glasshouse"))) / "assets"
# A cat, 451 x 300, in the public domain: something to try a classifier on without a download.
EXAMPLE_PHOTO = ASSETS / "photos" / "chelsea.png"
_LIBRARIES = ("torchvision", "timm")
# How both libraries declare a network; further decorators may stand between the two lines.
_DECLARATION = re.compile(
    r"^@register_model(?:\(\))?\n(?:@.*\n|\s+.*\n|\)\n)*def (\w+)\(", re.MULTILINE
)


def bundled_names() -> list[str]:
    """The names of the bundled models, in alphabetical order."""
    return sorted(path.parent.name for path in ASSETS.glob("*/model.json"))


def require_known(name: str, others: tuple[str, ...] = ()) -> None:
    """Raise UsageError, with the nearest name, for one that nothing is called.

    name: not that of a folder; arguments of the network may follow a colon. others: names that are
    allowed as well. Passes where the libraries' own lists cannot be found.
    """
    bare = name.partition(":")[0]
    names = _library_names()
    prefix, _, network = bare.rpartition("/")
    # Timm's names may end with the tag of their weights, as in resnet50.a1_in1k.
    is_network = network.partition(".")[0] in names
    if not names or bare in (*bundled_names(), *others):
        return
    if not is_network or prefix not in ("", *_LIBRARIES):
        raise unknown_name(bare, tuple(sorted(names)), others)


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
    hint = did_you_mean(name, (*bundled_names(), *others))
    if not hint.startswith("Did"):
        hint = did_you_mean(name, networks)
    if not hint.startswith("Did"):
        hint = "`glasshouse models` lists all names."
    return UsageError(
        f"'{name}' is not a run folder, a bundled model"
        f"{', a preset, a recipe' if others else ''} or a network of torchvision or timm. {hint}"
    )


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
