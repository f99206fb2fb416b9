"""Progress on standard error while images are read and a network is trained."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from glasshouse.cli.progress_bars import data_progress, show_training
from glasshouse.training.loop import Step
from glasshouse.training.state import Epoch


def test_the_time_left_does_not_count_what_was_done_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("glasshouse.cli.progress_bars.time", clock)
    with data_progress() as progress:
        progress.last_line = now[0]
        # 500 were done before; the next 100 take ten seconds, so the last 400 will take forty.
        progress("features", 500, 1000)
        now[0] += 10
        progress("features", 600, 1000)
        now[0] += 40
        progress("features", 1000, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["features: 600 of 1,000, 40 s left", "features: 1,000 of 1,000"]


def test_training_shows_images_per_second_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(
        "glasshouse.cli.progress_bars.time", SimpleNamespace(monotonic=lambda: now[0])
    )

    def records() -> Iterator[Step | Epoch]:
        for step in range(1, 5):  # four steps of 50 images, six seconds apart
            yield Step(1, step, 4, 50 * step, 0.1)
            now[0] += 6
        yield Epoch(1, 0.5, 0.75, 0.4, 0.8, 0.1, 24.0, 8.3)

    show_training(records(), 3)
    lines = capsys.readouterr().err.splitlines()
    # After three steps: 150 images in 12 s, and nine of the twelve steps left at 6 s each.
    assert lines[0] == "  epoch 1/3  12 images/s  54 s left"
    assert lines[1].startswith("epoch 1/3  train loss 0.500 acc 75.00%  val loss 0.400 acc 80.00%")
    assert lines[1].endswith("24.0 s  8 images/s")
