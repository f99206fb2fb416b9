"""A pytest plugin of mutants.py: notes which lines of the package each test executes.

A test executes what its process, its child processes and its fixtures do. pytest runs under
coverage.py, whose settings put what MUTANTS_TEST says beside the lines of child processes.
"""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

import coverage
import pytest

_seconds: dict[str, float] = {}
_fixtures: dict[str, list[str]] = {}
_failed: set[str] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _fixtures[item.nodeid] = list(getattr(item, "fixturenames", ()))
    began = time.monotonic()
    before = _measure(item.nodeid)
    try:
        return (yield)
    finally:
        _measure(before)
        _seconds[item.nodeid] = round(time.monotonic() - began, 3)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any],
) -> Generator[None, object, object]:
    """What several tests share is made in the first of them, and counts for each that uses it."""
    if fixturedef.scope == "function":
        return (yield)
    before = _measure(f"fixture {fixturedef.argname}")
    try:
        return (yield)
    finally:
        _measure(before)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    noted = {"seconds": _seconds, "fixtures": _fixtures, "failed": sorted(_failed)}
    Path(os.environ["MUTANTS_NOTES"]).write_text(json.dumps(noted), encoding="utf-8")


def _measure(context: str) -> str:
    """Let what is executed from now on belong to a test or fixture; returns what it did before."""
    before = os.environ.get("MUTANTS_TEST", "")
    measured = coverage.Coverage.current()
    if measured is not None:
        measured.switch_context(context)
    os.environ["MUTANTS_TEST"] = context
    return before


def executed(folder: Path, source: Path) -> dict[str, Any]:
    """Of each test that passes: its seconds, and the lines of each module that it executes."""
    noted = json.loads((folder / "notes.json").read_text(encoding="utf-8"))
    lines: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for path in folder.glob("data*"):
        measured = coverage.CoverageData(str(path))
        measured.read()
        for name in measured.measured_files():
            module = Path(name).relative_to(source).as_posix()
            for line, contexts in measured.contexts_by_lineno(name).items():
                for context in contexts:
                    lines[context][module].add(line)
    tests = {}
    for test in noted["seconds"].keys() - set(noted["failed"]):
        seen = lines[test]
        for fixture in noted["fixtures"][test]:
            for module, others in lines.get(f"fixture {fixture}", {}).items():
                seen[module] |= others
        ordered = {module: sorted(seen[module]) for module in seen}
        tests[test] = {"seconds": noted["seconds"][test], "lines": ordered}
    return tests


if __name__ == "__main__":
    folder, source = map(Path, sys.argv[1:])
    (folder / "lines.json").write_text(json.dumps(executed(folder, source)), encoding="utf-8")
