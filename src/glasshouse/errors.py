"""The named errors, each with the exit code of the command line."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Of many files that cannot be read, the first ones are enough to see what is wrong.
_FILES_NAMED = 20
_PATH_SHOWN = 120
# What torch says of a full GPU without its own class for it: on MPS, and where it cannot begin.
_GPU_IS_FULL = (
    "MPS backend out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"
)  # fmt: skip


class GlasshouseError(Exception):
    """A failure that the user can understand and fix; printed without a traceback."""

    exit_code = 1


class UsageError(GlasshouseError):
    """A command or an argument of a function is not valid."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe has an unknown key or an invalid value."""


class ModelError(UsageError):
    """A stack of layers cannot be built, or a saved model cannot be loaded."""


class WrongInputSize(ModelError):
    """A network cannot process images of this size."""


class WrongWeights(ModelError):
    """The names or shapes in a weights file are not those of the network."""


class NotFinite(ModelError):
    """A network's weights or answers are NaN or infinite, so that it has no answer."""


class DataError(GlasshouseError):
    """Images, tables or folders are missing, damaged or inconsistent."""

    exit_code = 3


class MissingSource(DataError):
    """A source of images that is not where it was looked for."""


class BadImage(DataError):
    """A file that cannot be read as an image, and the reason."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path: str = str(path)
        self.reason: str = reason

    def __reduce__(self) -> tuple[type["BadImage"], tuple[str, str]]:
        # Errors are pickled between processes; by default, only the message would be passed on.
        return type(self), (self.path, self.reason)


class UnreadableFiles(DataError):
    """Files that cannot be read as images, without which there is nothing to train on.

    files: the path of each file and the reason.
    """

    def __init__(self, summary: str, files: Sequence[tuple[str, str]], advice: str = "") -> None:
        self.summary: str = summary
        self.files: tuple[tuple[str, str], ...] = tuple(files)
        lines = [f"  {path}: {reason}" for path, reason in self.files[:_FILES_NAMED]]
        if len(self.files) > _FILES_NAMED:
            lines.append(f"  and {len(self.files) - _FILES_NAMED} more")
        super().__init__("\n".join([summary, *lines, *([advice] if advice else [])]))


class NoUsableRate(UsageError):
    """train.lr is "auto", but the range test found no learning rate at which the loss falls."""

    exit_code = 3


class StorageError(GlasshouseError):
    """A file could not be written or is damaged."""

    exit_code = 3


class ProcessError(GlasshouseError):
    """The processes of one training have lost each other, or do not compute the same."""

    exit_code = 3


class LostProcess(ProcessError):
    """Another process of a training has ended, or its machine has."""


class DivergedError(GlasshouseError):
    """The training or validation loss became NaN or infinite."""

    exit_code = 4


class GpuMemoryError(GlasshouseError):
    """The memory of a GPU is full."""

    exit_code = 2


class GlasshouseWarning(UserWarning):
    """Something that is not needed for a result could not be done; the work continues."""


class Interrupted(GlasshouseError):
    """Stopped by a signal, with the progress saved. The exit code is 128 + the signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code: int = 128 + signal_number


def type_words(value: object) -> str:
    """The type of a value with its article: "an int", "a list"; "None" for that."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"


def require_type(given: object, kind: type | tuple[type, ...], what: str) -> None:
    """Raise UsageError unless given is of this type; what: the type and how to get one."""
    if not isinstance(given, kind):
        raise UsageError(f"expected {what}; received {type_words(given)}")


def describe_refused(error: OSError) -> str:
    """A path that the system refuses, and why; of a very long one, both ends."""
    return f"cannot use the path {_shortened(error.filename)}: {error.strerror}; name another"


def describe_failed(error: OSError) -> str:
    """A file that the system could not read or write, and why."""
    where = "" if error.filename is None else f"cannot use {_shortened(error.filename)}: "
    return (
        f"{where}{error.strerror}. Check the disk and its free space; what was written before is "
        "kept, and a run continues with --resume."
    )


@contextmanager
def naming_full_gpu(first: str = "") -> Iterator[None]:
    """A context that raises GpuMemoryError where the memory of a GPU is full.

    first: what to try before anything else.
    """
    try:
        yield
    # Torch, which is not imported here, derives its own class from this one.
    except RuntimeError as error:
        is_named = f"{type(error).__module__}.{type(error).__name__}" == "torch.OutOfMemoryError"
        if not (is_named or any(words in str(error) for words in _GPU_IS_FULL)):
            raise
        raise GpuMemoryError(
            f"the GPU's memory is full: {first}end other programs that use it, or use --device cpu"
        ) from error


def _shortened(path: object) -> str:
    text = str(path)
    return text if len(text) <= _PATH_SHOWN else f"{text[:60]}...{text[-20:]}"


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """A hint for the end of a message: the nearest option, or all options if none is near."""
    known = sorted(options)
    near = nearest(name, known)
    return f"Known: {', '.join(known)}." if near is None else f"Did you mean '{near}'?"


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option that somebody who wrote this name may have meant; None if none is near."""
    near = difflib.get_close_matches(name, sorted(options), n=1, cutoff=0.6)
    return near[0] if near else None
