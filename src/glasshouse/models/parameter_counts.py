"""How many parameters nets have: counted by building them, and remembered."""

from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from glasshouse.errors import StorageError
from glasshouse.models.pretrained import ModelCard, count_parameters
from glasshouse.progress import Progress
from glasshouse.storage import cache_folder, read_json, write_json


def with_parameters(
    cards: Iterable[ModelCard], *, count: bool = True, progress: Progress | None = None
) -> tuple[ModelCard, ...]:
    """The cards with their numbers of parameters.

    count: False gives only those that are known already. Each net is built without memory for its
    weights, a fraction of a second, and its number kept in the cache for this version of timm.
    """
    cards = tuple(cards)
    known = _read()
    unknown = [card for card in cards if card.parameters is None and card.name not in known]
    if count and unknown:
        for done, card in enumerate(unknown, start=1):
            known[card.name] = int(count_parameters(card).parameters or 0)
            if progress is not None:
                progress("counting parameters", done, len(unknown))
        write_json(_file(), known)
    return tuple(
        replace(card, parameters=card.parameters or known.get(card.name)) for card in cards
    )


def _file() -> Path:
    return cache_folder() / f"parameters-timm-{version('timm')}.json"


def _read() -> dict[str, int]:
    try:
        return {str(name): int(count) for name, count in read_json(_file()).items()}
    # Absent or damaged, it is only made again.
    except (StorageError, AttributeError, TypeError, ValueError):
        return {}
