"""The order in which the numbers of shards are added, wherever they are computed."""

from collections.abc import Iterable

from torch import Tensor


def tree_sum(parts: Iterable[Tensor]) -> Tensor:
    """The sum of a power of two of tensors, pair by pair, in place of the first one.

    The tensors are used up, and no more of them are held than the tree is deep.
    """
    waiting: list[Tensor] = []
    for number, part in enumerate(parts, 1):
        while number % 2 == 0:
            part = waiting.pop().add_(part)
            number //= 2
        waiting.append(part)
    (total,) = waiting
    return total
