"""Many pieces of one kind: their results in order, computed here or on a cluster."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any

from glasshouse.cluster.pieces import Cluster
from glasshouse.errors import Interrupted

Piecework = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]

_POLL_S = 0.5
# Of pieces that are made as they are needed: for each place one that is computed, and one that is
# sent.
_AHEAD = 2


def one_after_another(work: Callable[..., Any], pieces: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """What the work gives for the arguments of each piece, computed here."""
    return (work(*arguments) for arguments in pieces)


def at_the_same_time(
    cluster: Cluster,
    *,
    on_end: Callable[[int, int], None] = lambda ended, total: None,
    signal_received: Callable[[], int | None] = lambda: None,
) -> Piecework:
    """The same on a cluster, whose machines find the work by its name.

    Pieces in a list are handed out at once, others as they are made, a few at a time. on_end:
    called with the numbers of pieces of a list that have ended and of all. signal_received: polled,
    and a signal number stops the pieces. Raises what a piece raised, and Interrupted.
    """

    def compute(work: Callable[..., Any], pieces: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        total = len(pieces) if isinstance(pieces, Sequence) else None
        ended = count(1)

        def count_one() -> None:
            if total is not None:
                on_end(next(ended), total)

        most = _AHEAD * cluster.places if total is None else total
        yield from in_order(
            cluster, work, pieces, most=most, on_end=count_one, signal_received=signal_received
        )

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
    memory; what one has in common with the next travels once. on_end: called whenever one has
    ended. Raises what a piece raised, and Interrupted.
    """
    rest = enumerate(_sent_once(cluster, pieces))
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


def _sent_once(cluster: Cluster, pieces: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The arguments of the pieces, of which those that the next one has as well travel once."""
    sent: dict[int, tuple[Any, Any]] = {}
    rest = iter(pieces)
    piece = next(rest, None)
    while piece is not None:
        following = next(rest, None)
        for place, value in enumerate(piece):
            is_sent = place in sent and sent[place][0] is value
            if not is_sent and following is not None and following[place] is value:
                sent[place] = value, cluster.put(value)
        yield tuple(
            sent[place][1] if place in sent and sent[place][0] is value else value
            for place, value in enumerate(piece)
        )
        piece = following
