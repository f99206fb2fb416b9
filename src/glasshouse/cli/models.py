"""`glasshouse models`: the networks that can be named."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.options import Json, print_json

if TYPE_CHECKING:
    from glasshouse.models.pretrained import ModelCard

_COUNTED = 30


def models(
    pattern: Annotated[
        str | None, typer.Argument(metavar="[PATTERN]", help="for example 'resnet*'; unset: all")
    ] = None,
    json: Json = False,
) -> None:
    """List bundled models, presets and pretrained networks (torchvision, timm) that fit PATTERN.

    Parameters of timm's networks are counted for lists of up to 30, since each has to be built.
    """
    from fnmatch import fnmatch

    from glasshouse.errors import UsageError
    from glasshouse.models.bundled import bundled_names
    from glasshouse.models.presets import preset_names
    from glasshouse.models.pretrained import count_parameters, list_models

    bundled = [name for name in bundled_names() if fnmatch(name, pattern or "*")]
    presets = [name for name in preset_names() if fnmatch(name, pattern or "*")]
    cards = list_models(pattern or "*")
    if not bundled and not presets and not cards:
        raise UsageError(f"no network's name fits '{pattern}'; * stands for any letters")
    if len(cards) <= _COUNTED:
        cards = tuple(count_parameters(card) for card in cards)
    if json:
        ours = {**dict.fromkeys(bundled, "bundled"), **dict.fromkeys(presets, "preset")}
        named = [{"name": name, "source": source} for name, source in ours.items()]
        print_json([*named, *map(_facts, cards)])
        return
    for name in bundled:
        print(f"{name:<44} bundled, trained: glasshouse predict {name} IMAGE")
    for name in presets:
        print(f"{name:<44} preset, for --set model.preset={name}")
    for card in cards:
        print(_line(card))


def _facts(card: "ModelCard") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(card)


def _line(card: "ModelCard") -> str:
    count = "" if card.parameters is None else f"{card.parameters / 1e6:.2f} M"
    size = "x".join(str(side) for side in (card.input_size or ())[1:])
    if card.weights_url is None:
        return f"{card.name:<44} {card.source:<12} {count:>10}  {size:>9}  no weights published"
    license = card.license or "licence not stated"
    return f"{card.name:<44} {card.source:<12} {count:>10}  {size:>9}  {license}"
