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
        Path | None, typer.Argument(metavar="RUN", help="A run folder; not needed with --net.")
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
    """Print the accuracy, metrics per class, confusions and calibration of RUN, or of --net."""
    from glasshouse.cli import early_checks
    from glasshouse.cli.progress_bars import say
    from glasshouse.wording import pluralize

    model = None if run is None else str(run)
    named = NamedModel(model, net, weights, class_names, offline, device)
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

    if named.model is not None:
        early_checks.require_finished([Path(named.model)])
    elif named.net is None:
        raise UsageError("expected a RUN, or --net with your own code; received neither")
    elif on is None:
        raise UsageError("--net needs images to be evaluated on: add --on SOURCE")
    named.checked()


def _predictions(named: NamedModel, on: str | None, data_dir: Path | None) -> "Predictions":
    from glasshouse.workflow.use.predictions import predictions_of, predictions_on

    classifier = None if on is None else classifier_named(named)
    if named.model is None:
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
