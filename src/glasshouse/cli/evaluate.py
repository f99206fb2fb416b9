"""`glasshouse evaluate`: the metrics of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.metrics_text import format_evaluation
from glasshouse.cli.named_classifier import NamedModel, classifier_named
from glasshouse.cli.options import (
    ClassNamesFile,
    DataDir,
    Json,
    Net,
    Offline,
    Reread,
    UseDevice,
    Weights,
    print_json,
)

if TYPE_CHECKING:
    from glasshouse.models.outputs import Predictions


def evaluate(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A run folder, or with --on any MODEL that predict takes; not needed with --net.",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Evaluate on this source instead: on its test split, or on all images of a folder "
            "or table without splits.",
        ),
    ] = None,
    net: Net = None,
    weights: Weights = None,
    class_names: ClassNamesFile = None,
    device: UseDevice = "cpu",
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Print the accuracy, metrics per class, confusions and calibration of MODEL, or of --net."""
    from glasshouse.cli import early_checks
    from glasshouse.cli.progress_bars import say
    from glasshouse.wording import pluralize

    named = NamedModel(run, net, weights, class_names, offline, device)
    _require_model(named, on)
    if on is not None:
        early_checks.require_source(on, offline=offline)
    early_checks.reread(reread, on, "name a source with --on")
    from glasshouse.evaluation.evaluation import evaluate_any, to_json

    predictions = _predictions(named, on, data_dir)
    evaluation = evaluate_any(predictions)
    if on is not None:
        say(f"measured on {pluralize(len(predictions), 'image')} of {on}")
    if json:
        print_json(to_json(evaluation))
    else:
        print(format_evaluation(evaluation))


def _require_model(named: NamedModel, on: str | None) -> None:
    from glasshouse.cli import early_checks
    from glasshouse.errors import UsageError

    if named.model is not None and _is_run(named.model, on):
        early_checks.require_finished([Path(named.model)])
    elif named.model is None and named.net is None:
        raise UsageError("expected a MODEL, or --net with your own code; received neither")
    elif on is None:
        what = "--net" if named.model is None else named.model
        raise UsageError(f"{what} needs images to be evaluated on: add --on SOURCE")
    named.checked()


def _is_run(model: str, on: str | None) -> bool:
    """Whether MODEL stands for a run, whose own test split is known, rather than for a network."""
    from glasshouse.errors import UsageError
    from glasshouse.models.known_names import require_known
    from glasshouse.runs import folder as runs

    if on is not None or runs.names_folder(model):
        return runs.names_folder(model)
    try:
        require_known(model)
    except UsageError:
        # The name of a run that does not exist.
        return True
    return False


def _predictions(named: NamedModel, on: str | None, data_dir: Path | None) -> "Predictions":
    from glasshouse.workflow.use.predictions import predictions_of, predictions_on

    classifier = None if on is None else classifier_named(named)
    if named.model is None or not _is_run(named.model, on):
        assert on is not None and classifier is not None
        return predictions_on(classifier, on, data_dir=data_dir, offline=named.offline)
    return predictions_of(
        Path(named.model),
        on,
        data_dir=data_dir,
        offline=named.offline,
        is_whole=True,
        classifier=classifier,
    )
