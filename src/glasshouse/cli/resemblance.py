"""The options --similar and --unknown: the comparison of photos with the images of a run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.named_classifier import NamedModel
from glasshouse.errors import UsageError
from glasshouse.runs import folder as runs

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


def require_run(named: NamedModel, *, similar: bool, unknown: bool = False) -> None:
    """Raise UsageError where an option needs a run and MODEL is none."""
    if not (similar or unknown):
        return
    if named.model is None or not (Path(named.model) / runs.RECIPE).is_file():
        option = "--similar" if similar else "--unknown"
        raise UsageError(f"{option} needs the folder of a run, not {named.shown}")


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
    from glasshouse.workflow.use.photo_and_run import RunComparison

    run = Path(str(named.model))
    known = RunComparison.of(run, classifier, data_dir=data_dir, offline=named.offline)
    return lambda pixels, logits: known.compare(pixels, logits, similar=similar)
