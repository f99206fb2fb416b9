"""`glasshouse models`: the networks that can be used by name."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.options import Json, print_json

if TYPE_CHECKING:
    from glasshouse.models.pretrained import ModelCard

_HEADINGS = ("network", "source", "parameters", "input", "licence of the weights")


def models(
    pattern: Annotated[
        str | None,
        typer.Argument(metavar="PATTERN", help="For example 'resnet*'. Default: all networks."),
    ] = None,
    json: Json = False,
) -> None:
    """List bundled models, presets and pretrained networks whose names match PATTERN.

    Pretrained networks come from torchvision and timm. timm does not publish parameter counts:
    with a PATTERN, each network is built once to count them, and the counts are cached.
    """
    from fnmatch import fnmatch

    from glasshouse.cli.progress_bars import data_progress
    from glasshouse.errors import UsageError
    from glasshouse.models.known_names import bundled_names, may_match
    from glasshouse.models.presets import preset_names

    bundled = [name for name in bundled_names() if fnmatch(name, pattern or "*")]
    presets = [name for name in preset_names() if fnmatch(name, pattern or "*")]
    has_ours = bool(bundled or presets)
    nothing = UsageError(f"no network matches '{pattern}'; use * as a wildcard, as in 'resnet*'")
    if not has_ours and not may_match(pattern or "*"):
        raise nothing
    from glasshouse.models.parameter_counts import with_parameters
    from glasshouse.models.pretrained import list_models

    cards = list_models(pattern or "*")
    if not has_ours and not cards:
        raise nothing
    with data_progress() as progress:
        cards = with_parameters(cards, count=pattern is not None, progress=progress)
    if json:
        ours = {**dict.fromkeys(bundled, "bundled"), **dict.fromkeys(presets, "preset")}
        named = [{"name": name, "source": source} for name, source in ours.items()]
        print_json([*named, *map(_facts, cards)])
        return
    if bundled:
        print("bundled models, ready for glasshouse predict NAME IMAGE: " + ", ".join(bundled))
    if presets:
        print("presets, for --set model.preset=NAME: " + ", ".join(presets))
    if cards:
        print(_table([_HEADINGS, *map(_row, cards)]))


def _facts(card: "ModelCard") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(card)


def _row(card: "ModelCard") -> tuple[str, ...]:
    count = "" if card.parameters is None else f"{card.parameters / 1e6:.2f} M"
    size = "x".join(str(side) for side in (card.input_size or ())[1:])
    unknown = "not stated" if card.weights_url else "no weights published"
    return card.name, card.source, count, size, card.license or unknown


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        f"{name:<{widths[0]}}  {source:<{widths[1]}}  {count:>{widths[2]}}  "
        f"{size:>{widths[3]}}  {license}"
        for name, source, count, size, license in rows
    ]
    return "\n".join(lines)
