"""TensorBoard and MLflow hold what metrics.jsonl holds, also after a run has gone on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from glasshouse.errors import GlasshouseWarning, Interrupted, UsageError
from glasshouse.evaluation.evaluation import AnyEvaluation, Evaluation, evaluate
from glasshouse.recipe import load_recipe
from glasshouse.runs.folder import MLFLOW, TENSORBOARD
from glasshouse.storage import read_json, write_text
from glasshouse.training.state import Epoch
from glasshouse.workflow.train import logs
from glasshouse.workflow.train.experiment import TrainRequest
from glasshouse.workflow.train.log_names import require_logs
from glasshouse.workflow.train.logs import Log, logged, open_logs
from tests.report.conftest import make_predictions


def make_history(count: int) -> list[Epoch]:
    return [Epoch(n, 2 / n, 1 - 0.5 / n, 3 / n, 0.9 - 0.5 / n, 0.001, 2.5, 1234.5)
            for n in range(1, count + 1)]  # fmt: skip


@pytest.fixture
def request_(tmp_path: Path) -> TrainRequest:
    write_text(tmp_path / "run" / "report.html", "<p>report</p>")
    return TrainRequest("digits", load_recipe("small-cnn"), tmp_path / "run", command="glasshouse")


@pytest.fixture(scope="module")
def figures() -> Evaluation:
    return evaluate(make_predictions())


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An MLflow store of the test's own."""
    mlflow = pytest.importorskip("mlflow")
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    mlflow.set_tracking_uri(None)
    yield address
    for name in set(os.environ) - set(before):
        del os.environ[name]


def test_tensorboard_gets_every_epoch_once_also_after_resuming(
    request_: TrainRequest, figures: Evaluation
) -> None:
    module = "tensorboard.backend.event_processing.event_accumulator"
    reader = pytest.importorskip(module)
    history = make_history(3)
    with open_logs(["tensorboard"], request_, []) as log:
        assert list(logged(history[:2], log)) == history[:2]
    with open_logs(["tensorboard"], request_, history[:2]) as log:
        log.epoch(history[2])
        log.result(figures)
    assert len(list((request_.out / TENSORBOARD).iterdir())) == 1
    events = reader.EventAccumulator(str(request_.out / TENSORBOARD))
    events.Reload()
    seen = [(event.step, event.value) for event in events.Scalars("loss/train")]
    assert seen == [(epoch.epoch, pytest.approx(epoch.train_loss)) for epoch in history]
    (test,) = events.Scalars("test/accuracy")
    assert test.value == pytest.approx(figures.accuracy.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlflow_gets_recipe_metrics_and_report_in_one_run(
    request_: TrainRequest, figures: Evaluation, store: str
) -> None:
    history = make_history(3)
    with pytest.raises(Interrupted), open_logs(["mlflow"], request_, []) as log:
        log.epoch(history[0])
        raise Interrupted("stopped", 2)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)
    run = read_json(request_.out / MLFLOW)["run_id"]
    assert client.get_run(run).info.status == "KILLED"
    with open_logs(["mlflow"], request_, history[:2]) as log:
        log.epoch(history[2])
        log.result(figures)
    assert read_json(request_.out / MLFLOW)["run_id"] == run
    found = client.get_run(run)
    assert found.info.status == "FINISHED"
    assert found.data.params["train.batch_size"] == "32"
    steps = [metric.step for metric in client.get_metric_history(run, "train_loss")]
    assert steps == [1, 2, 3]
    assert found.data.metrics["test_accuracy"] == pytest.approx(figures.accuracy.value)
    assert [file.path for file in client.list_artifacts(run)] == ["report.html"]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


class Broken:
    """A copy that accepts one epoch, and fails from the second on."""

    def __init__(self) -> None:
        self.calls = 0

    def epoch(self, record: Epoch) -> None:
        self.calls += 1
        if self.calls > 1:
            raise OSError("connection reset")

    def result(self, evaluation: AnyEvaluation) -> None:
        raise AssertionError("a copy that has failed is not written to")


def test_a_copy_that_breaks_is_left_out_with_one_warning(
    request_: TrainRequest, figures: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken()

    @contextmanager
    def opened(request: TrainRequest, history: object) -> Iterator[Log]:
        yield Log(broken.epoch, broken.result)
        raise AssertionError("closing fails as well")

    monkeypatch.setitem(logs._OPEN, "tensorboard", opened)
    with (
        pytest.warns(GlasshouseWarning, match="tensorboard: connection reset") as said,
        open_logs(["tensorboard"], request_, []) as log,
    ):
        for record in make_history(4):
            log.epoch(record)
        log.result(figures)
    assert len(said) == 1
    assert broken.calls == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_server_that_nobody_can_reach_costs_a_warning(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    mlflow.set_tracking_uri(None)
    with (
        pytest.warns(GlasshouseWarning, match="no longer copied to mlflow"),
        open_logs(["mlflow"], request_, []) as log,
    ):
        log.epoch(make_history(1)[0])


def test_the_error_of_the_training_is_the_one_that_is_raised(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def opened(request: TrainRequest, history: object) -> Iterator[Log]:
        try:
            yield Log(lambda record: None, lambda evaluation: None)
        finally:
            raise OSError("closing fails")

    monkeypatch.setitem(logs._OPEN, "tensorboard", opened)
    with pytest.raises(Interrupted), open_logs(["tensorboard"], request_, []):
        raise Interrupted("stopped", 2)


def test_unusable_loggers_are_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Did you mean 'tensorboard'"):
        require_logs(["tensorbord"], offline=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'glasshouse\[mlflow\]'"):
        require_logs(["mlflow"], offline=False)
    monkeypatch.undo()
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://example.org")
    with pytest.raises(UsageError, match="MLFLOW_TRACKING_URI names a server"):
        require_logs(["mlflow"], offline=True)
    assert require_logs(["mlflow", "tensorboard"], offline=False) == ("tensorboard", "mlflow")


def test_nothing_is_opened_without_a_logger(request_: TrainRequest) -> None:
    with open_logs([], request_, make_history(2)) as log:
        log.epoch(make_history(1)[0])
    assert sorted(path.name for path in request_.out.iterdir()) == ["report.html"]
