"""Numbers as people read them, and addresses of pages."""

from datetime import datetime
from urllib.parse import quote, urlencode

from glasshouse.wording import ACCURACY, ALL_LABELS_RIGHT, PRECISION, percentage

_SHORT = {PRECISION: "mAP"}


def epoch_accuracy(metric: str) -> str:
    """What the accuracy of an epoch is, in a run that is judged by this metric."""
    return (ALL_LABELS_RIGHT if metric == PRECISION else ACCURACY).capitalize()


def percent(share: float | None, digits: int = 2) -> str:
    """A share (0 to 1) in percent; a dash when there is none."""
    return "–" if share is None else percentage(share, digits)


def score_text(metric: str, value: float | None) -> str:
    """A test metric by its name in the records: an accuracy in percent, another with its name."""
    if value is None or metric == ACCURACY:
        return percent(value)
    return f"{value:.3f} {_SHORT[metric]}"


def score_interval(metric: str, low: float, high: float) -> str:
    """The confidence interval of a test metric, in the units of its value."""
    if metric == ACCURACY:
        return f"{100 * low:.1f} – {100 * high:.1f}"
    return f"{low:.3f} – {high:.3f}"


def rate(lr: float) -> str:
    """A learning rate as people write it."""
    return f"{lr:.3g}"


def moment(iso: str) -> str:
    """An ISO timestamp in local time, to the minute; empty when it is invalid."""
    try:
        return datetime.fromisoformat(iso).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return ""


def run_address(name: str) -> str:
    """The page of a run."""
    return f"/run/{quote(name)}"


def compare_address(names: list[str]) -> str:
    """The page that compares these runs."""
    return f"/compare?{urlencode([('run', name) for name in names])}"
