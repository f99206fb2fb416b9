"""Progress of a training run: on standard error, in a notebook, and nowhere when nobody looks."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from glasshouse.data.images import Splits
from glasshouse.settings import TrainSettings
from glasshouse.training import watch
from glasshouse.training.fit import train_classifier
from glasshouse.training.loop import Step
from glasshouse.training.state import Epoch
from glasshouse.training.watch import show_training

LAYERS = [{"type": "global_average_pool"}, {"type": "dense", "units": "classes"}]


def test_training_shows_images_per_second_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def records() -> Iterator[Step | Epoch]:
        for step in range(1, 5):  # four steps of 50 images, six seconds apart
            yield Step(1, step, 4, 50 * step, 0.1)
            now[0] += 6
        yield Epoch(1, 0.5, 0.75, 0.4, 0.8, 0.1, 24.0, 8.3)

    show_training(records(), 3)
    lines = capsys.readouterr().err.splitlines()
    # After three steps: 150 images in 12 s, and nine of the twelve steps left at 6 s each.
    assert lines[0] == "  epoch 1/3  12 images/s  54 s left"
    assert lines[1].startswith(
        "epoch 1/3  train loss 0.500 acc 75.00 %  val loss 0.400 acc 80.00 %"
    )
    assert lines[1].endswith("24.0 s  8 images/s")


class Notebook:
    """What a cell has displayed, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[str] = []
        monkeypatch.setattr(watch, "in_notebook", lambda: True)
        monkeypatch.setattr(watch, "display_in_notebook", self.display)

    def display(self, html: str) -> Callable[[str], None]:
        self.shown.append(html)
        return self.shown.append


def test_a_notebook_has_one_table_that_grows(
    tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = Notebook(monkeypatch)
    monkeypatch.setattr(watch, "_REDRAW_SECONDS", 0)
    _, epochs = train_classifier(LAYERS, tiny_splits, TrainSettings(epochs=3))
    assert len(epochs) == 3
    assert notebook.shown[0] == ""
    assert "<progress value=" in notebook.shown[1] and " images/s · " in notebook.shown[2]
    last = notebook.shown[-1]
    assert last.count("<tr>") == 4 and "<progress" not in last
    assert f"<td>{100 * epochs[-1].validation_accuracy:.2f} %</td>" in last
    assert capsys.readouterr() == ("", "")


def test_nothing_is_shown_where_nobody_looks_and_the_result_is_the_same(
    tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def weights(*, progress: bool) -> bytes:
        settings = TrainSettings(epochs=2, device="cpu")
        classifier, _ = train_classifier(LAYERS, tiny_splits, settings, progress=progress)
        return b"".join(v.numpy().tobytes() for v in classifier.net.state_dict().values())

    quiet = weights(progress=True)
    assert capsys.readouterr() == ("", "")
    notebook = Notebook(monkeypatch)
    assert weights(progress=False) == quiet and notebook.shown == []
    assert weights(progress=True) == quiet and notebook.shown != []


def test_a_terminal_has_a_line_per_epoch(
    tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("glasshouse.training.fit.is_watched", lambda: True)
    train_classifier(LAYERS, tiny_splits, TrainSettings(epochs=2))
    assert capsys.readouterr().err.count("  val loss ") == 2
