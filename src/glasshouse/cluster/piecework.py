"""Many pieces of one kind: their results in order, computed here or on a cluster."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
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
        ended = 0

        def count() -> None:
            nonlocal ended
            ended += 1
            on_end(ended, len(pieces))

        sent = _sent_once(cluster, pieces)
        results = in_order(
            cluster, work, sent, most=len(sent), on_end=count, signal_received=signal_received
        )
        return list(results)

    return compute


def in_order(
    cluster: Cluster,
    work: Callable[..., Any],
    pieces: Iterable[tuple[Any, ...]],
    *,
    most: int,
    on_end: Callable[[], None] = lambda: None,
    signal_received: Callable[[], int | None] = lambda: None,
) -> Iterator[Any]:
    """The results of pieces in their order, each as soon as those before it are there.

    most: how many pieces exist at the same time, so that neither they nor their results fill the
    memory. on_end: called whenever one has ended. Raises what a piece raised, and Interrupted.
    """
    rest = enumerate(pieces)
    waiting: dict[Any, int] = {}
    results: dict[int, Any] = {}
    wanted = 0
    try:
        while True:
            while wanted in results:
                yield results.pop(wanted)
                wanted += 1
            for number, arguments in islice(rest, most - len(waiting) - len(results)):
                waiting[cluster.begin(work, *arguments)] = number
            if not waiting:
                return
            for piece in cluster.ended(list(waiting), _POLL_S):
                place = waiting.pop(piece)
                results[place] = cluster.result(piece)
                on_end()
            signal = signal_received()
            if signal and waiting:
                raise Interrupted("stopped before the end; repeat the command", signal)
    finally:
        cluster.stop(waiting)


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
