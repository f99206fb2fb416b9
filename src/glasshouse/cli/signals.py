"""SIGINT and SIGTERM as requests to stop after the current step."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from glasshouse.cli.progress_bars import say


@contextmanager
def catch_signals(tell: Callable[[str], None] = say) -> Iterator[Callable[[], int | None]]:
    """In this context, the first signal is only recorded; a second one stops at once.

    tell: called with what happens. Yields a function that returns the number of the signal
    received, or None.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        received.append(number)
        tell("stopping after this step; repeat to stop at once")

    # The last is what Windows sends in place of SIGTERM, and exists only there.
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    watched = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
