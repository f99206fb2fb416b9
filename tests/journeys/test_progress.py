"""What stands on standard error while pictures are read."""

from types import SimpleNamespace

import pytest

from glasshouse.cli.progress import data_progress


def test_the_time_left_follows_the_pace_and_leaves_out_what_was_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("glasshouse.cli.progress.time", clock)
    with data_progress() as told:
        told.last_line = now[0]
        # 500 were there before; 100 more take ten seconds, so that 400 take forty.
        told("features", 500, 1000)
        now[0] += 10
        told("features", 600, 1000)
        now[0] += 40
        told("features", 1000, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["features: 600 of 1,000, 40 s left", "features: 1,000 of 1,000"]
