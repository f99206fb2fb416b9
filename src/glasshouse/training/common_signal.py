"""The signal that ends a training: its processes notice it after the same step or epoch."""

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
    # A step says whether any process was asked. To ask each other again would take a twentieth of a
    # short one.
    if group.size > 1 and isinstance(record, Step) and not record.is_asked_to_stop:
        return 0
    return group.highest(received() or 0)
