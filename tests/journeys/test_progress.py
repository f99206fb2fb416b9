"""Progress on standard error while images are read."""

from types import SimpleNamespace

import pytest

from glasshouse.cli.progress_bars import data_progress


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
