"""The named errors, each with the exit code that the command line ends with."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class GlasshouseError(Exception):
    """A failure that the user can understand and mend; printed without a traceback."""

    exit_code = 1


class UsageError(GlasshouseError):
    """The command, or an argument of a function, does not fit."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe has an unknown key or a value that does not fit."""


class ModelError(UsageError):
    """A stack of layers cannot be built, or a saved model cannot be loaded."""


class WrongInputSize(ModelError):
    """A net cannot take images of this size."""


class DataError(GlasshouseError):
    """Images, tables or folders are not as they should be."""

    exit_code = 3


class BadImage(DataError):
    """One file that cannot be read as an image, and why."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["BadImage"], tuple[str, str]]:
        # Worker processes send their errors home; the default would lose the two arguments.
        return type(self), (self.path, self.reason)


class NoUsableRate(UsageError):
    """train.lr = "auto", and the range test saw no rate at which the loss falls."""


class StorageError(GlasshouseError):
    """A file could not be written or is damaged."""

    exit_code = 3


class DivergedError(GlasshouseError):
    """Training met a loss that is not a number."""

    exit_code = 4


class Interrupted(GlasshouseError):
    """A signal asked to stop; what was reached is saved. The exit code is 128 + the signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """A closing half-sentence: the nearest of the options, else all of them."""
    known = sorted(options)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."
