"""Why a run failed, so that a list of runs and its page can say it later."""

import contextlib
from pathlib import Path

from glasshouse.errors import DivergedError, GlasshouseError, Interrupted
from glasshouse.runs.folder import FAILURE, RECIPE
from glasshouse.storage import write_text

_LONGEST = 4000  # characters of a message that are shown
_DIVERGED = "Diverged: "


def record_failure(folder: Path, error: BaseException) -> None:
    """Write why a run ended; nothing for one that was stopped, left early or never begun."""
    if isinstance(error, Interrupted) or not isinstance(error, Exception):
        return
    named = isinstance(error, GlasshouseError)
    message = str(error) if named else f"{type(error).__name__}: {error}"
    if isinstance(error, DivergedError):
        message = f"{_DIVERGED}{message}"
    # What failed may be the disk; the error itself is reported in any case.
    with contextlib.suppress(OSError, GlasshouseError):
        # A folder without a recipe is no run yet, and has to stay empty for the next attempt.
        if (folder / RECIPE).is_file():
            write_text(folder / FAILURE, message + "\n")


def clear_failure(folder: Path) -> None:
    """Forget the failure of an earlier attempt."""
    with contextlib.suppress(OSError):
        (folder / FAILURE).unlink(missing_ok=True)


def failure_of(folder: Path) -> str:
    """Why the last attempt failed; empty when it did not."""
    try:
        with (folder / FAILURE).open(encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST).strip()
    except OSError:
        return ""


def has_diverged(failure: str) -> bool:
    """Whether this is the failure of a training that diverged: resumed, it would do so again."""
    return failure.startswith(_DIVERGED)
