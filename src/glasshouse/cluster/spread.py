"""Independent pieces of work, done one after another here or on a cluster."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Spread(Protocol):
    """Does some work on each item; the results are in the order of the items."""

    def __call__(
        self, work: Callable[[Item], Result], items: Iterable[Item], /
    ) -> Iterator[Result]:
        """Yield the results."""
        ...


def here(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Do each piece in this process when its result is wanted."""
    return map(work, items)
