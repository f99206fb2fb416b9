"""From a recipe to a run folder to a report, in three verbs: open, fit, finish."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from glasshouse.data.images import Splits
from glasshouse.data.sources import fingerprint, load_splits
from glasshouse.errors import DataError, Interrupted, UsageError
from glasshouse.evaluation.calibration import fit_temperature
from glasshouse.evaluation.evaluation import Evaluation, evaluate, to_json
from glasshouse.models.classifier import Classifier, save_classifier
from glasshouse.models.freezing import thaw
from glasshouse.models.predict import Predictions, predict, save_predictions
from glasshouse.progress import Progress
from glasshouse.recipe import to_toml
from glasshouse.runs import folder as runs
from glasshouse.settings import Recipe, TrainSettings
from glasshouse.storage import write_json, write_text
from glasshouse.training.devices import choose_device, choose_precision
from glasshouse.training.fit import class_weights_of, untrained_classifier
from glasshouse.training.loop import Step, TrainingSetup
from glasshouse.training.state import (
    Epoch,
    TrainingState,
    final_net,
    load_checkpoint,
    save_checkpoint,
)
from glasshouse.training.transfer import begin_transfer, starting_net, train_transfer
from glasshouse.workflow.train.environment import describe_environment
from glasshouse.workflow.train.kept_epochs import keep_epoch
from glasshouse.workflow.train.learning_rate import FoundRate, find_rate_of_run, write_found_rate
from glasshouse.workflow.train.pretrained import adapted_classifier, data_settings
from glasshouse.workflow.train.step_log import recorded
from glasshouse.workflow.use.source_check import require_no_errors


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    snapshots: how many validation images are explained after each epoch.
    budget: how the recipe was fitted to a time, for the record; None where it was not.
    """

    source: str
    recipe: Recipe
    out: Path
    resume: bool = False
    data_dir: Path | None = None
    offline: bool = False
    command: str = ""
    snapshots: int = 0
    budget: dict[str, Any] | None = None


@dataclass(frozen=True)
class Experiment:
    """A run folder with its data, its first classifier and the state of its training.

    settings: those of the recipe, with the rate that was found where it says "auto".
    """

    request: Request
    splits: Splits
    classifier: Classifier
    state: TrainingState
    resumed_epochs: int
    settings: TrainSettings
    found_rate: FoundRate | None = None

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self.request.out


@dataclass(frozen=True)
class Result:
    """What a finished experiment leaves in memory."""

    classifier: Classifier
    predictions: Predictions
    evaluation: Evaluation


def open_experiment(request: Request, progress: Progress | None = None) -> Experiment:
    """Load the data, build the net and write down what will be done.

    With resume, goes on from the newest whole checkpoint of the folder. Raises UsageError when the
    folder holds something else, or another recipe or other data, and DataError for images that
    would make the figures wrong, unless the recipe says otherwise.
    """
    before = _recorded(request)
    splits, classifier = first_classifier(request, progress)
    recipe, settings = request.recipe, request.recipe.train
    require_no_errors(splits, recipe.data)
    found = None
    if settings.lr == "auto":
        net = starting_net(classifier.net, recipe.transfer, settings.epochs)
        found = find_rate_of_run(net, make_setup(recipe, splits, classifier), request.out, progress)
    settings = found.settings if found else settings
    device = choose_device(settings.device)
    state = begin_transfer(classifier.net, settings, recipe.transfer, device)
    record = _record(request, splits, device)
    if before is not None:
        _require_same_data(before, record, request)
        load_checkpoint(state, request.out / "checkpoint")
    else:
        write_text(request.out / runs.RECIPE, to_toml(request.recipe))
        write_json(request.out / runs.ENVIRONMENT, record)
    if found is not None:
        write_found_rate(found, request.out)
    return Experiment(request, splits, classifier, state, state.epoch, settings, found)


def fit_experiment(
    experiment: Experiment, signal_received: Callable[[], int | None] = lambda: None
) -> Iterator[Step | Epoch]:
    """Train to the end, with a checkpoint after each epoch and snapshots where asked for.

    When signal_received gives a signal's number, the state is saved at the next whole step and
    Interrupted is raised.
    """
    state, folder = experiment.state, experiment.folder
    transfer = experiment.request.recipe.transfer
    explain_now = _snapshots(experiment)
    if state.epoch == state.step == 0:
        explain_now()
    records = train_transfer(state, setup_of(experiment), transfer)
    for record in recorded(records, state, experiment.settings.epochs, folder):
        if isinstance(record, Epoch):
            # First, so that a kill between the two leaves none out: the epoch is done again.
            keep_epoch(state, folder, experiment.settings.keep_every)
            save_checkpoint(state, folder / "checkpoint")
            _write_metrics(state, folder)
            explain_now()
        yield record
        number = signal_received()
        if number is not None:
            save_checkpoint(state, folder / "checkpoint")
            raise Interrupted(_interrupted_message(experiment), number)


def finish_experiment(experiment: Experiment) -> Result:
    """Calibrate on validation, touch the test split once, and write model, figures and report."""
    _write_metrics(experiment.state, experiment.folder)
    net = final_net(experiment.state)
    thaw(net)
    trained = replace(experiment.classifier, net=net.eval())
    splits = experiment.splits
    measured = predict(trained, splits.validation), predict(trained, splits.test)
    calibrate = not experiment.request.recipe.data.train_on_validation
    return conclude(experiment.folder, splits, trained, measured, calibrate=calibrate)


def conclude(
    folder: Path,
    splits: Splits,
    trained: Classifier,
    measured: tuple[Predictions, Predictions],
    *,
    calibrate: bool = True,
    calibrate_on: Predictions | None = None,
) -> Result:
    """Calibrate, and write model, predictions, figures and report into a run folder.

    measured: the predictions of the trained classifier on validation and test. calibrate: False
    where the validation images were trained on, so that they cannot tell how sure to be.
    calibrate_on: what the temperature is fitted to, where that is not validation.
    """
    from glasshouse.workflow.train.reporting import write_run_report

    validation, test = measured
    on = validation if calibrate_on is None else calibrate_on
    temperature = fit_temperature(on) if calibrate else trained.temperature
    classifier = replace(trained, temperature=temperature)
    predictions = replace(test, temperature=temperature)
    evaluation = evaluate(predictions)
    save_classifier(classifier, folder)
    save_predictions(
        replace(validation, temperature=temperature), folder / runs.VALIDATION_PREDICTIONS
    )
    save_predictions(predictions, folder / runs.PREDICTIONS)
    write_json(folder / runs.EVALUATION, to_json(evaluation))
    write_run_report(folder, splits, classifier, predictions, evaluation)
    return Result(classifier, predictions, evaluation)


def first_classifier(
    request: Request, progress: Progress | None = None
) -> tuple[Splits, Classifier]:
    """The images of a request and its classifier before training.

    For a pretrained net the images have the size that it sees, and what was done stands in the
    notes of the splits. Raises DataError when there is nothing to train on.
    """
    recipe = request.recipe
    splits = load_splits(
        request.source,
        recipe.data if recipe.model.pretrained is None else data_settings(request.source, recipe),
        data_dir=request.data_dir,
        offline=request.offline,
        progress=progress,
    )
    _require_trainable(splits)
    if recipe.model.pretrained is None:
        return splits, untrained_classifier(recipe.model, splits, seed=recipe.train.seed)
    adapted = adapted_classifier(recipe, splits, offline=request.offline, progress=progress)
    return replace(splits, notes=(*splits.notes, *adapted.notes)), adapted.classifier


def write_start(request: Request, splits: Splits) -> None:
    """Write recipe.toml and environment.json, or check them when a run goes on.

    Raises UsageError when the folder holds something else or another recipe, DataError when the
    images are others.
    """
    before = _recorded(request)
    record = _record(request, splits, choose_device(request.recipe.train.device))
    if before is not None:
        _require_same_data(before, record, request)
        return
    write_text(request.out / runs.RECIPE, to_toml(request.recipe))
    write_json(request.out / runs.ENVIRONMENT, record)


def setup_of(experiment: Experiment) -> TrainingSetup:
    """What the training loop needs."""
    setup = make_setup(experiment.request.recipe, experiment.splits, experiment.classifier)
    return replace(setup, settings=experiment.settings)


def _snapshots(experiment: Experiment) -> Callable[[], None]:
    """What is to be done after each epoch: nothing unless snapshots were asked for."""
    from glasshouse.workflow.train.snapshots import fixed_images, snapshot_count, take_snapshot

    folder, state = experiment.folder, experiment.state
    count = snapshot_count(folder, experiment.request.snapshots)
    if not count:
        return lambda: None
    images = fixed_images(experiment.splits.validation, count)
    classifier = experiment.classifier
    return lambda: take_snapshot(folder, state, classifier, images)


def make_setup(recipe: Recipe, splits: Splits, classifier: Classifier) -> TrainingSetup:
    """What the training loop needs, with the settings as they stand in the recipe."""
    return TrainingSetup(
        train=splits.train,
        validation=splits.validation,
        preprocessing=classifier.preprocessing,
        settings=recipe.train,
        augment=recipe.augment,
        class_weights=class_weights_of(recipe.train, splits),
    )


def _recorded(request: Request) -> dict[str, Any] | None:
    """The record of the run to go on with, or None for a new one."""
    out = request.out
    if not request.resume:
        if out.exists() and any(out.iterdir()):
            raise UsageError(
                f"{out} is not empty. Go on with it by --resume, or name another folder with --out."
            )
        return None
    if not out.exists() or not _has_begun(out):
        return None  # killed before anything was trained: resuming means starting
    run = runs.read_run(out)
    if run.recipe != request.recipe:
        raise UsageError(f"{out} was started with another recipe: {_difference(run, request)}")
    return run.environment


def _has_begun(out: Path) -> bool:
    """False when a kill left no more in the folder than parts of the first two files."""
    first = (runs.RECIPE, runs.ENVIRONMENT)
    parts = tuple(f".{name}." for name in first)  # what an atomic write leaves when killed
    names = {path.name for path in out.iterdir() if not path.name.startswith(parts)}
    return not names <= {runs.RECIPE}


def _difference(run: runs.Run, request: Request) -> str:
    before, now = run.recipe.model_dump(mode="json"), request.recipe.model_dump(mode="json")
    changed = [
        f"{section}.{key} was {before[section].get(key)!r} and is now {value!r}"
        for section in ("data", "augment", "model", "train", "transfer")
        for key, value in now[section].items()
        if before[section].get(key) != value
    ]
    return "; ".join(changed or [f"{run.recipe.name} and now {request.recipe.name}"])


def _require_trainable(splits: Splits) -> None:
    for name, part in (("train", splits.train), ("validation", splits.validation)):
        if len(part) == 0:
            raise DataError(f"the {name} split has no images: add some, or change data.*_fraction")


def _require_same_data(before: dict[str, Any], now: dict[str, Any], request: Request) -> None:
    if before["data"]["fingerprint"] != now["data"]["fingerprint"]:
        raise DataError(
            f"the images of {request.source} are not those that {request.out} was started with "
            f"({before['data']['source']}). Bring them back, or train into another folder."
        )


def _record(request: Request, splits: Splits, device: torch.device) -> dict[str, Any]:
    precision = choose_precision(request.recipe.train, device)
    return {
        **describe_environment(device, precision),
        "command": request.command,
        **({} if request.budget is None else {"budget": request.budget}),
        "data": {
            "source": request.source,
            "fingerprint": fingerprint(splits),
            "images": {
                "train": len(splits.train),
                "validation": len(splits.validation),
                "test": len(splits.test),
            },
            "class_names": list(splits.class_names),
            "size": [splits.train.height, splits.train.width],
            "notes": list(splits.notes),
            "bad_files": [asdict(bad) for bad in splits.bad_files],
        },
    }


def _write_metrics(state: TrainingState, folder: Path) -> None:
    # Written whole each time, from the state: a resumed run leaves no line twice.
    lines = [json.dumps(asdict(epoch)) + "\n" for epoch in state.history]
    write_text(folder / runs.METRICS, "".join(lines))


def _interrupted_message(experiment: Experiment) -> str:
    state = experiment.state
    return (
        f"stopped in epoch {state.epoch + 1}, step {state.step}; everything is saved. "
        f"Go on with: glasshouse train {experiment.request.source} "
        f"--out {experiment.folder} --resume"
    )
