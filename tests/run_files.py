"""Small files of a run with everything that a run of the real command writes and we read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def environment(source: str = "digits", started: str = "2026-11-01T00:00:00+00:00") -> Any:
    """environment.json."""
    return {
        "versions": {"python": "3.11"}, "system": "Linux", "processor": "a", "cores": 1,
        "threads": 1, "device": "cpu", "precision": "float32", "started": started,
        "command": f"glasshouse train {source}",
        "data": {
            "source": source, "fingerprint": "f", "class_names": ["a", "b"], "size": [8, 8],
            "images": {"train": 8, "validation": 4, "test": 4}, "notes": [], "bad_files": [],
        },
    }  # fmt: skip


def epoch_line(epoch: int, **other: float) -> dict[str, float]:
    """One line of metrics.jsonl."""
    return {
        "epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 0.5,
        "validation_loss": 2 / epoch, "validation_accuracy": 0.5, "lr": 0.1, "seconds": 2.0,
        "images_per_second": 9.0, **other,
    }  # fmt: skip


def evaluation(value: float, low: float, high: float) -> Any:
    """evaluation.json."""
    return {
        "image_count": 4, "class_names": ["a", "b"],
        "accuracy": {"value": value, "low": low, "high": high}, "top_k": [], "loss": 1.0,
        "confusion": [[2, 0], [1, 1]], "before": {"loss": 1.0},
    }  # fmt: skip


def write_lines(path: Path, lines: list[dict[str, float]]) -> None:
    """A file of JSON lines."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


@contextmanager
def without_reports() -> Iterator[None]:
    """Let trainings write an empty report and no plots, which take nearly all of a short one."""

    def finish(run: Path, *_: object) -> None:
        (run / "report.html").write_text("<!DOCTYPE html><title>a run</title>", encoding="utf-8")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glasshouse.workflow.train.conclusion.write_run_report", finish)
        yield
