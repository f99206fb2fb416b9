"""What is said of a run before it is trained."""

from collections.abc import Iterator

from glasshouse.data.batches import step_count
from glasshouse.data.class_names import are_characters
from glasshouse.data.images import Splits
from glasshouse.models.argument_hints import is_warned_of
from glasshouse.training.thread_choice import describe_threads
from glasshouse.wording import pluralize
from glasshouse.workflow.train.experiment import Experiment
from glasshouse.workflow.train.learning_rate import describe_found_rate

_FEW_UPDATES = 100


def what_was_read(splits: Splits) -> Iterator[str]:
    """A line for each note on the images, and for each file that was left out."""
    for note in splits.notes:
        if not is_warned_of(note):
            yield f"note: {note}"
    for bad in splits.bad_files:
        yield f"skipped {bad.path}: {bad.reason}"


def what_will_be_done(experiment: Experiment, where: str = "") -> Iterator[str]:
    """Lines on the images, the network and how it is trained; where: begins that of the network."""
    splits, recipe = experiment.splits, experiment.request.recipe
    yield from what_was_read(splits)
    parameters = sum(p.numel() for p in experiment.classifier.net.parameters())
    yield (
        f"{where}recipe {recipe.name}, {parameters:,} parameters, "
        f"{len(splits.class_names)} classes, {len(splits.train):,} training, "
        f"{len(splits.validation):,} validation and {len(splits.test):,} test images of "
        f"{splits.train.width}x{splits.train.height}"
    )
    train = recipe.train
    updates = train.epochs * step_count(len(splits.train), train.batch_size, train.shards)
    if updates < _FEW_UPDATES:
        yield (
            f"note: {pluralize(updates, 'update')} in all is too few to learn much; for a small "
            "data set, raise train.epochs or lower train.batch_size with --set"
        )
    if recipe.augment.horizontal_flip and are_characters(splits.class_names):
        yield (
            "note: half of the images are mirrored in each epoch; if the classes are digits or "
            "letters, as their names suggest, use --set augment.horizontal_flip=false"
        )
    if experiment.found_rate is not None:
        yield f"learning rate {describe_found_rate(experiment.found_rate)}"
    if experiment.threads.is_reduced:
        yield describe_threads(experiment.threads)
    if experiment.resumed_epochs:
        yield f"resuming after epoch {experiment.resumed_epochs}"
