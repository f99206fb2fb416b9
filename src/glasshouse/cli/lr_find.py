"""`glasshouse lr-find`: a learning rate by the range test."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import (
    DEFAULT_RECIPE,
    DataDir,
    Json,
    Offline,
    Recipe,
    Set,
    Source,
    print_json,
)

if TYPE_CHECKING:
    from glasshouse.training.lr_curve import LrCurve


def lr_find(
    source: Source,
    recipe: Recipe = DEFAULT_RECIPE,
    set_: Set = None,
    rule: Annotated[
        str, typer.Option(help="how the rate is read: minimum/10, valley or steepest")
    ] = "minimum/10",
    seeds: Annotated[int, typer.Option(help="how often the test is made")] = 3,
    steps: Annotated[int, typer.Option(help="updates in each test")] = 100,
    start: Annotated[float | None, typer.Option(help="the lowest rate [1e-5; of sgd 1e-4]")] = None,
    end: Annotated[float | None, typer.Option(help="the highest rate [0.1; of sgd 10]")] = None,
    out: Annotated[
        Path | None, typer.Option(help="a .png for the curve [lr-find.png]; - for none")
    ] = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Train copies of the net at rising rates and say which rate suits; trains nothing for good."""
    from glasshouse.cli.progress_bars import data_progress, say
    from glasshouse.recipe import load_recipe
    from glasshouse.training.finder import RangeTest, with_found_rate
    from glasshouse.training.lr_curve import curve_to_json
    from glasshouse.workflow.train.experiment import Request
    from glasshouse.workflow.train.learning_rate import write_curve_image
    from glasshouse.workflow.train.range_test import find_recipe_lr

    image = _image_path(out)
    settings = load_recipe(recipe, set_ or [])
    request = Request(source, settings, Path(), data_dir=data_dir, offline=offline)
    test = RangeTest(start=start, end=end, steps=steps, seeds=seeds)
    with data_progress() as progress:
        curve = find_recipe_lr(request, test=test, rule=rule, progress=progress)
    found = None if curve.suggestion is None else with_found_rate(settings.train, curve)
    if json:
        print_json({**curve_to_json(curve), "auto_lr": found and found.peak_lr})
    else:
        print(format_curve(curve))
        if found is not None:
            print(
                f"train.lr=auto takes {found.peak_lr:.3g} here, as the schedule of {settings.name} "
                f"is {found.schedule.type}"
            )
    if image is not None:
        write_curve_image(curve, image)
        say(f"curve: {image}")
    if curve.suggestion is None:
        raise typer.Exit(3)


def format_curve(curve: "LrCurve") -> str:
    """Suggestions by rule, the bounds for cyclical schedules and the verdict."""
    lines = [f"{rule:<11} {lr:.3g}" for rule, lr in curve.suggestions.items()]
    if curve.band is not None:
        lines.append(f"{'band':<11} {curve.band[0]:.3g} to {curve.band[1]:.3g} ({curve.rule})")
    if curve.base_lr is not None and curve.max_lr is not None:
        lines.append(f"{'cyclical':<11} base {curve.base_lr:.3g}, max {curve.max_lr:.3g}")
        lines.append(f"{'one-cycle':<11} max {curve.max_lr:.3g}")
    return "\n".join([*lines, curve.verdict])


def _image_path(out: Path | None) -> Path | None:
    from glasshouse.errors import UsageError

    if out is None:
        return Path("lr-find.png")
    if str(out) == "-":
        return None
    if out.suffix != ".png":
        raise UsageError(f"--out {out}: expected a name that ends in .png")
    return out
