"""Arguments and options that several verbs share."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="cifar10, digits, shapes, a folder of class folders, or a .csv table"
    ),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="a run folder, or a preset or recipe by name")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="where data sets lie or are downloaded to [env: GLASSHOUSE_DATA]"
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Open no connection to other hosts.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe key, e.g. train.epochs=3."),
]


def print_json(value: Any) -> None:
    """One JSON document on standard output, and nothing else there."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
