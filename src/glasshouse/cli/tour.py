"""`glasshouse tour`: the whole story in minutes, offline, on images made on the spot."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from glasshouse.cli.progress_bars import say

RECIPE = "small-residual"
SOURCE = "shapes"
OVERRIDES = ("train.epochs=4",)


def tour(
    out: Annotated[
        Path | None, typer.Option(help="the run folder [a new one in the temporary folder]")
    ] = None,
) -> None:
    """Check, tune, train, measure, predict, explain and report: minutes, and no network."""
    from glasshouse.cli.evaluate import evaluate
    from glasshouse.cli.experiments import run_to_the_end
    from glasshouse.cli.explain import explain
    from glasshouse.cli.lr_find import lr_find
    from glasshouse.cli.predict import predict
    from glasshouse.cli.summary import summary
    from glasshouse.recipe import load_recipe
    from glasshouse.workflow.train.experiment import TrainRequest

    folder = out or Path(tempfile.mkdtemp(prefix="glasshouse-tour-")) / "run"
    _stop("1  Check", f"What may be wrong with the images: glasshouse check {SOURCE}")
    _check()
    _stop("2  Network", f"What is trained: glasshouse summary {RECIPE}")
    summary(RECIPE)
    _stop("3  Tune", f"Which learning rates suit: glasshouse lr-find {SOURCE} --seeds 1")
    lr_find(SOURCE, RECIPE, seeds=1, out=Path("-"))
    settings = " ".join(f"--set {override}" for override in OVERRIDES)
    command = f"glasshouse train {SOURCE} --recipe {RECIPE} {settings} --out {folder}"
    _stop("4  Train", f"Four epochs at the recipe's own rate: {command}")
    recipe = load_recipe(RECIPE, OVERRIDES)
    result = run_to_the_end(TrainRequest(SOURCE, recipe, folder, offline=True, command=command))
    _stop("5  Evaluate", f"How good it is, honestly: glasshouse evaluate {folder}")
    evaluate(folder)
    image = _write_image(folder, result.predictions.ids[0])
    _stop("6  Predict", f"One image file: glasshouse predict {folder} {image}")
    predict(str(folder), [image], top=3)
    why = folder / "explanations"
    _stop("7  Explain", f"Why it says so: glasshouse explain {folder} {image} --out {why}")
    explain(str(folder), [image], out=why)
    _stop("8  Mistakes", f"Why it errs: glasshouse explain {folder} --errors")
    explain(str(folder), errors=True, offline=True)
    _stop("9  Report", f"Everything on one page, opens offline: {folder / 'report.html'}")


def _stop(title: str, text: str) -> None:
    say(f"\n{title}\n{'-' * len(title)}\n{text}\n")


def _check() -> None:
    from glasshouse.cli.check import print_findings
    from glasshouse.settings import DataSettings
    from glasshouse.workflow.use.source_check import examine

    print_findings(examine(SOURCE, DataSettings(), offline=True).findings)


def _write_image(folder: Path, image_id: str) -> Path:
    """The first test image as a file, as a user would have it."""
    from PIL import Image

    from glasshouse.data.sources import load_splits
    from glasshouse.settings import DataSettings

    test = load_splits(SOURCE, DataSettings(), offline=True).test
    image = test.pixels[test.ids.tolist().index(image_id)]
    label = test.class_names[test.labels[test.ids.tolist().index(image_id)]]
    path = folder / f"example-{label}.png"
    Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return path
