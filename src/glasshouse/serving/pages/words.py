"""Numbers as people read them, and addresses of pages."""

from datetime import datetime
from urllib.parse import quote, urlencode


def percent(share: float | None, digits: int = 2) -> str:
    """A share (0 to 1) in percent; a dash when there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def precision(share: float) -> str:
    """A mean average precision (0 to 1) among accuracies."""
    return f"mAP {share:.3f}"


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
