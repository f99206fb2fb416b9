"""The option --similar, and the comparison of photos with a run's images that it asks for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.named_classifier import NamedModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from glasshouse.models.classifier import Classifier
    from glasshouse.workflow.use.photo_and_run import Resemblance

Similar = Annotated[
    bool,
    typer.Option(
        "--similar",
        help="Name the five training images that an IMAGE resembles most, and say where it "
        "is unlike all of them. MODEL is a run, whose training images are read once.",
    ),
]
Compare = Callable[["NDArray[np.uint8]", "NDArray[np.floating[Any]]"], "Sequence[Resemblance]"]


def comparison(
    named: NamedModel,
    classifier: "Classifier",
    data_dir: Path | None,
    *,
    similar: bool,
    unknown: bool = False,
) -> Compare | None:
    """From pixels and logits of photos to what the options say of each; None without an option."""
    if not (similar or unknown):
        return None
    from glasshouse.workflow.use.photo_and_run import RunComparison, require_run

    run = require_run(named.model, named.shown, "--similar" if similar else "--unknown")
    known = RunComparison.of(run, classifier, data_dir=data_dir, offline=named.offline)
    return lambda pixels, logits: known.compare(pixels, logits, similar=similar)
