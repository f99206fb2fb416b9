"""Training in several processes: started here, or by torchrun."""

import os
import signal
import socket
import sys
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from glasshouse.errors import (
    DivergedError,
    GlasshouseError,
    GlasshouseWarning,
    Interrupted,
    LostProcess,
    ProcessError,
    UsageError,
    naming_full_gpu,
)

if TYPE_CHECKING:
    from glasshouse.settings import Recipe

# Saving after Ctrl-C may take that long; who cannot wait presses it again.
_SAVING_SECONDS = "600"


def is_done_elsewhere(processes: int | None) -> bool:
    """Start the command in this many processes, or take part in one as another than the first.

    False where this process has to do the work itself: alone, or as the first of several.
    """
    if processes is None and "WORLD_SIZE" not in os.environ:
        return False
    from glasshouse.training.process_group import (
        launched_rank,
        launched_size,
        require_processes_fit,
    )

    size = launched_size()
    if size == 1:
        if processes in (None, 1):
            return False
        # Whether they divide the shards is known to the first one, which reads the recipe.
        require_processes_fit(processes or 1, processes or 1)
        _launch(processes or 1)
        return True
    if processes not in (None, size):
        raise UsageError(
            f"--processes {processes}, but torchrun started {size}: leave --processes out"
        )
    if launched_rank() == 0:
        return False
    _follow()
    return True


def was_restarted(out: Path | None) -> bool:
    """Whether torchrun has started this process again, and the run has begun."""
    from glasshouse.runs.folder import RECIPE

    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return count != "0" and out is not None and (out / RECIPE).is_file()


def require_shareable(
    recipe: "Recipe", minutes: float | None, processes: int | None = None
) -> None:
    """Raise UsageError for what processes cannot share.

    processes: those that a cluster will start; None: those that were started with this one.
    """
    if processes is None and "WORLD_SIZE" not in os.environ:
        return
    from glasshouse.models.devices import choose_device
    from glasshouse.training.process_group import (
        launched_size,
        require_processes_fit,
        require_shareable_device,
    )

    size = processes or launched_size()
    require_processes_fit(size, recipe.train.shards)
    if size > 1 and processes is None:  # otherwise, it is a device of the cluster's machines
        require_shareable_device(choose_device(recipe.train.device))
    if size > 1 and minutes is not None:
        raise UsageError("--minutes measures one process: use it without --processes")
    if size > 1 and recipe.transfer.way == "features":
        raise UsageError(
            "transfer.way = 'features' fits its heads in one process: leave --processes out, or "
            "choose another transfer.way"
        )


@contextmanager
def as_first() -> Iterator[None]:
    """A context in which the other processes, where there are any, share the work of runs."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    from glasshouse.training.process_group import joined

    with joined() as group:
        yield
        # Everything is written; a process that has left by now is not missed.
        with suppress(ProcessError):
            group.told(None)


def _launch(processes: int) -> None:
    """Run this very command in several processes, and end with the exit code of the first."""
    import logging

    from torch import distributed

    from glasshouse.child_python import child_environment

    if not distributed.is_available():
        raise UsageError("--processes needs a build of torch with torch.distributed")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.update(child_environment())
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", _SAVING_SECONDS)
    # The processes say themselves what went wrong; the launcher would repeat it with tracebacks.
    logging.disable(logging.CRITICAL)
    # Port 0 is any that is free; only this machine can connect.
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "glasshouse", *sys.argv[1:])
    except SignalException as stopped:
        raise typer.Exit(128 + int(stopped.sigval)) from None
    except ChildFailedError as failed:
        _require_unkilled(failed.failures)
        raise typer.Exit(_exit_code(failed.failures)) from None


def _require_unkilled(failures: Mapping[int, object]) -> None:
    """Raise LostProcess if the first process, which says what went wrong, could not.

    Another one may have said it; the launcher kills those that do not end soon after that.
    """
    if _exit_code(failures) != LostProcess.exit_code:
        return
    code = int(getattr(failures.get(0), "exitcode", 0))
    # The launcher ends with SIGTERM what is left when another process has ended.
    if code < 0 and code != -signal.SIGTERM:
        how = f"signal {-code}"
        with suppress(ValueError):
            how = signal.Signals(-code).name
        reason = ", perhaps because memory ran out" if code == -signal.SIGKILL else ""
        raise LostProcess(
            f"a process of this training was killed ({how}){reason}. Resume the run, with any "
            "number of processes; what was saved is kept."
        )


def _exit_code(failures: Mapping[int, object]) -> int:
    """That of the error which ended the training, not of those that only lost a process."""
    codes = [int(getattr(failure, "exitcode", 1)) for _, failure in sorted(failures.items())]
    lost = ProcessError.exit_code
    return next((code for code in codes if code > 0 and code != lost), lost)


def _follow() -> None:
    from glasshouse.cli.signals import catch_signals
    from glasshouse.training.process_group import joined, launched_rank
    from glasshouse.workflow.train.followers import follow_runs

    try:
        with joined() as group, catch_signals(tell=lambda text: None) as signal_received:
            # The first process has the same ones, and says so.
            warnings.simplefilter("ignore", GlasshouseWarning)
            with naming_full_gpu():
                follow_runs(group, signal_received)
    except GlasshouseError as error:
        # What all processes notice, the first one of each machine says.
        is_noticed = isinstance(error, DivergedError | ProcessError)
        is_said_elsewhere = is_noticed and os.environ.get("LOCAL_RANK") != "0"
        if not (is_said_elsewhere or isinstance(error, Interrupted)):
            where = f"process {launched_rank()} on {socket.gethostname()}"
            print(f"glasshouse: {where}: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
