"""The models that can be chosen from a folder of runs, by names that are shown to people."""

from dataclasses import replace
from pathlib import Path

from glasshouse.errors import ModelError, UsageError, did_you_mean
from glasshouse.models.bundled import bundled_names, load_bundled
from glasshouse.models.classifier import Classifier
from glasshouse.models.freezing import thaw
from glasshouse.training.state import finished_epochs, weights_of_checkpoint
from glasshouse.workflow import runs
from glasshouse.workflow.measuring import load_run_classifier

_EPOCH = " @ epoch "


def model_choices(folder: Path) -> list[str]:
    """Finished runs, the newest first, the epochs of each that are kept, and bundled models."""
    found = [path for path in folder.glob(f"**/{runs.MODEL}") if _is_run(path.parent)]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    names = []
    for path in found:
        name = path.parent.relative_to(folder).as_posix()
        epochs = sorted(finished_epochs(path.parent / "checkpoint"), reverse=True)
        names += [name, *(f"{name}{_EPOCH}{epoch}" for epoch in epochs)]
    return [*names, *bundled_names()]


def classifier_of_choice(folder: Path, name: str) -> Classifier:
    """The classifier that a choice means, in evaluation mode on the CPU.

    Only what `model_choices` lists is ever loaded. Raises UsageError with the nearest name.
    """
    known = model_choices(folder)
    if name not in known:
        raise UsageError(f"there is no model '{name}' in {folder}. {did_you_mean(name, known)}")
    if name in bundled_names():
        return load_bundled(name)
    run, has_epoch, epoch = name.partition(_EPOCH)
    classifier = load_run_classifier(folder / run)
    if not has_epoch:
        return classifier
    weights = weights_of_checkpoint(finished_epochs(folder / run / "checkpoint")[int(epoch)])
    thaw(classifier.net)
    try:
        classifier.net.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"the checkpoint of {name} belongs to another net: {error}") from error
    return replace(classifier, net=classifier.net.eval())


def run_of_choice(folder: Path, name: str) -> Path | None:
    """The run folder behind a choice; None for a bundled model."""
    path = folder / name.partition(_EPOCH)[0]
    return path if name in model_choices(folder) and (path / runs.RECIPE).is_file() else None


def _is_run(folder: Path) -> bool:
    return (folder / runs.RECIPE).is_file() and (folder / runs.ENVIRONMENT).is_file()
