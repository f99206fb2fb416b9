"""Numbers of parameters, counted by building networks and kept in the cache."""

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
    """The model cards with their numbers of parameters.

    count: False fills in only those in the cache. Each network is built without memory for its
    weights, in a fraction of a second; the numbers are kept for this version of timm.
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
    # If it is missing or damaged, the networks are counted again.
    except (StorageError, AttributeError, TypeError, ValueError):
        return {}
