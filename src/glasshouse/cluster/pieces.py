"""Pieces of work on the machines of a Ray cluster; a piece whose machine is lost runs again."""

import socket
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

from glasshouse.cluster.versions import Versions, require_versions, version_reader
from glasshouse.errors import (
    DataError,
    GlasshouseError,
    GlasshouseWarning,
    MissingSource,
    ProcessError,
    StorageError,
    UsageError,
    describe_failed,
    naming_full_gpu,
)

# A piece that ends its process this often does so for a reason, for example because memory runs
# out; machines are lost less often.
_ATTEMPTS = 5
_OF_FILES = (DataError, StorageError)
_WHERE_TO_PUT = (
    ". Each machine of a cluster reads SOURCE for itself: name an address, or a folder on a disk "
    "that all share"
)


@dataclass(frozen=True)
class Terms:
    """How a piece has to be computed: the versions, the number of threads; host: who wants it."""

    versions: Versions
    threads: int
    host: str = field(default_factory=socket.gethostname)


@dataclass(frozen=True)
class Outcome:
    """What a piece has left on its machine: a value or an error, and the warnings of it."""

    value: Any = None
    error: GlasshouseError | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cluster:
    """A connected cluster, what a piece of work takes of it, and the versions it has to have.

    ray: the module, which is connected. A piece takes a core for each of its threads.
    """

    ray: Any
    terms: Terms
    gpus: int

    @property
    def places(self) -> int:
        """How many pieces can run at the same time now; at least 1."""
        resources = self.ray.cluster_resources()
        by_gpu = resources.get("GPU", 0) // self.gpus if self.gpus else float("inf")
        return max(1, int(min(resources.get("CPU", 0) // self.terms.threads, by_gpu)))

    def options(self) -> dict[str, Any]:
        """What Ray reserves for a piece."""
        return {"num_cpus": self.terms.threads, "num_gpus": self.gpus}

    def beside_command(self) -> dict[str, Any]:
        """What has Ray put an actor on the node of this command, for a client that of the head.

        It needs no core; Ray would put it on any node, whose loss it would share.
        """
        node = self.ray.get_runtime_context().get_node_id()
        return {"num_cpus": 0, "scheduling_strategy": _only_on(node)}

    def put(self, value: object) -> Any:
        """What stands for a value among the arguments of pieces, so that it is sent once."""
        return self.ray.put(value)

    def send_code(self, module: ModuleType) -> None:
        """Have what is defined in a module sent with its code, as machines cannot import it."""
        self.ray.cloudpickle.register_pickle_by_value(module)

    def begin(self, work: Callable[..., object], *arguments: object) -> Any:
        """Hand out a piece."""
        task = self.ray.remote(run_piece).options(
            max_retries=_ATTEMPTS, retry_exceptions=False, **self.options()
        )
        return task.remote(self.terms, work, *arguments)

    def ended(self, pieces: Sequence[Any], seconds: float) -> list[Any]:
        """Those of the pieces that have ended, after at most some seconds."""
        if not pieces:
            return []
        found, _ = self.ray.wait(list(pieces), num_returns=1, timeout=seconds)
        return list(found)

    def result(self, piece: Any) -> Any:
        """The value of a piece; raises what it raised, or ProcessError where it was lost."""
        return opened(self.outcome(piece))

    def outcome(self, piece: Any) -> Outcome:
        """What a piece has left; raises ProcessError where it was lost."""
        try:
            outcome: Outcome = self.ray.get(piece)
        except self.ray.exceptions.RayTaskError:
            raise  # a fault in the code, with its traceback
        except self.ray.exceptions.RayError as error:
            raise ProcessError(_lost(error)) from error
        return outcome

    def stop(self, pieces: Iterable[Any]) -> None:
        """Have pieces stopped."""
        for piece in pieces:
            self.ray.cancel(piece, force=True)


def run_piece(terms: Terms, work: Callable[..., object], *arguments: object) -> Outcome:
    """Do a piece of work, on the machine that got it."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GlasshouseWarning)
        try:
            require_versions(socket.gethostname(), read_versions(), terms.versions)
            torch.set_num_threads(terms.threads)
            with naming_full_gpu():
                value, error = work(*arguments), None
        except GlasshouseError as raised:
            value, error = None, portable(raised, terms)
        except OSError as raised:
            value, error = None, portable(StorageError(describe_failed(raised)), terms)
    said = (str(each.message) for each in caught if issubclass(each.category, GlasshouseWarning))
    return Outcome(value, error, tuple(said))


def opened(outcome: Outcome) -> Any:
    """The value of an outcome; repeats its warnings, and raises its error."""
    for text in outcome.warnings:
        warnings.warn(text, GlasshouseWarning, stacklevel=2)
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


def portable(error: GlasshouseError, terms: Terms) -> GlasshouseError:
    """An error with the message of this one, of a class that can be sent.

    What is wrong with files of another machine names it.
    """
    plain = (each for each in type(error).__mro__ if "__init__" not in vars(each))
    kind = next(each for each in plain if issubclass(each, GlasshouseError))
    is_elsewhere = socket.gethostname() != terms.host
    where = f"{socket.gethostname()}: " * (is_elsewhere and issubclass(kind, _OF_FILES))
    advice = _WHERE_TO_PUT * (is_elsewhere and issubclass(kind, MissingSource))
    sent: GlasshouseError = kind(f"{where}{error}{advice}")
    return sent


@cache
def read_versions() -> Versions:
    """The versions of this machine."""
    return version_reader()()


def most_cores(ray: Any) -> float:
    """How many cores the node has that has the most; 0 where no node has any."""
    return max((_cores(node) for node in _living(ray)), default=0)


def require_alike_nodes(cluster: Cluster) -> None:
    """Raise UsageError unless every node has the versions, and one the cores of a piece."""
    cores = most_cores(cluster.ray)
    if not cores:
        raise UsageError("no node of the cluster has a core to work with: start workers first")
    if cores < cluster.terms.threads:
        raise UsageError(
            f"a piece of work takes {cluster.terms.threads} cores, as OMP_NUM_THREADS says, but no "
            f"node of the cluster has more than {cores:.0f}"
        )
    read = cluster.ray.remote(version_reader())
    found = [
        (node, read.options(num_cpus=0, scheduling_strategy=_only_on(node["NodeID"])).remote())
        for node in _living(cluster.ray)
        if _cores(node)
    ]
    for node, versions in found:
        try:
            theirs = cluster.ray.get(versions)
        except cluster.ray.exceptions.RayError:
            continue  # It has left; what runs on one that comes back is checked again.
        require_versions(f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})", theirs,
                      cluster.terms.versions)  # fmt: skip


def _living(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _cores(node: dict[str, Any]) -> float:
    return float(node["Resources"].get("CPU", 0))


def _only_on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _lost(error: Exception) -> str:
    lines = str(error).splitlines()
    reason = lines[0] if lines else type(error).__name__
    return (
        f"a piece of work was lost {_ATTEMPTS + 1} times with its process or its machine: "
        f"{reason} What has ended is kept; repeat the command to resume"
    )
