"""A cluster without Ray, for tests of what is handed out and comes back."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any


class Instead:
    """A cluster of two places whose pieces are done here, the last that was handed out first."""

    places = 2

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.stopped: list[Any] = []

    def put(self, value: object) -> object:
        self.sent.append(value)
        return value

    def begin(self, work: Callable[..., object], *arguments: object) -> Any:
        return lambda: work(*arguments)

    def ended(self, pieces: Sequence[Any], seconds: float) -> list[Any]:
        return [pieces[-1]]

    def result(self, piece: Any) -> Any:
        return piece()

    def stop(self, pieces: Iterable[Any]) -> None:
        self.stopped = list(pieces)
