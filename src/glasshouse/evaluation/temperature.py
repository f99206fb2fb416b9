"""The temperature at which a loss is lowest, found from the sign of its slope."""

import math
from collections.abc import Callable

COLDEST, HOTTEST = 0.05, 20.0


def lowest_loss_at(slope: Callable[[float], float]) -> float:
    """The temperature T between 0.05 and 20 with the lowest loss.

    slope: the derivative of the loss by 1/T, at a value of 1/T. The loss must be convex in 1/T: its
    slope then changes sign once, also along log T.
    """
    cold, hot = math.log(COLDEST), math.log(HOTTEST)
    while hot - cold > 1e-7:
        middle = (cold + hot) / 2
        cold, hot = (middle, hot) if slope(math.exp(-middle)) > 0 else (cold, middle)
    return math.exp((cold + hot) / 2)
