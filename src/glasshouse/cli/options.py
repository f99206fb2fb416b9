"""Arguments and options that several commands share."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from glasshouse.errors import UsageError

DEFAULT_RECIPE = "small-residual"
BACKBONE_RECIPE = "transfer-features"

IMAGE_HELP = "Image files, folders, quoted patterns, or - for names on standard input."

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="cifar10, digits, shapes, shapes-multi, a folder with one subfolder of images per "
        "class, a .csv or .parquet table, Parquet files with images, tar shards, or the address of "
        "such files, as s3://bucket/folder.",
    ),
]
Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A run folder, a bundled model, or a pretrained network from `glasshouse models`, "
        "with its published weights or those of --weights; for example "
        "mobilenetv2_100:pad_type=same,mean=0.5,std=0.5.",
    ),
]
AnyNet = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL", help="Any MODEL that predict takes, or the name of a preset or recipe."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder with the data sets, also for downloads. Default: that of GLASSHOUSE_DATA, or "
        "the user's data folder.",
    ),
]
Recipe = Annotated[str, typer.Option(help="Name of a recipe, or a .toml file.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never connect to another host.")]
Reread = Annotated[
    bool, typer.Option("--reread", help="Decode files again although they look unchanged.")
]
Json = Annotated[bool, typer.Option("--json", help="Print a single JSON document.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a recipe key, for example train.epochs=3, or turn all augmentation off with "
        "augment=off; repeatable.",
    ),
]

Epochs = Annotated[int | None, typer.Option(help="Short for --set train.epochs=N.")]
BatchSize = Annotated[int | None, typer.Option(help="Short for --set train.batch_size=N.")]
LearningRate = Annotated[
    str | None, typer.Option(help="Short for --set train.lr=RATE: a number, or auto.")
]
ImageSize = Annotated[
    int | None, typer.Option(help="Short for --set data.image_size=N, in pixels.")
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Short for --set train.device=DEVICE: auto, cpu, cuda, cuda:1 and so on, or mps; "
        "auto, the default, is cuda where there is one, else mps, else cpu."
    ),
]
UseDevice = Annotated[
    str,
    typer.Option(
        "--device", help="Where the network computes: cpu, cuda, cuda:1 and so on, mps, or auto."
    ),
]

On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="CLUSTER",
        help="Do the work on a Ray cluster: ray starts one on this machine; ray://HOST:PORT, "
        "HOST:PORT or auto name one that runs. A piece takes OMP_NUM_THREADS cores, default 1.",
    ),
]

Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:KEY=VALUE,...]",
        help="Pretrained network from `glasshouse models`, for example "
        "mobilenetv2_100:pad_type=same,mean=0.5.",
    ),
]
Weights = Annotated[
    Path | None, typer.Option(help="File with the weights of the pretrained network.")
]

Net = Annotated[
    str | None,
    typer.Option(
        "--net",
        metavar="CODE",
        help="Your own network: FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, which returns a "
        "torch.nn.Module; arguments, input_size, mean and std may follow a colon, for example "
        "nets.py:small:width=8,input_size=64,mean=0.5. Takes the place of MODEL, or is the code "
        "of the run that MODEL names.",
    ),
]
ClassNamesFile = Annotated[
    Path | None,
    typer.Option(
        "--class-names",
        metavar="FILE",
        help="File with a class name per line, in the order of the network's outputs; or with "
        "numbers from 0 and names, or JSON.",
    ),
]

Coverage = Annotated[
    float | None,
    typer.Option(
        help="The share of prediction sets that contain the true class, for example 0.9. Default: "
        "0.95, where MODEL has prediction sets."
    ),
]
Sets = Annotated[
    Literal["lac", "aps", "raps"] | None,
    typer.Option(
        help="Kind of prediction sets: lac, the smallest, which may be empty, or aps or raps, "
        "which adapt to the image and are never empty. Default: lac."
    ),
]
ClassConditional = Annotated[
    bool,
    typer.Option("--class-conditional", help="The coverage holds for the images of each class."),
]


def overrides_of(
    set_: list[str] | None, backbone: str | None = None, weights: Path | None = None
) -> list[str]:
    """The overrides that --backbone and --weights stand for, then those of --set, which win."""
    return [*backbone_overrides(backbone, weights), *(set_ or [])]


def with_shorthands(
    set_: list[str] | None,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: str | None = None,
    image_size: int | None = None,
    device: str | None = None,
) -> list[str]:
    """The overrides of --set and of the options that stand for a key.

    Raises UsageError, naming both, when an option and --set give a key different values.
    """
    from glasshouse.recipe import parse_value

    given = {
        "train.epochs": ("--epochs", epochs),
        "train.batch_size": ("--batch-size", batch_size),
        "train.lr": ("--lr", lr),
        "data.image_size": ("--image-size", image_size),
        "train.device": ("--device", device),
    }
    for override in set_ or ():
        key, _, text = override.partition("=")
        option, value = given.get(key.strip(), ("", None))
        if value is not None and parse_value(text.strip()) != parse_value(str(value)):
            raise UsageError(
                f"{option} {value} and --set {override} give {key.strip()} different values: "
                "use one of them"
            )
    found = [f"{key}={value}" for key, (_, value) in given.items() if value is not None]
    return [*(set_ or []), *found]


def backbone_overrides(backbone: str | None, weights: Path | None) -> list[str]:
    """The recipe overrides that --backbone and --weights stand for.

    After the colon, keys of model.pretrained such as mean and input_size may be mixed with the
    arguments of the network itself.
    """
    from glasshouse.models.net_arguments import parsed_arguments
    from glasshouse.settings import PretrainedSettings

    name, _, text = (backbone or "").partition(":")
    # The arguments that a recipe names are those of its own network.
    own = [f"model.pretrained.name={json.dumps(name)}", "model.pretrained.arguments={}"]
    found = own if name else []
    for key, value in parsed_arguments(str(backbone), text).items() if text else ():
        known = key in PretrainedSettings.model_fields
        shown = json.dumps(value) if known or not isinstance(value, str) else value
        found.append(f"model.pretrained.{'' if known else 'arguments.'}{key}={shown}")
    if weights is not None:
        found.append(f"model.pretrained.weights={json.dumps(str(weights.resolve()))}")
    return found


def print_json(value: Any) -> None:
    """Print one JSON document; a command that does prints nothing else to standard output."""
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=not is_unicode))
