"""`glasshouse folds` and `glasshouse label-errors`: small sets, judged image by image."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import (
    BACKBONE_RECIPE,
    Backbone,
    DataDir,
    Json,
    Offline,
    Set,
    Source,
    Weights,
    overrides_of,
    print_json,
)

if TYPE_CHECKING:
    from glasshouse.workflow.compare.cross_validation import Folds
    from glasshouse.workflow.train.experiment import Request

Recipe = Annotated[str, typer.Option(help="a recipe with a pretrained net")]
Count = Annotated[int, typer.Option("--folds", help="how many parts are held out in turn")]


def folds(
    source: Source,
    recipe: Recipe = BACKBONE_RECIPE,
    set_: Set = None,
    backbone: Backbone = None,
    weights: Weights = None,
    count: Count = 5,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Hold out each part of SOURCE in turn and predict it from the others, on frozen features.

    The test split is left alone.
    """
    from dataclasses import asdict

    from glasshouse.cli.figures import class_lines, with_interval
    from glasshouse.evaluation.metrics import per_class

    request = _request(source, recipe, overrides_of(set_, backbone, weights), data_dir, offline)
    found = _folds(request, count)
    classes = per_class(found.predictions)
    if json:
        accuracy = {name: getattr(found.accuracy, name) for name in ("value", "low", "high")}
        print_json(
            {
                "images": len(found.fold_of),
                "accuracy": accuracy,
                "folds": list(found.accuracies),
                "per_class": [asdict(row) for row in classes],
                "seconds": round(found.seconds, 1),
            }
        )
        return
    print(f"accuracy  {with_interval(found.accuracy)}, 95 % interval")
    print(f"folds     {', '.join(f'{each:.1%}' for each in found.accuracies)}")
    print(f"images  {len(found.fold_of):,}, each predicted by a head that has not seen it\n")
    print("\n".join(class_lines(classes)))


def label_errors(
    source: Source,
    recipe: Recipe = BACKBONE_RECIPE,
    set_: Set = None,
    backbone: Backbone = None,
    weights: Weights = None,
    count: Count = 5,
    with_test: Annotated[
        bool, typer.Option("--with-test", help="Look at the test images too.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="how many to show at most")] = 100,
    out: Annotated[Path, typer.Option(help="the folder for the gallery")] = Path("label-errors"),
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Rank images of SOURCE whose label may be wrong, in a gallery; no file is changed.

    The test split is left alone unless --with-test asks for it: labels that are changed because a
    network doubts them flatter such networks.
    """
    from dataclasses import asdict

    from glasshouse.cli.progress_bars import say
    from glasshouse.workflow.compare.label_errors import label_candidates, write_candidates

    request = _request(source, recipe, overrides_of(set_, backbone, weights), data_dir, offline)
    found = _folds(request, count, with_test=with_test)
    candidates = label_candidates(found, limit=limit)
    write_candidates(candidates, found, out, source=source)
    if json:
        print_json([asdict(candidate) for candidate in candidates])
    for each in () if json else candidates[:20]:
        print(
            f"{each.id}: labelled {each.label} ({each.label_probability:.0%}), "
            f"looks like {each.suggested} ({each.suggested_probability:.0%})"
        )
    say(f"{len(candidates)} of {len(found.fold_of)} labels in doubt: {out / 'label-errors.html'}")


def _request(
    source: str, recipe: str, overrides: list[str], data_dir: Path | None, offline: bool
) -> "Request":
    from glasshouse.errors import UsageError
    from glasshouse.recipe import load_recipe
    from glasshouse.workflow.train.experiment import Request

    settings = load_recipe(recipe, overrides)
    if settings.model.pretrained is None:
        raise UsageError(f"--recipe {recipe} has no model.pretrained, whose features are needed")
    return Request(source, settings, Path(), data_dir=data_dir, offline=offline)


def _folds(request: "Request", count: int, *, with_test: bool = False) -> "Folds":
    from glasshouse.cli.progress_bars import data_progress, say
    from glasshouse.workflow.compare.cross_validation import cross_validate

    with data_progress() as progress:
        found = cross_validate(request, folds=count, with_test=with_test, progress=progress)
    for note in found.notes:
        say(f"note: {note}")
    return found
