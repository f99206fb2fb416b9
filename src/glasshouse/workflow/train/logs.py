"""Copies of a run's metrics for TensorBoard and MLflow; the run folder stays authoritative.

The only file that knows the two libraries. Both consume Epoch records like any other loop.
"""

import contextlib
import importlib
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from glasshouse.errors import GlasshouseWarning, Interrupted
from glasshouse.evaluation.evaluation import AnyEvaluation
from glasshouse.evaluation.multi_label import MultiLabelEvaluation
from glasshouse.runs import folder as runs
from glasshouse.storage import read_json, write_json
from glasshouse.training.loop import Step
from glasshouse.training.state import Epoch
from glasshouse.workflow.train.experiment import TrainRequest
from glasshouse.workflow.train.log_names import LogName

_PANELS = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "learning rate": "lr",
    "images per second": "images_per_second",
}
_LONGEST_PARAMETER = 500
Result = TypeVar("Result")


@dataclass(frozen=True)
class Log:
    """Receives metrics: epoch is called after each epoch, result once at the end."""

    epoch: Callable[[Epoch], None]
    result: Callable[[AnyEvaluation], None]


@contextmanager
def open_logs(
    names: Sequence[LogName], request: TrainRequest, history: Sequence[Epoch]
) -> Iterator[Log]:
    """One log that feeds all the named ones; history: the earlier epochs of a resumed run.

    One that cannot be opened or written to is left out from then on, with a GlasshouseWarning:
    copies never stop a training run.
    """
    with ExitStack() as stack:
        logs = [stack.enter_context(_harmless(name, request, history)) for name in names]

        def epoch(record: Epoch) -> None:
            for log in logs:
                log.epoch(record)

        def result(evaluation: AnyEvaluation) -> None:
            for log in logs:
                log.result(evaluation)

        yield Log(epoch, result)


def logged(records: Iterable[Step | Epoch], log: Log) -> Iterator[Step | Epoch]:
    """The same records, with each epoch written to the log on the way."""
    for record in records:
        if isinstance(record, Epoch):
            log.epoch(record)
        yield record


@contextmanager
def _harmless(name: LogName, request: TrainRequest, history: Sequence[Epoch]) -> Iterator[Log]:
    """The named log, which stays silent once anything about it has failed."""
    stack, guard = ExitStack(), _Guard(name)
    log = guard.attempt(lambda: stack.enter_context(_OPEN[name](request, history)))

    def epoch(record: Epoch) -> None:
        if log is not None:
            guard.attempt(lambda: log.epoch(record))

    def result(evaluation: AnyEvaluation) -> None:
        if log is not None:
            guard.attempt(lambda: log.result(evaluation))

    try:
        yield Log(epoch, result)
    except BaseException as error:
        # The log learns how the run ended; whatever it says, that error is the one to report.
        with contextlib.suppress(BaseException):
            stack.__exit__(type(error), error, error.__traceback__)
        raise
    guard.attempt(stack.close, again=True)


@dataclass
class _Guard:
    """Runs actions until one fails; of those that are run again, it says nothing."""

    name: str
    has_failed: bool = False

    def attempt(self, action: Callable[[], Result], *, again: bool = False) -> Result | None:
        if self.has_failed and not again:
            return None
        try:
            return action()
        except Exception as error:
            if self.has_failed:
                return None
            self.has_failed = True
            reason = " ".join(str(error).split())[:_LONGEST_PARAMETER] or type(error).__name__
            warnings.warn(
                f"metrics are no longer copied to {self.name}: {reason}. Training continues",
                GlasshouseWarning,
                stacklevel=3,
            )
            return None


@contextmanager
def _tensorboard(request: TrainRequest, history: Sequence[Epoch]) -> Iterator[Log]:
    """An event file in RUN/tensorboard, rewritten by a resumed run: no gap, no epoch twice.

    purge_step would only hide what comes after the resumed epoch, and an epoch whose checkpoint
    was saved just before a kill would be missing.
    """
    folder = request.out / runs.TENSORBOARD
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(folder))
    last = [0]

    def write(values: Mapping[str, float], step: int) -> None:
        last[0] = step
        for tag, value in values.items():
            writer.add_scalar(tag, value, step)
        writer.flush()

    def epoch(record: Epoch) -> None:
        write({tag: getattr(record, name) for tag, name in _PANELS.items()}, record.epoch)

    def result(evaluation: AnyEvaluation) -> None:
        write({f"test/{name}": value for name, value in _metrics(evaluation).items()}, last[0])

    try:
        for record in history:
            epoch(record)
        yield Log(epoch, result)
    finally:
        writer.close()


@contextmanager
def _mlflow(request: TrainRequest, history: Sequence[Epoch]) -> Iterator[Log]:
    """A run in MLflow's store (MLFLOW_TRACKING_URI, or mlflow.db here), continued on resuming."""
    # MLflow sends usage statistics unless told otherwise; Glasshouse contacts no host unasked.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # Its own values, 120 s and 7 attempts, would hold up training for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    entities = importlib.import_module("mlflow.entities")
    client = importlib.import_module("mlflow.tracking").MlflowClient()
    run = _mlflow_run(client, request)

    def write(values: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        metrics = [entities.Metric(name, value, now, step) for name, value in values.items()]
        client.log_batch(run, metrics=metrics)

    def epoch(record: Epoch) -> None:
        values = asdict(record)
        write(values, values.pop("epoch"))

    def result(evaluation: AnyEvaluation) -> None:
        write({f"test_{name}": value for name, value in _metrics(evaluation).items()}, 0)
        client.log_artifact(run, str(request.out / runs.REPORT))

    client.log_batch(run, params=[entities.Param(*pair) for pair in _parameters(request)])
    written = {metric.step for metric in client.get_metric_history(run, "train_loss")}
    for record in history:
        if record.epoch not in written:
            epoch(record)
    with _status_on_exit(client, run):
        yield Log(epoch, result)


_OPEN: dict[
    LogName, Callable[[TrainRequest, Sequence[Epoch]], AbstractContextManager[Log]]
] = {"tensorboard": _tensorboard, "mlflow": _mlflow}  # fmt: skip


def _mlflow_run(client: Any, request: TrainRequest) -> str:
    """The id of the run in MLflow: the recorded one, or a new one."""
    path = request.out / runs.MLFLOW
    if path.is_file():
        run = str(read_json(path)["run_id"])
        client.update_run(run, "RUNNING")
        return run
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "glasshouse")
    experiment = client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else client.create_experiment(name)
    tags = {"source": request.source, "command": request.command, "folder": str(request.out)}
    run = str(client.create_run(number, run_name=request.out.name, tags=tags).info.run_id)
    write_json(path, {"run_id": run, "tracking_uri": client.tracking_uri})
    return run


@contextmanager
def _status_on_exit(client: Any, run: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        client.set_terminated(run, "KILLED" if stopped else "FAILED")
        raise
    client.set_terminated(run, "FINISHED")


def _metrics(evaluation: AnyEvaluation) -> dict[str, float]:
    accuracy = evaluation.accuracy
    several = {}
    if isinstance(evaluation, MultiLabelEvaluation):
        several = {
            "mean_average_precision": evaluation.mean_average_precision.value,
            "macro_f1": evaluation.macro_f1.value,
        }
    return {
        **several,
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "loss": evaluation.calibrated_loss,
        "calibration_error": evaluation.after.ece,
    }


def _parameters(request: TrainRequest) -> Iterator[tuple[str, str]]:
    """Every recipe key by its dotted name; long values, such as layers, are truncated."""
    for section, values in request.recipe.model_dump(mode="json", exclude_none=True).items():
        pairs = values.items() if isinstance(values, dict) else [("", values)]
        for key, value in pairs:
            yield f"{section}.{key}".rstrip("."), str(value)[:_LONGEST_PARAMETER]
