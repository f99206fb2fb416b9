"""Classifiers named on the command line, with a warning where their weights need arguments."""

from pathlib import Path
from typing import TYPE_CHECKING

from glasshouse.settings import Recipe

if TYPE_CHECKING:
    from glasshouse.models.classifier import Classifier


def classifier_named(model: str, weights: Path | None, *, offline: bool) -> "Classifier":
    """The classifier of MODEL; says on standard error what --weights seem to need in addition."""
    from glasshouse.workflow.use.model_names import classifier_by_name

    classifier = classifier_by_name(model, weights=weights, offline=offline)
    if weights is not None:
        _warn(classifier, weights)
    return classifier


def warn_of_weights(recipe: Recipe) -> None:
    """The same for the weights file that a recipe starts from, if it names one."""
    from glasshouse.errors import ModelError
    from glasshouse.models.zoo import create
    from glasshouse.training.adapting import with_levels

    settings = recipe.model.pretrained
    if settings is None or settings.weights in ("usual", "none"):
        return
    path = Path(settings.weights)
    try:
        # Any classes do: a file may have no head, or one for other classes.
        found = create(settings.name, ("a", "b"), weights=path, arguments=settings.arguments)
    except ModelError:
        return  # Raised again, with the reason, where the network is built for the images.
    _warn(with_levels(found.classifier, settings), path)


def _warn(classifier: "Classifier", weights: Path) -> None:
    from glasshouse.cli.progress_bars import say
    from glasshouse.models.argument_hints import argument_hint

    hint = argument_hint(classifier, weights)
    if hint is not None:
        say(f"warning: {hint}")
