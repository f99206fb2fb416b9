"""Many pieces of one kind: their results in order, computed here or on a cluster."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any

from glasshouse.cluster.kept_results import KeptResults
from glasshouse.cluster.pieces import Cluster, opened
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
    kept: KeptResults | None = None,
    on_end: Callable[[int, int], None] = lambda ended, total: None,
    signal_received: Callable[[], int | None] = lambda: None,
) -> Piecework:
    """The same on a cluster, whose machines find the work by its name.

    Pieces in a list are handed out at once, others as they are made, a few at a time, so that
    neither they nor their results fill the memory; what one has in common with the next travels
    once. Each result comes as soon as those before it are there. kept: results of an earlier
    attempt, which are not computed again; those of this one are added. on_end: called with the
    numbers of pieces of a list that have ended and of all. signal_received: polled, and a signal
    number stops the pieces. Raises what a piece raised, and Interrupted.
    """

    def compute(work: Callable[..., Any], pieces: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        total = len(pieces) if isinstance(pieces, Sequence) else None
        ended = count(1)

        def count_one() -> None:
            if total is not None:
                on_end(next(ended), total)

        most = _AHEAD * cluster.places if total is None else total
        rest = enumerate(_sent_once(cluster, pieces))
        begun = _Begun(cluster, work, kept, count_one)
        try:
            while True:
                yield from begun.in_order()
                for number, (piece, sent) in islice(rest, most - begun.count):
                    begun.add(number, piece, sent)
                if not begun.count:
                    return
                begun.wait()
                signal = signal_received()
                if signal and begun.waiting:
                    raise Interrupted("stopped before the end; repeat the command", signal)
        finally:
            cluster.stop(begun.waiting)

    return compute


class _Begun:
    """Pieces that nobody has taken the results of yet.

    waiting: number and arguments of those without a result. results: of the others, by number.
    """

    def __init__(
        self,
        cluster: Cluster,
        work: Callable[..., Any],
        kept: KeptResults | None,
        on_end: Callable[[], None],
    ) -> None:
        self.cluster, self.work, self.kept, self.on_end = cluster, work, kept, on_end
        self.waiting: dict[Any, tuple[int, tuple[Any, ...]]] = {}
        self.results: dict[int, Any] = {}
        self.wanted = 0

    @property
    def count(self) -> int:
        return len(self.waiting) + len(self.results)

    def add(self, number: int, piece: tuple[Any, ...], sent: tuple[Any, ...]) -> None:
        """Hand out a piece, unless its result was kept."""
        outcome = None if self.kept is None else self.kept.find(piece)
        if outcome is None:
            self.waiting[self.cluster.begin(self.work, *sent)] = number, piece
        else:
            self.results[number] = opened(outcome)
            self.on_end()

    def in_order(self) -> Iterator[Any]:
        """The results that nothing before them is missing for."""
        while self.wanted in self.results:
            yield self.results.pop(self.wanted)
            self.wanted += 1

    def wait(self) -> None:
        """Wait for a moment, and take what has ended."""
        for begun in self.cluster.ended(list(self.waiting), _POLL_S):
            number, piece = self.waiting.pop(begun)
            outcome = self.cluster.outcome(begun)
            self.results[number] = opened(outcome)
            if self.kept is not None:
                self.kept.keep(piece, outcome)
            self.on_end()


def _sent_once(
    cluster: Cluster, pieces: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Pieces, and what is sent for them: arguments that the next one has as well travel once."""
    sent: dict[int, tuple[Any, Any]] = {}
    rest = iter(pieces)
    piece = next(rest, None)
    while piece is not None:
        following = next(rest, None)
        for place, value in enumerate(piece):
            is_sent = place in sent and sent[place][0] is value
            if not is_sent and following is not None and following[place] is value:
                sent[place] = value, cluster.put(value)
        yield (
            piece,
            tuple(
                sent[place][1] if place in sent and sent[place][0] is value else value
                for place, value in enumerate(piece)
            ),
        )
        piece = following
