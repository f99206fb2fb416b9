"""Many pieces of one kind: their results in order, computed here or on a cluster."""

from collections.abc import Callable, Sequence
from typing import Any

from glasshouse.cluster.pieces import Cluster
from glasshouse.errors import Interrupted

Piecework = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]

_POLL_S = 0.5


def one_after_another(work: Callable[..., Any], pieces: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What the work gives for the arguments of each piece, computed here."""
    return [work(*arguments) for arguments in pieces]


def at_the_same_time(
    cluster: Cluster,
    *,
    on_end: Callable[[int, int], None] = lambda ended, total: None,
    signal_received: Callable[[], int | None] = lambda: None,
) -> Piecework:
    """The same on a cluster, whose machines find the work by its name.

    on_end: called with the numbers of pieces that have ended and of all. signal_received: polled,
    and a signal number stops the pieces. Raises what a piece raised, and Interrupted.
    """

    def compute(work: Callable[..., Any], pieces: Sequence[tuple[Any, ...]]) -> list[Any]:
        waiting = {
            cluster.begin(work, *arguments): number
            for number, arguments in enumerate(_sent_once(cluster, pieces))
        }
        results: dict[int, Any] = {}
        try:
            while waiting:
                for piece in cluster.ended(list(waiting), _POLL_S):
                    place = waiting.pop(piece)
                    results[place] = cluster.result(piece)
                    on_end(len(results), len(pieces))
                number = signal_received()
                if number and waiting:
                    raise Interrupted("nothing was written; repeat the command", number)
        finally:
            cluster.stop(waiting)
        return [results[number] for number in range(len(pieces))]

    return compute


def _sent_once(cluster: Cluster, pieces: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The arguments of the pieces, of which those that all have in common travel once."""
    if len(pieces) < 2:
        return list(pieces)
    sent = [
        cluster.put(first) if all(each is first for each in others) else None
        for first, *others in zip(*pieces, strict=True)
    ]
    return [
        tuple(own if common is None else common for own, common in zip(each, sent, strict=True))
        for each in pieces
    ]
