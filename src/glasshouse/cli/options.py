"""Arguments and options that several verbs share."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT_RECIPE = "small-residual"
BACKBONE_RECIPE = "transfer-features"

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="cifar10, digits, shapes, a folder of class folders, or a .csv table"
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="a run folder, a bundled model, or a net that `glasshouse models` lists, with its "
        "usual weights or --weights; e.g. mobilenetv2_100:pad_type=same,mean=0.5,std=0.5",
    ),
]
AnyNet = Annotated[
    str, typer.Argument(metavar="MODEL", help="as for predict, or a preset or recipe by name")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="where data sets lie or are downloaded to [env: GLASSHOUSE_DATA]"
    ),
]
Recipe = Annotated[str, typer.Option(help="a recipe by name or a .toml file")]
Offline = Annotated[bool, typer.Option("--offline", help="Open no connection to other hosts.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe key, e.g. train.epochs=3."),
]

Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:KEY=VALUE,...]",
        help="a net that `glasshouse models` lists, e.g. mobilenetv2_100:pad_type=same,mean=0.5",
    ),
]
Weights = Annotated[Path | None, typer.Option(help="a file with the weights of the pretrained net")]


def overrides_of(
    set_: list[str] | None, backbone: str | None = None, weights: Path | None = None
) -> list[str]:
    """The recipe keys of --backbone and --weights, and those of --set after them."""
    return [*backbone_overrides(backbone, weights), *(set_ or [])]


def backbone_overrides(backbone: str | None, weights: Path | None) -> list[str]:
    """The recipe keys that --backbone and --weights stand for.

    Keys of model.pretrained, such as mean and input_size, may stand among the arguments.
    """
    from glasshouse.settings import PretrainedSettings

    name, _, text = (backbone or "").partition(":")
    found = [f"model.pretrained.name={json.dumps(name)}"] if name else []
    for part in text.split(",") if text else ():
        key, _, value = part.partition("=")
        known = key in PretrainedSettings.model_fields
        value = json.dumps(value) if key == "weights" else value
        found.append(f"model.pretrained.{'' if known else 'arguments.'}{key}={value}")
    if weights is not None:
        found.append(f"model.pretrained.weights={json.dumps(str(weights.resolve()))}")
    return found


def print_json(value: Any) -> None:
    """One JSON document on standard output, and nothing else there."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
