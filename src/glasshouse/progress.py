"""How a function reports progress: what is being done, how much is done, and how much there is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
