"""A cluster without Ray, for tests of what is handed out and comes back."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from glasshouse.cluster.pieces import Outcome, Terms


class Instead:
    """A cluster of two places whose pieces are done here, the last that was handed out first."""

    places, terms = 2, Terms({}, 1)

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.stopped: list[Any] = []

    def put(self, value: object) -> object:
        self.sent.append(value)
        return value

    def begin(self, work: Callable[..., object], *arguments: object) -> Any:
        return lambda: work(*arguments)

    def ended(self, pieces: Sequence[Any], seconds: float) -> list[Any]:
        return list(pieces[-1:])

    def result(self, piece: Any) -> Any:
        return piece()

    def outcome(self, piece: Any) -> Outcome:
        return Outcome(piece())

    def stop(self, pieces: Iterable[Any]) -> None:
        self.stopped = list(pieces)
