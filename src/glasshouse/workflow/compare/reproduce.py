"""A finished run repeated, and compared file by file."""

import json
import shlex
from collections.abc import Iterator, Mapping, Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glasshouse.errors import UsageError
from glasshouse.runs import folder as runs
from glasshouse.storage import as_path, read_json, read_tensors, sha256_of_file
from glasshouse.workflow.compare.seeds import Runner, run_all, run_quietly
from glasshouse.workflow.train.experiment import TrainRequest

# Measured times differ from run to run.
_TIMED = {"seconds", "images_per_second"}


@dataclass(frozen=True)
class FileComparison:
    """One file of the two runs: whether it agrees, and the first difference."""

    file: str
    agrees: bool
    detail: str


@dataclass(frozen=True)
class Reproduction:
    """Every file compared, and how machine and versions of the two runs differ.

    again: the folder of the second run; None where it was not kept.
    """

    run: str
    again: str | None
    files: tuple[FileComparison, ...]
    environment: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """True when every file agrees."""
        return all(each.agrees for each in self.files)


def reproduce(
    folder: str | Path,
    out: str | Path,
    *,
    run: Runner = run_quietly,
    data_dir: str | Path | None = None,
    offline: bool = False,
) -> Reproduction:
    """Repeat a finished run in ``out`` and compare the two file by file.

    Uses as many threads as the run did, because the order of floating-point sums depends on it. A
    stopped run in ``out`` is resumed. Raises UsageError when the run is not finished or is ``out``
    itself.
    """
    folder, out = Path(folder), Path(out)
    before = runs.read_run(folder)
    if not before.is_finished:
        raise UsageError(f"{folder} has not finished training, so there is nothing to compare with")
    if out.resolve() == folder.resolve():
        raise UsageError(f"--out {out} is the run itself: name another folder")
    _require_own_code_named(before, out)
    request = TrainRequest(
        source=before.source,
        recipe=before.recipe,
        out=out,
        resume=True,
        data_dir=as_path(data_dir) or before.data_dir,
        offline=offline,
        threads=before.threads,
    )
    with _threads(before.threads):
        (again,) = run_all([request], run)
    return compare_folders(before, again)


def _require_own_code_named(before: runs.Run, out: Path) -> None:
    code, recipe = before.recipe.model.code, before.folder / runs.RECIPE
    if code is not None:
        words = ["glasshouse", "train", before.source, "--recipe", str(recipe), "--net", code]
        command = shlex.join([*words, "--out", str(out), *before.data_options])
        raise UsageError(
            f"the network of {before.folder} is code of a user's own, which runs only where a "
            f"command names it. Train it again by name: {command}; then compare the two: "
            f"{shlex.join(['glasshouse', 'compare', str(before.folder), str(out)])}"
        )


def compare_folders(before: runs.Run, again: runs.Run) -> Reproduction:
    """Two finished runs compared file by file."""
    files = [
        _same_tensors(before.folder, again.folder, runs.WEIGHTS),
        _same_json(before.folder, again.folder, runs.MODEL),
        _same_tensors(before.folder, again.folder, runs.PREDICTIONS),
        _same_tensors(before.folder, again.folder, runs.VALIDATION_PREDICTIONS),
        _same_json(before.folder, again.folder, runs.EVALUATION),
        _same_metrics(before, again),
    ]
    if (before.folder / runs.FINDER).is_file():
        files.append(_same_json(before.folder, again.folder, runs.FINDER))
    differences = tuple(_environment_differences(before.environment, again.environment))
    return Reproduction(str(before.folder), str(again.folder), tuple(files), differences)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _same_tensors(first: Path, second: Path, name: str) -> FileComparison:
    if missing := _missing(first, second, name):
        return missing
    if sha256_of_file(first / name) == sha256_of_file(second / name):
        return FileComparison(name, True, "the same bytes")
    (ours, our_metadata), (theirs, their_metadata) = (
        read_tensors(first / name),
        read_tensors(second / name),
    )
    if ours.keys() != theirs.keys():
        return FileComparison(
            name, False, "different tensors: " + _first(ours.keys() ^ theirs.keys())
        )
    types = {key for key in ours if ours[key].dtype != theirs[key].dtype}
    if types:
        return FileComparison(name, False, "different types: " + _first(types))
    different = [key for key in ours if not torch.equal(ours[key], theirs[key])]
    if not different and _are_equal(our_metadata, their_metadata):
        return FileComparison(name, False, "the same tensors, but written in another way")
    if not different:
        return FileComparison(name, False, _first_difference(our_metadata, their_metadata))
    shapes = {key for key in different if ours[key].shape != theirs[key].shape}
    if shapes:
        return FileComparison(name, False, "different shapes: " + _first(shapes))
    largest = max(
        float((ours[key].double() - theirs[key].double()).abs().max()) for key in different
    )
    return FileComparison(
        name,
        False,
        f"{len(different)} of {len(ours)} tensors differ, by {largest:.2g} at most, first "
        f"{different[0]}",
    )


def _same_json(first: Path, second: Path, name: str) -> FileComparison:
    if missing := _missing(first, second, name):
        return missing
    ours, theirs = _untimed(read_json(first / name)), _untimed(read_json(second / name))
    if _are_equal(ours, theirs):
        return FileComparison(name, True, "the same values")
    return FileComparison(name, False, _first_difference(ours, theirs))


def _same_metrics(before: runs.Run, again: runs.Run) -> FileComparison:
    ours, theirs = _untimed(list(before.epochs)), _untimed(list(again.epochs))
    if _are_equal(ours, theirs):
        return FileComparison(runs.METRICS, True, "the same values, except for times")
    return FileComparison(runs.METRICS, False, _first_difference(ours, theirs))


def _missing(first: Path, second: Path, name: str) -> FileComparison | None:
    absent = [str(folder) for folder in (first, second) if not (folder / name).is_file()]
    return FileComparison(name, False, f"missing in {' and '.join(absent)}") if absent else None


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if key not in _TIMED}
    return [_untimed(item) for item in value] if isinstance(value, list) else value


def _are_equal(first: Any, second: Any) -> bool:
    """Whether two JSON values are written alike: NaN equals NaN, and 1 is not 1.0."""
    return json.dumps(first) == json.dumps(second)


def _first_difference(first: Any, second: Any, path: str = "") -> str:
    """The first place where two JSON values differ, and how."""
    if isinstance(first, dict) and isinstance(second, dict):
        if first.keys() != second.keys():
            return f"{path or 'top level'}: different keys: {_first(first.keys() ^ second.keys())}"
        pairs = [(f"{path}.{key}".lstrip("."), first[key], second[key]) for key in first]
    elif isinstance(first, list) and isinstance(second, list):
        if len(first) != len(second):
            return f"{path or 'top level'}: {len(first)} entries before, {len(second)} now"
        pairs = [(f"{path}[{i}]", *both) for i, both in enumerate(zip(first, second, strict=True))]
    else:
        return f"{path} was {first!r} and is now {second!r}"
    for place, ours, theirs in pairs:
        if not _are_equal(ours, theirs):
            return _first_difference(ours, theirs, place)
    return f"{path or 'top level'}: the same values in another order"


def _first(names: AbstractSet[str]) -> str:
    return ", ".join(sorted(names)[:3])


def _environment_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in ("processor", "system", "threads", "device", "precision"):
        if before[key] != now[key]:
            yield f"{key} was {before[key]} and is now {now[key]}"
    for name, version in before["versions"].items():
        if now["versions"].get(name) != version:
            yield f"{name} was {version} and is now {now['versions'].get(name)}"
    if before["data"]["fingerprint"] != now["data"]["fingerprint"]:
        yield "the images are not the same: their fingerprints differ"
