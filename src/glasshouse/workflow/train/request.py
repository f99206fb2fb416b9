"""What a run is asked to do, where its images come from, and how it is resumed."""

from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

from glasshouse.data.addresses import is_address
from glasshouse.data.sources import absolute_source, has_own_size
from glasshouse.runs import folder as runs
from glasshouse.settings import Recipe
from glasshouse.storage import as_path, read_json, write_json
from glasshouse.workflow.train.log_names import LogName


@dataclass(frozen=True)
class TrainRequest:
    """What to train, on what, and where the run folder goes.

    source: as `load_splits` takes it. out: the run folder, created if necessary. resume:
    continue the run in ``out`` from its newest checkpoint, or start it where there is none.
    data_dir: where data sets are looked for and downloaded to. offline: never open a
    connection. command: recorded in the run as it was typed. snapshots: how many validation
    images are explained after each epoch. budget: how the recipe was fitted to a time budget,
    for the record; None where it was not. may_run_code: that the user has named the code in
    ``recipe.model.code``, which may otherwise be anybody's; weights: a file that this network
    starts from. logs: loggers that receive a copy of the metrics. threads: as many as the run had
    that is resumed or repeated, unless the recipe has a number; None for a new run.
    """

    source: str
    recipe: Recipe
    out: Path
    _: KW_ONLY
    resume: bool = False
    data_dir: Path | None = None
    offline: bool = False
    command: str = ""
    snapshots: int = 0
    budget: dict[str, Any] | None = None
    may_run_code: bool = False
    weights: Path | None = None
    logs: tuple[LogName, ...] = ()
    threads: int | None = None

    def __post_init__(self) -> None:
        # In Python, places are also named by strings.
        for name in ("out", "data_dir", "weights"):
            object.__setattr__(self, name, as_path(getattr(self, name)))


def origin_of(request: TrainRequest) -> dict[str, str | None]:
    """Where the images come from: absolute, for other folders, and from the run, if it is moved."""
    source, data_dir = absolute_source(request.source), request.data_dir
    found: dict[str, str | None] = {"source": source}
    if not (has_own_size(request.source) or is_address(request.source)):
        found["source_from_run"] = runs.path_from_run(source, request.out)
    if data_dir is not None:
        found["data_dir"] = str(data_dir.resolve())
        found["data_dir_from_run"] = runs.path_from_run(data_dir, request.out)
    return found


def record_origin(request: TrainRequest) -> None:
    """Say where the images are from the place of the run, not from where it was trained."""
    path = request.out / runs.ENVIRONMENT
    record = read_json(path)
    if record["data"] != (now := {**record["data"], **origin_of(request)}):
        write_json(path, {**record, "data": now})


def from_anywhere(request: TrainRequest) -> TrainRequest:
    """The request with paths that are the same from any folder."""
    data_dir, weights = request.data_dir, request.weights
    return replace(
        request,
        source=absolute_source(request.source),
        out=request.out.resolve(),
        data_dir=None if data_dir is None else data_dir.resolve(),
        weights=None if weights is None else weights.resolve(),
    )


def is_finished(request: TrainRequest) -> bool:
    """True when the folder holds the finished run of this recipe on this source."""
    if not (request.out / runs.REPORT).is_file():
        return False
    run = runs.read_run(request.out)
    same_source = run.source == absolute_source(request.source)
    # For another recipe, open_experiment raises an error that names the difference.
    return run.is_finished and same_source and run.recipe == request.recipe


def options_of(request: TrainRequest) -> dict[str, Any]:
    """What a run records of its command, next to the recipe and the data, for those who resume."""
    return {
        "log": list(request.logs),
        "snapshots": request.snapshots,
        "weights": None if request.weights is None else str(request.weights.resolve()),
        "offline": request.offline,
    }


def as_started(request: TrainRequest, before: runs.Run | None) -> TrainRequest:
    """A request with the weights, snapshots and threads of the run that it resumes.

    A run that was stopped before its first checkpoint starts again, and needs the weights. What
    the request itself says counts.
    """
    options = {} if before is None else before.options
    weights, snapshots = options.get("weights"), options.get("snapshots", 0)
    return replace(
        request,
        weights=request.weights or (None if weights is None else Path(weights)),
        snapshots=request.snapshots or snapshots,
        threads=request.threads or (None if before is None else before.threads),
    )


def resume_command_of(request: TrainRequest, seeds: int | None = None) -> str:
    """The command that resumes what a request started."""
    return runs.resume_command(
        absolute_source(request.source),
        request.out,
        data_dir=request.data_dir,
        seeds=seeds,
        code=request.recipe.model.code,
        options=options_of(request),
    )
