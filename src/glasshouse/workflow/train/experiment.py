"""From a recipe to a run folder with a report, in three verbs: open, fit, finish."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from glasshouse.data.images import Splits
from glasshouse.data.sources import fingerprint, load_splits
from glasshouse.data.targets import is_matrix
from glasshouse.errors import DataError, Interrupted
from glasshouse.models.classifier import Classifier
from glasshouse.models.devices import choose_device
from glasshouse.models.freezing import unfreeze
from glasshouse.models.predict import Predictions
from glasshouse.models.zoo import require_weights
from glasshouse.progress import Progress
from glasshouse.recipe import to_toml
from glasshouse.runs import folder as runs, holding
from glasshouse.runs.failure import clear_failure
from glasshouse.settings import Recipe, TrainSettings
from glasshouse.storage import remove_unfinished, write_json, write_text
from glasshouse.training.common_signal import common_signal
from glasshouse.training.fit import class_weights_of
from glasshouse.training.loop import Step, TrainingSetup
from glasshouse.training.operations import training_flop
from glasshouse.training.precision import choose_precision
from glasshouse.training.process_agreement import require_alike, require_same_weights, share_state
from glasshouse.training.process_group import current_group
from glasshouse.training.repeatable import threads_of
from glasshouse.training.state import (
    Epoch,
    TrainingState,
    final_net,
    load_checkpoint,
    save_checkpoint,
)
from glasshouse.training.thread_choice import ThreadChoice, choose_threads, with_threads
from glasshouse.training.transfer import begin_transfer, starting_net, train_transfer
from glasshouse.workflow.train.conclusion import Result as Result, conclude, dealt_predictions
from glasshouse.workflow.train.environment import describe_environment
from glasshouse.workflow.train.kept_epochs import keep_epoch
from glasshouse.workflow.train.learning_rate import FoundRate, find_rate_of_run, write_found_rate
from glasshouse.workflow.train.more_epochs import add_epochs, require_same_recipe
from glasshouse.workflow.train.pretrained_setup import adapted_classifier, data_settings, untrained
from glasshouse.workflow.train.reporting import write_cost
from glasshouse.workflow.train.request import (
    TrainRequest as TrainRequest,
    as_started,
    options_of,
    origin_of,
    resume_command_of,
)
from glasshouse.workflow.train.snapshots import fixed_images, snapshot_count, take_snapshot
from glasshouse.workflow.train.step_log import recorded
from glasshouse.workflow.use.source_check import require_no_errors


@dataclass(frozen=True)
class Experiment:
    """An open run: its data, its untrained classifier and the state of training.

    settings: those of the recipe, with the learning rate and the threads that were found where it
    says "auto". resumed_epochs: how many epochs were complete when the run was opened.
    """

    request: TrainRequest
    splits: Splits
    classifier: Classifier
    state: TrainingState
    resumed_epochs: int
    settings: TrainSettings
    threads: ThreadChoice
    found_rate: FoundRate | None = None

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.request.out


def open_experiment(request: TrainRequest, progress: Progress | None = None) -> Experiment:
    """Load the images, build the classifier and write recipe.toml and environment.json.

    The first of three verbs; nothing is trained yet, except that a recipe with
    ``train.lr = "auto"`` runs its range test here. With ``request.resume``, a run in the folder
    continues from its newest intact checkpoint and ends with the bytes of an uninterrupted run,
    also with a larger ``train.epochs`` than before where the schedule allows for it.

    request: what to train and where. progress: called with (what, done, total) while images are
    read.

    Raises UsageError when the folder holds anything else, a run with another recipe, or a run and
    ``resume`` is False; DataError when the images are not those that the run started with, or have
    errors that would invalidate its metrics (``data.on_finding = "ignore"`` trains anyway); and
    NoUsableRate when the range test finds no learning rate.
    """
    try:
        return _opened(request, progress)
    except BaseException:
        holding.release(request.out)
        raise


def _opened(request: TrainRequest, progress: Progress | None) -> Experiment:
    before = claim_run(request)
    request = as_started(request, before)
    splits, classifier = first_classifier(request, progress)
    require_no_errors(splits, request.recipe.data)
    # Other processes have waited until here, and then find the images in the cache.
    request = current_group().told(request)
    experiment = begin_experiment(request, splits, classifier, progress)
    write_start(request, splits, before, experiment.threads)
    if before is not None:
        load_checkpoint(experiment.state, request.out / runs.CHECKPOINTS)
        if before.recipe != request.recipe:
            add_epochs(request.out, request.recipe)
    if experiment.found_rate is not None:
        write_found_rate(experiment.found_rate, request.out)
    share_state(experiment.state, current_group())
    return replace(experiment, resumed_epochs=experiment.state.epoch)


def begin_experiment(
    request: TrainRequest,
    splits: Splits,
    classifier: Classifier,
    progress: Progress | None = None,
) -> Experiment:
    """A new experiment with its images and its untrained classifier, in every process.

    Raises NoUsableRate when the range test finds no learning rate, and ProcessError when the
    processes of a group do not compute the same.
    """
    recipe = request.recipe
    setup = replace(make_setup(recipe, splits, classifier), group=current_group())
    device = choose_device(recipe.train.device)
    if setup.group.size > 1:
        net = starting_net(classifier.net, recipe.transfer, recipe.train.epochs)
        require_alike(net.to(device), setup, fingerprint(splits))
    threads = _threads_of_run(request, setup, classifier)
    settings = with_threads(recipe.train, threads)
    setup = replace(setup, settings=settings)
    found = None
    if settings.lr == "auto":
        net = starting_net(classifier.net, recipe.transfer, settings.epochs)
        found = find_rate_of_run(net, setup, request.out, progress)
        settings = found.settings
    state = begin_transfer(classifier.net, settings, recipe.transfer, device)
    return Experiment(request, splits, classifier, state, 0, settings, threads, found)


def _threads_of_run(
    request: TrainRequest, setup: TrainingSetup, classifier: Classifier
) -> ThreadChoice:
    """As many threads as the run had that is resumed or repeated; else those measured here."""
    if request.threads is not None and setup.settings.threads == "auto":
        return ThreadChoice(request.threads)
    transfer, device = request.recipe.transfer, choose_device(setup.settings.device)
    return choose_threads(
        lambda settings: begin_transfer(classifier.net, settings, transfer, device), setup
    )


def fit_experiment(
    experiment: Experiment, signal_received: Callable[[], int | None] = lambda: None
) -> Iterator[Step | Epoch]:
    """Train to the last epoch, yielding a ``Step`` after each update and an ``Epoch`` after each.

    The second verb, and a generator: nothing happens until it is iterated, and progress bars or
    early exits are ordinary for-loops around it::

        for record in fit_experiment(experiment):
            if isinstance(record, Epoch):
                print(record.epoch, record.validation_accuracy)

    After each epoch the run folder has a checkpoint, a line in metrics.jsonl, and snapshots and
    kept weights where requested. ``experiment.state`` advances in place. Leaving the loop early
    loses the steps since the last checkpoint and nothing else.

    signal_received: asked in every step; once it returns a signal number, which it goes on to do,
    the state is saved and Interrupted is raised with that number (in several processes on GPUs,
    within about a second). Raises DivergedError, naming the images, when the loss is not finite,
    GpuMemoryError when the memory of the GPU is full, and StorageError when the disk is full.
    """
    try:
        yield from _fitted(experiment, signal_received)
    except BaseException as error:
        # Also when the loop around it was left early: the run may be resumed by another process.
        holding.release(experiment.folder, error)
        raise


def _fitted(
    experiment: Experiment, signal_received: Callable[[], int | None]
) -> Iterator[Step | Epoch]:
    state, folder = experiment.state, experiment.folder
    holding.hold(folder)
    transfer = experiment.request.recipe.transfer
    explain_now = _snapshots(experiment)
    if state.epoch == state.step == 0:
        explain_now()
    records = train_transfer(state, setup_of(experiment, signal_received), transfer)
    for record in recorded(records, state, experiment.settings.epochs, folder):
        if isinstance(record, Epoch):
            # Before the checkpoint: a kill in between repeats the epoch, and so keeps it again.
            keep_epoch(state, folder, experiment.settings.keep_every)
            _save(state, folder)
            _write_metrics(state, folder)
            explain_now()
        yield record
        if number := common_signal(record, current_group(), signal_received):
            _save(state, folder)
            raise Interrupted(_interrupted_message(experiment), number)


def _save(state: TrainingState, folder: Path) -> None:
    require_same_weights(state, current_group())
    save_checkpoint(state, folder / runs.CHECKPOINTS)


def finish_experiment(experiment: Experiment) -> Result:
    """Calibrate, evaluate on the test split once, and write the model, metrics and report.

    The third verb. The weights are those of the best epoch with ``train.keep = "best"``, else
    their moving average where there is one, else the last. The temperature is fitted on the
    validation split, unless ``data.train_on_validation`` made it part of the training images.
    Returns the calibrated classifier, its test predictions and their evaluation.
    """
    _write_metrics(experiment.state, experiment.folder)
    trained, measured = measure(experiment)
    splits = experiment.splits
    calibrate = not experiment.request.recipe.data.train_on_validation
    transfer = experiment.request.recipe.transfer
    flop = training_flop(experiment.state, experiment.settings, transfer, splits.train)
    write_cost(experiment.folder, flop)
    return conclude(experiment.folder, splits, trained, measured, calibrate=calibrate)


def measure(experiment: Experiment) -> tuple[Classifier, tuple[Predictions, Predictions]]:
    """The trained classifier, and its predictions on the validation and test splits.

    The processes of a group each compute a part of them.
    """
    net = final_net(experiment.state)
    unfreeze(net)
    trained = replace(experiment.classifier, net=net.eval())
    splits, group = experiment.splits, current_group()
    with threads_of(experiment.settings):
        validation = dealt_predictions(trained, splits.validation, group)
        return trained, (validation, dealt_predictions(trained, splits.test, group))


def first_classifier(
    request: TrainRequest, progress: Progress | None = None
) -> tuple[Splits, Classifier]:
    """The images of a request and its untrained classifier.

    Images for a pretrained network have the size that it expects, and the notes of the splits say
    how it was adapted. Raises DataError when there is nothing to train on, and ModelError, before
    any image is read, when its weights cannot be had.
    """
    recipe = request.recipe
    if recipe.model.pretrained is not None:
        require_weights(recipe.model.pretrained, offline=request.offline)
    splits = load_splits(
        request.source,
        recipe.data if recipe.model.pretrained is None else data_settings(request.source, recipe),
        data_dir=request.data_dir,
        offline=request.offline,
        progress=progress,
    )
    for name, split in (("train", splits.train), ("validation", splits.validation)):
        if len(split) == 0:
            raise DataError(f"the {name} split has no images: add some, or change data.*_fraction")
    if recipe.model.pretrained is None:
        return splits, untrained(request, splits)
    adapted = adapted_classifier(recipe, splits, offline=request.offline, progress=progress)
    return replace(splits, notes=(*splits.notes, *adapted.notes)), adapted.classifier


def claim_run(request: TrainRequest) -> runs.Run | None:
    """Hold the run folder; returns the earlier run that a request resumes, or None for a new one.

    Raises UsageError when another process trains into the folder, or when the folder holds
    anything else or was started with another recipe, unless that only has fewer epochs of a
    schedule that allows for more.
    """
    holding.hold(request.out)
    run = runs.claim(request.out, resume=request.resume)
    # Not before: a folder that is not a run's is none of ours to tidy.
    remove_unfinished(request.out)
    if run is not None:
        require_same_recipe(run, request)
    return run


def write_start(
    request: TrainRequest, splits: Splits, before: runs.Run | None, threads: ThreadChoice
) -> None:
    """Write recipe.toml and environment.json, or check the images of a resumed run.

    before: the answer of ``claim_run``. threads: that the run trains with. Raises DataError when a
    resumed run had other images.
    """
    record = _record(request, splits, threads)
    if before is None:
        write_text(request.out / runs.RECIPE, to_toml(request.recipe))
        write_json(request.out / runs.ENVIRONMENT, record)
    elif before.environment["data"]["fingerprint"] != record["data"]["fingerprint"]:
        raise DataError(
            f"the images of {request.source} are not those that {request.out} was started with "
            f"({before.source}). Restore them, or train into another folder."
        )
    clear_failure(request.out)


def setup_of(experiment: Experiment, signal_received: Callable[[], int | None]) -> TrainingSetup:
    """What the training loop needs, with the learning rate that is really used."""
    setup = make_setup(experiment.request.recipe, experiment.splits, experiment.classifier)
    return replace(
        setup,
        settings=experiment.settings,
        group=current_group(),
        is_asked_to_stop=lambda: signal_received() is not None,
    )


def make_setup(recipe: Recipe, splits: Splits, classifier: Classifier) -> TrainingSetup:
    """What the training loop needs, with the settings of the recipe unchanged."""
    return TrainingSetup(
        train=splits.train,
        validation=splits.validation,
        preprocessing=classifier.preprocessing,
        settings=recipe.train,
        augment=recipe.augment,
        class_weights=class_weights_of(recipe.train, splits),
    )


def _snapshots(experiment: Experiment) -> Callable[[], None]:
    """What to do after each epoch: nothing unless snapshots were requested."""
    folder, state = experiment.folder, experiment.state
    count = snapshot_count(folder, experiment.request.snapshots)
    if not count:
        return lambda: None
    images = fixed_images(experiment.splits.validation, count)
    classifier = experiment.classifier
    return lambda: take_snapshot(folder, state, classifier, images)


def _record(request: TrainRequest, splits: Splits, threads: ThreadChoice) -> dict[str, Any]:
    device = choose_device(request.recipe.train.device)
    precision = choose_precision(request.recipe.train, device)
    return {
        **describe_environment(device, precision, threads),
        "command": request.command,
        "options": options_of(request),
        **({} if request.budget is None else {"budget": request.budget}),
        "data": {
            **origin_of(request),
            "fingerprint": fingerprint(splits),
            "images": {
                "train": len(splits.train),
                "validation": len(splits.validation),
                "test": len(splits.test),
            },
            "class_names": list(splits.class_names),
            "several_labels": is_matrix(splits.train.targets),
            "size": [splits.train.height, splits.train.width],
            "notes": list(splits.notes),
            "bad_files": [asdict(bad) for bad in splits.bad_files],
        },
    }


def _write_metrics(state: TrainingState, folder: Path) -> None:
    # Rewritten from the state each time, so that a resumed run has no line twice.
    lines = [json.dumps(asdict(epoch)) + "\n" for epoch in state.history]
    write_text(folder / runs.METRICS, "".join(lines))


def _interrupted_message(experiment: Experiment) -> str:
    state = experiment.state
    return (
        f"stopped in epoch {state.epoch + 1}, step {state.step}; everything is saved. "
        f"Resume with: {resume_command_of(experiment.request)}"
    )
