"""Where else the metrics of a run may go, checked without importing torch."""

import importlib.util
import os
from collections.abc import Sequence
from typing import Literal, get_args

from glasshouse.errors import UsageError, did_you_mean

LogName = Literal["tensorboard", "mlflow"]


def require_logs(names: Sequence[str], *, offline: bool) -> tuple[LogName, ...]:
    """The names, checked before anything is trained.

    Raises UsageError for an unknown one, when its package is not installed, and when MLflow would
    be reached over the network although ``offline`` is True.
    """
    known = get_args(LogName)
    for name in names:
        if name not in known:
            raise UsageError(f"--log {name} is not known. {did_you_mean(name, known)}")
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"--log {name} needs {name}: pip install 'glasshouse[{name}]'")
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if offline and "mlflow" in names and address.startswith(("http:", "https:", "databricks")):
        raise UsageError(f"--offline, but MLFLOW_TRACKING_URI names a server: {address}. Unset it.")
    return tuple(name for name in known if name in names)
