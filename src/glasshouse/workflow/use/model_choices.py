"""The models offered for a choice: runs in a folder with their kept epochs, and ready-made ones."""

from dataclasses import dataclass, replace
from pathlib import Path

from glasshouse.errors import ModelError, UsageError
from glasshouse.models.classifier import Classifier
from glasshouse.models.freezing import unfreeze
from glasshouse.models.known_names import bundled_names
from glasshouse.runs import folder as runs
from glasshouse.workflow.train.kept_epochs import kept_epochs, weights_of_epoch
from glasshouse.workflow.use.model_names import classifier_without_folder
from glasshouse.workflow.use.predictions import load_run_classifier

HOW_TO_KEEP = "Train with train.keep_every=1 to keep every epoch."


@dataclass(frozen=True)
class ModelChoice:
    """One model: a finished run below the folder, a bundled model, or a network of a library.

    epoch: an earlier epoch of a run; None: its final weights. weights: a file for a library's
    network; None: its published ones.
    """

    name: str
    epoch: int | None = None
    weights: Path | None = None

    def __str__(self) -> str:
        """As shown to people."""
        epoch = "" if self.epoch is None else f" @ epoch {self.epoch}"
        return f"{self.name}{epoch}" + ("" if self.weights is None else f" ({self.weights.name})")


def model_names(folder: Path) -> list[str]:
    """Finished runs, newest first, and bundled models."""
    found = [path for path in folder.glob(f"**/{runs.MODEL}") if _is_run(path.parent)]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [*(path.parent.relative_to(folder).as_posix() for path in found), *bundled_names()]


def run_of_choice(folder: Path, choice: ModelChoice) -> Path | None:
    """The run folder of a choice; None for a bundled model or a library's network."""
    try:
        path, root = (folder / choice.name).resolve(), folder.resolve()
        # The name must be the resolved path, so that no ".." or link leads out of the folder.
        is_below = path != root and path == root / choice.name and path.is_relative_to(root)
        return path if is_below and _is_run(path) and (path / runs.MODEL).is_file() else None
    except (OSError, ValueError):
        return None


def epochs_of_choice(folder: Path, choice: ModelChoice) -> list[int]:
    """The epochs of a run that can be chosen; none for other models."""
    run = run_of_choice(folder, choice)
    return [] if run is None else kept_epochs(run)


def classifier_of_choice(folder: Path, choice: ModelChoice) -> Classifier:
    """The chosen classifier, in evaluation mode on the CPU; nothing is downloaded.

    No run outside the folder is ever loaded. Raises UsageError for an unknown name or epoch, and
    ModelError for weights that are missing or do not fit.
    """
    run = run_of_choice(folder, choice)
    if run is None:
        return classifier_without_folder(choice.name, weights=choice.weights, offline=True)
    classifier = load_run_classifier(run)
    if choice.epoch is None:
        return classifier
    if choice.epoch not in kept_epochs(run):
        raise UsageError(f"epoch {choice.epoch} of {choice.name} is not kept. {HOW_TO_KEEP}")
    unfreeze(classifier.net)
    try:
        classifier.net.load_state_dict(weights_of_epoch(run, choice.epoch))
    except RuntimeError as error:
        raise ModelError(f"the weights of {choice} belong to another network: {error}") from error
    # Its conformity scores are those of the final weights.
    return replace(classifier, net=classifier.net.eval(), conformity=None)


def _is_run(folder: Path) -> bool:
    return (folder / runs.RECIPE).is_file() and (folder / runs.ENVIRONMENT).is_file()
