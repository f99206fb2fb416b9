"""The learning rate of a run with ``train.lr = "auto"``, and its record."""

import time
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from glasshouse.progress import Progress
from glasshouse.report.encoding import figure_png
from glasshouse.report.finder_plots import plot_lr_curve
from glasshouse.runs.folder import FINDER
from glasshouse.runs.records import FinderFile, read_run_file
from glasshouse.settings import TrainSettings
from glasshouse.storage import write_bytes, write_json
from glasshouse.training.finder import find_lr, with_found_rate
from glasshouse.training.loop import TrainingSetup
from glasshouse.training.lr_curve import LrCurve, curve_from_json, curve_to_json


@dataclass(frozen=True)
class FoundRate:
    """What a range test found for a run, and the settings with the learning rate that is used."""

    curve: LrCurve
    settings: TrainSettings
    seconds: float


def find_rate_of_run(
    net: nn.Module, setup: TrainingSetup, folder: Path, progress: Progress | None = None
) -> FoundRate:
    """The learning rate for ``train.lr = "auto"``: the recorded one, or a new range test.

    A resumed run keeps its learning rate, and so ends with the same bytes. Raises NoUsableRate
    when the loss has no usable valley.
    """
    # Only the first of several processes is sure to see the folder.
    recorded = setup.group.told(_recorded(folder))
    if recorded is not None:
        curve, seconds = recorded
    else:
        started = time.perf_counter()
        curve = find_lr(net, setup, progress=progress)
        seconds = time.perf_counter() - started
    return FoundRate(curve, with_found_rate(setup.settings, curve), seconds)


def _recorded(folder: Path) -> tuple[LrCurve, float] | None:
    if not (folder / FINDER).is_file():
        return None
    record = read_run_file(folder / FINDER, FinderFile)
    return curve_from_json(record["curve"]), float(record["seconds"])


def write_found_rate(found: FoundRate, folder: Path) -> None:
    """Write finder.json: the learning rate that is used, why, and the whole curve."""
    record = {
        "lr": found.settings.peak_lr,
        "schedule": found.settings.schedule.model_dump(mode="json"),
        "verdict": found.curve.verdict,
        "seconds": round(found.seconds, 3),
        "curve": curve_to_json(found.curve),
    }
    write_json(folder / FINDER, record)


def describe_found_rate(found: FoundRate) -> str:
    """Which learning rate is used and where it comes from, in one line."""
    peak, schedule = found.settings.peak_lr, found.settings.schedule
    how = f"{peak:.3g}, found by a range test in {found.seconds:.1f} s"
    if schedule.type == "triangular":
        return (
            f"{how}: the maximum of a triangular schedule that starts at {schedule.base * peak:.3g}"
        )
    if schedule.type == "one_cycle":
        return f"{how}: the maximum of a one_cycle schedule"
    return f"{how}: {found.curve.verdict}"


def write_curve_image(curve: LrCurve, path: Path) -> None:
    """Write the curve with its suggestions as a PNG."""
    write_bytes(path, figure_png(plot_lr_curve(curve)))
