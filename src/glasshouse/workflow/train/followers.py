"""The other processes of a training: they compute their part of it, and write nothing."""

from collections.abc import Callable

from glasshouse.errors import Interrupted
from glasshouse.training.common_signal import common_signal
from glasshouse.training.process_agreement import require_same_weights, share_state
from glasshouse.training.process_group import ProcessGroup
from glasshouse.training.state import Epoch
from glasshouse.training.transfer import train_transfer
from glasshouse.workflow.train.experiment import (
    Experiment,
    begin_experiment,
    first_classifier,
    measure,
    setup_of,
)
from glasshouse.workflow.train.request import TrainRequest


def follow_runs(group: ProcessGroup, signal_received: Callable[[], int | None]) -> None:
    """Take part in one run after another that the first process opens, until it has no more.

    Raises Interrupted in the step in which the first process does.
    """
    while (request := _next_request(group)) is not None:
        experiment = begin_experiment(request, *first_classifier(request))
        share_state(experiment.state, group)
        _fit(experiment, group, signal_received)
        measure(experiment)


def _next_request(group: ProcessGroup) -> TrainRequest | None:
    nothing: TrainRequest | None = None
    return group.told(nothing)


def _fit(
    experiment: Experiment, group: ProcessGroup, signal_received: Callable[[], int | None]
) -> None:
    state, transfer = experiment.state, experiment.request.recipe.transfer
    for record in train_transfer(state, setup_of(experiment, signal_received), transfer):
        if isinstance(record, Epoch):
            require_same_weights(state, group)
        if number := common_signal(record, group, signal_received):
            require_same_weights(state, group)
            raise Interrupted("the first process has saved everything", number)
