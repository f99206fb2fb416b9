"""`glasshouse folds` and `glasshouse label-errors`: cross-validation on frozen features."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.options import (
    BACKBONE_RECIPE,
    Backbone,
    DataDir,
    Device,
    Json,
    Offline,
    On,
    Reread,
    Set,
    Source,
    Weights,
    overrides_of,
    print_json,
    with_shorthands,
)
from glasshouse.wording import percentage

if TYPE_CHECKING:
    from glasshouse.evaluation.suspect_labels import SuspectLabel, SuspectPair
    from glasshouse.workflow.compare.cross_validation import Folds
    from glasshouse.workflow.train.experiment import TrainRequest

Recipe = Annotated[str, typer.Option(help="A recipe with a pretrained network.")]
Count = Annotated[int, typer.Option("--folds", min=2, help="Number of folds.")]


def folds(
    source: Source,
    recipe: Recipe = BACKBONE_RECIPE,
    device: Device = None,
    set_: Set = None,
    backbone: Backbone = None,
    weights: Weights = None,
    count: Count = 5,
    on: On = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Empty folder for evaluation.json and predictions.safetensors."),
    ] = None,
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Cross-validate a head on the features of a frozen pretrained network.

    The test split is not used.
    """
    from glasshouse.cli import early_checks
    from glasshouse.cli.metrics_text import class_lines, label_lines, metric_interval
    from glasshouse.cluster.connection import require_address
    from glasshouse.runs import folder as runs

    require_address(on)
    early_checks.require_folder_free_of_files(out)
    early_checks.require_outside(out, source)
    if out is not None:
        runs.claim(out, resume=False)
    overrides = overrides_of(with_shorthands(set_, device=device), backbone, weights)
    request = _request(source, recipe, overrides, on, data_dir, offline)
    early_checks.reread(reread, source)
    from glasshouse.evaluation.metrics import per_class
    from glasshouse.evaluation.multi_label import evaluate_labels
    from glasshouse.wording import metric_text

    found = _folds(request, count, on)
    if out is not None:
        _write(found, out)
    if json:
        print_json(_facts(found))
        return
    width = len(found.metric)
    score = metric_interval(found.metric, found.score)
    scores = ", ".join(metric_text(found.metric, each) for each in found.scores)
    print(f"{found.metric}  {score}, 95 % confidence interval")
    print(f"{'folds':<{width}}  {scores}")
    print(f"{'images':<{width}}  {len(found.fold_of):,}, each predicted by a head that was not "
          "fitted to it\n")  # fmt: skip
    if found.predictions.is_multi_label:
        print("\n".join(label_lines(evaluate_labels(found.predictions))))
    else:
        print("\n".join(class_lines(per_class(found.predictions))))


def _facts(found: "Folds") -> dict[str, Any]:
    from dataclasses import asdict

    from glasshouse.evaluation.metrics import per_class
    from glasshouse.evaluation.multi_label import evaluate_labels

    rows = (
        {"per_label": [asdict(row) for row in evaluate_labels(found.predictions).per_label]}
        if found.predictions.is_multi_label
        else {"per_class": [asdict(row) for row in per_class(found.predictions)]}
    )
    return {
        "images": len(found.fold_of),
        found.metric.replace(" ", "_"): {
            name: getattr(found.score, name) for name in ("value", "low", "high")
        },
        "folds": list(found.scores),
        **rows,
        "seconds": round(found.seconds, 1),
    }


def _write(found: "Folds", out: Path) -> None:
    from glasshouse.cli.progress_bars import say
    from glasshouse.models.predict import save_predictions
    from glasshouse.runs import folder as runs
    from glasshouse.storage import write_json

    save_predictions(found.predictions, out / runs.PREDICTIONS)
    write_json(out / runs.EVALUATION, _facts(found))
    say(f"evaluation and predictions: {out}")


def label_errors(
    source: Source,
    recipe: Recipe = BACKBONE_RECIPE,
    device: Device = None,
    set_: Set = None,
    backbone: Backbone = None,
    weights: Weights = None,
    count: Count = 5,
    on: On = None,
    with_test: Annotated[
        bool, typer.Option("--with-test", help="Include the test images.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many suspects.")] = 100,
    out: Annotated[Path, typer.Option(help="Folder for the gallery.")] = Path("label-errors"),
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Find images of SOURCE that may be mislabelled and show them in a gallery.

    No file is changed. The test split is left out unless --with-test is given: correcting test
    labels that a network disagrees with biases the test accuracy in favour of such networks.
    """
    from glasshouse.cli import early_checks
    from glasshouse.cli.progress_bars import say
    from glasshouse.cluster.connection import require_address

    require_address(on)
    early_checks.require_folder_free_of_files(out)
    early_checks.require_outside(out, source)
    overrides = overrides_of(with_shorthands(set_, device=device), backbone, weights)
    request = _request(source, recipe, overrides, on, data_dir, offline)
    early_checks.reread(reread, source)
    from glasshouse.storage import read_json
    from glasshouse.workflow.compare.label_errors import (
        CANDIDATES,
        find_label_errors,
        why_doubtful,
        write_label_errors,
    )

    found = _folds(request, count, on, with_test=with_test)
    suspects = find_label_errors(found, limit=limit)
    page = write_label_errors(suspects, found, out, source=source)
    if json:
        print_json(read_json(page.parent / CANDIDATES))
    for each in () if json else suspects[:20]:
        print(_suspect_line(each))
    count = len({each.id for each in suspects})
    say(f"{count} of {len(found.fold_of):,} images may be mislabelled: {page}")
    if doubt := why_doubtful(found.predictions, found.score):
        say(f"note: {doubt}")


def _suspect_line(each: "SuspectLabel | SuspectPair") -> str:
    from glasshouse.evaluation.suspect_labels import SuspectLabel

    if isinstance(each, SuspectLabel):
        return (
            f"{each.id}: labelled {each.label} ({percentage(each.label_probability, 1)}), "
            f"predicted {each.suggested} ({percentage(each.suggested_probability, 1)})"
        )
    given = f"labelled {each.label}" if each.is_given else f"not labelled {each.label}"
    return f"{each.id}: {given}, whose predicted probability is {percentage(each.probability, 1)}"


def _request(
    source: str,
    recipe: str,
    overrides: list[str],
    on: str | None,
    data_dir: Path | None,
    offline: bool,
) -> "TrainRequest":
    from glasshouse.cli import early_checks
    from glasshouse.errors import UsageError
    from glasshouse.recipe import load_with_effect

    settings = load_with_effect(recipe, overrides)
    if settings.model.pretrained is None:
        raise UsageError(
            f"--recipe {recipe}: expected a recipe with model.pretrained, whose features the heads "
            f"are fitted to; use --recipe {BACKBONE_RECIPE} or name a network with --backbone"
        )
    early_checks.require_source(source, offline=offline)
    early_checks.require_recipe(settings, on)
    from glasshouse.workflow.train.experiment import TrainRequest

    return TrainRequest(source, settings, Path(), data_dir=data_dir, offline=offline)


def _folds(
    request: "TrainRequest", count: int, on: str | None, *, with_test: bool = False
) -> "Folds":
    from glasshouse.cli.on_cluster import piecework_on
    from glasshouse.cli.progress_bars import data_progress, say
    from glasshouse.workflow.compare.cross_validation import cross_validate

    device = request.recipe.train.device
    with piecework_on(on, device) as piecework, data_progress() as progress:
        found = cross_validate(
            request, folds=count, with_test=with_test, progress=progress,
            piecework=piecework,
        )  # fmt: skip
    for note in found.notes:
        say(f"note: {note}")
    return found
