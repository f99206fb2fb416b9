"""`glasshouse lr-find`: a learning rate from a range test."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import (
    DEFAULT_RECIPE,
    BatchSize,
    DataDir,
    Device,
    ImageSize,
    Json,
    Offline,
    Recipe,
    Reread,
    Set,
    Source,
    print_json,
    with_shorthands,
)

if TYPE_CHECKING:
    from glasshouse.settings import TrainSettings
    from glasshouse.training.lr_curve import LrCurve


def lr_find(
    source: Source,
    recipe: Recipe = DEFAULT_RECIPE,
    batch_size: BatchSize = None,
    image_size: ImageSize = None,
    device: Device = None,
    set_: Set = None,
    rule: Annotated[
        str, typer.Option(help="Reads the rate off the curve: minimum/10, valley or steepest.")
    ] = "minimum/10",
    seeds: Annotated[int, typer.Option(min=1, help="Number of tests, each with its own seed.")] = 3,
    steps: Annotated[int, typer.Option(min=20, help="Updates per test.")] = 100,
    start: Annotated[
        float | None, typer.Option(help="Lowest rate. Default: 1e-5; with SGD and Muon 1e-4.")
    ] = None,
    end: Annotated[
        float | None, typer.Option(help="Highest rate. Default: 0.1; with SGD and Muon 10.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A .png file for the curve, or - for none. Default: lr-find.png."),
    ] = None,
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Suggest a learning rate from short trainings at rising rates; the model is not modified."""
    from glasshouse.cli import early_checks
    from glasshouse.cli.progress_bars import data_progress, say
    from glasshouse.recipe import load_with_effect
    from glasshouse.training.lr_curve import curve_to_json, require_rule

    image = _image_path(out)
    require_rule(rule)
    overrides = with_shorthands(set_, batch_size=batch_size, image_size=image_size, device=device)
    settings = load_with_effect(recipe, overrides, "train.lr")
    early_checks.require_source(source, offline=offline)
    early_checks.require_recipe(settings)
    early_checks.reread(reread, source)
    from glasshouse.training.finder import RangeTest, with_found_rate
    from glasshouse.workflow.train.experiment import TrainRequest
    from glasshouse.workflow.train.learning_rate import write_curve_image
    from glasshouse.workflow.train.range_test import find_recipe_lr

    request = TrainRequest(source, settings, Path(), data_dir=data_dir, offline=offline)
    test = RangeTest(start=start, end=end, steps=steps, seeds=seeds)
    with data_progress() as progress:
        curve = find_recipe_lr(request, test=test, rule=rule, progress=progress)
    found = None if curve.suggestion is None else with_found_rate(settings.train, curve)
    if json:
        print_json({**curve_to_json(curve), "auto_lr": found and found.peak_lr})
    else:
        print(format_curve(curve))
        if found is not None:
            print(_recommendation(found, settings.name))
    if image is not None:
        write_curve_image(curve, image)
        say(f"curve: {image}")
    if curve.suggestion is None:
        raise typer.Exit(3)


def _recommendation(found: "TrainSettings", recipe: str) -> str:
    """One rate for the recipe as it is: a schedule that rises and falls has a higher one."""
    kind = found.schedule.type
    if kind == "per_epoch":
        return (
            f"for {recipe}, use train.lr=auto, which finds {found.peak_lr:.3g} by itself, and "
            "scales the rates of its schedule so that this is the highest of them"
        )
    peak = f", the maximum of its {kind} schedule" if kind in ("one_cycle", "triangular") else ""
    return f"for {recipe}, use train.lr={found.peak_lr:.3g}{peak}; train.lr=auto finds it by itself"


def format_curve(curve: "LrCurve") -> str:
    """The suggestion of each rule, the bounds for cyclical schedules and the verdict."""
    lines = [f"{rule:<11} {lr:.3g}" for rule, lr in curve.suggestions.items()]
    if curve.base_lr is not None and curve.max_lr is not None:
        lines.append(f"{'cyclical':<11} base {curve.base_lr:.3g}, max {curve.max_lr:.3g}")
        lines.append(f"{'one-cycle':<11} max {curve.max_lr:.3g}")
    return "\n".join([*lines, curve.verdict])


def _image_path(out: Path | None) -> Path | None:
    from glasshouse.cli import early_checks

    if str(out) == "-":
        return None
    image = out or Path("lr-find.png")
    early_checks.require_file_name(image, ".png", otherwise=", or - for no file")
    return image
