"""Progress of a training run: on standard error, in a notebook, and nowhere when nobody looks."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

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
    # From the first step to the third: 100 images in 12 s. Nine of twelve steps are left, of 6 s.
    assert lines[0] == "  epoch 1/3  8 images/s  54 s left"
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


def epoch(number: int, rate: float = 0.012345) -> Epoch:
    return Epoch(number, 0.51237, 0.98761, 12.3456, 0.5, rate, 71.26, 12345.6)


@pytest.mark.parametrize(
    ("number", "epochs", "start"),
    [
        (3, 9, "epoch 3/9"),
        (3, 10, "epoch  3/10"),
        (10, 10, "epoch 10"),
        (80, 10**9, "epoch 80, until stopped  "),
    ],
)
def test_an_epoch_is_told_in_columns(number: int, epochs: int, start: str) -> None:
    line = watch.epoch_line(epoch(number), epochs)
    assert line.startswith(start)
    assert line.partition("  train")[2] == (
        " loss 0.512 acc 98.76 %  val loss 12.346 acc 50.00 %  lr 0.012  71.3 s  12,346 images/s"
    )


@pytest.mark.parametrize(("count", "first"), [(1, 1), (20, 1), (21, 2), (35, 16)])
def test_the_table_of_a_notebook_has_the_last_twenty_epochs(count: int, first: int) -> None:
    shown = watch._table([epoch(number) for number in range(1, count + 1)], "in work")
    head, *rows = shown.split("<tr><td>")
    assert head.replace("</th>", "").split("<th>")[1:6] == [
        "epoch", "training loss", "training accuracy", "validation loss", "validation accuracy"
    ]  # fmt: skip
    assert [int(row.partition("<")[0]) for row in rows] == list(range(first, count + 1))
    assert rows[-1] == (
        f"{count}</td><td>0.512</td><td>98.76 %</td><td>12.346</td><td>50.00 %</td>"
        "<td>0.012</td><td>71.3</td></tr></tbody></table><div>in work</div>"
    )


def test_a_table_without_rows_or_remarks_is_empty() -> None:
    assert watch._table([], "") == ""
    assert watch._table([], "a < b") == "<div>a < b</div>"
    assert watch._bar(0.25, "epoch 1/4  8 images/s  <3 s left") == (
        '<progress value="0.2500" max="1"></progress> epoch 1/4 · 8 images/s · &lt;3 s left'
    )


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 50.0
        monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_the_pace_is_that_since_the_first_step_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pace = watch._Pace(4)
    # A resumed training, which begins in the second of four epochs.
    first = Step(2, 5, 10, 80, 0.1)
    assert pace.done(first) == 1.5 / 4
    pace.begin(first)
    assert pace.text(first) == "epoch 2/4"
    clock.now += 3
    assert pace.text(first) == "epoch 2/4"  # nothing was gained yet
    # Not every step is seen.
    pace.begin(Step(2, 7, 10, 16 * 7, 0.1))
    # Four steps of 16 images in 3 s; 0.4 of 2.5 epochs are done, so that 15.75 s are left.
    assert pace.text(Step(2, 9, 10, 144, 0.1)) == "epoch 2/4  21 images/s  16 s left"


def test_lines_are_written_every_ten_seconds_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    pace, step = watch._Pace(1), Step(1, 1, 9, 4, 0.1)
    pace.begin(step)
    for is_terminal in (True, False):
        bars: Any = SimpleNamespace(console=SimpleNamespace(is_terminal=is_terminal))
        for now in (59.9, 60.0, 61.0, 69.9, 70.0):
            clock.now = now
            pace.say_now_and_then(bars, step)
        assert capsys.readouterr().err == ("" if is_terminal else "  epoch 1/1\n" * 2)


def test_a_table_is_drawn_four_times_a_second_and_after_each_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, notebook = Clock(monkeypatch), Notebook(monkeypatch)

    def records() -> Iterator[Step | Epoch]:
        for now in (50.2, 50.25, 50.26, 50.5, 50.52, 50.6):
            clock.now = now
            yield Step(1, 1, 2, 4, 0.1)
        yield epoch(1)
        clock.now = 50.76
        yield Step(1, 1, 2, 4, 0.1)
        clock.now = 50.78
        yield Step(1, 1, 2, 4, 0.1)

    show_training(records(), 2)
    drawn = [("<table>" in each, "<progress" in each) for each in notebook.shown]
    assert drawn == [(False, False), (False, True), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize("notebook", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
def test_somebody_looks_at_a_notebook_or_a_terminal(
    monkeypatch: pytest.MonkeyPatch, notebook: bool, terminal: bool
) -> None:
    monkeypatch.setattr(watch, "in_notebook", lambda: notebook)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert watch.is_watched() == (notebook or terminal)
