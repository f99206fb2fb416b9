"""`glasshouse evaluate`: the metrics of a run."""

from pathlib import Path
from typing import Annotated

import typer

from glasshouse.cli.metrics_text import format_evaluation
from glasshouse.cli.options import DataDir, Json, Offline, Reread, print_json


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    on: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Evaluate on this source instead: on its test split, or on all images of a folder "
            "or table without splits.",
        ),
    ] = None,
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Print the accuracy, metrics per class, confusions and calibration of RUN."""
    from glasshouse.cli import early_checks
    from glasshouse.cli.progress_bars import say
    from glasshouse.wording import pluralize

    early_checks.require_finished([run])
    if on is not None:
        early_checks.require_source(on)
    early_checks.reread(reread, on, "name a source with --on")
    from glasshouse.evaluation.evaluation import evaluate_any, to_json
    from glasshouse.workflow.use.predictions import predictions_of

    predictions = predictions_of(run, on, data_dir=data_dir, offline=offline, is_whole=True)
    evaluation = evaluate_any(predictions)
    if on is not None:
        say(f"measured on {pluralize(len(predictions), 'image')} of {on}")
    if json:
        print_json(to_json(evaluation))
    else:
        print(format_evaluation(evaluation))
