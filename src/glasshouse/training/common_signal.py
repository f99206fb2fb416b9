"""The signal that ends a training: all of its processes notice it after the same step."""

from collections.abc import Callable

from glasshouse.training.loop import Step
from glasshouse.training.process_group import ProcessGroup
from glasshouse.training.state import Epoch


def common_signal(
    record: Step | Epoch, group: ProcessGroup, received: Callable[[], int | None]
) -> int:
    """The signal that ends a training after this record, the same in all processes; 0 for none.

    received: the signal of this process, or None. A process that is alone notices its own at once.
    """
    # Steps tell what they learnt from each other: asking again costs a twentieth of a short one.
    if group.size > 1 and isinstance(record, Step) and not record.is_asked_to_stop:
        return 0
    return group.highest(received() or 0)
