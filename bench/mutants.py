"""Mutation testing: which share of small faults in the core packages the tests notice.

Run by `make mutants`, which gives Cosmic Ray an environment of its own. A seeded sample of places
in each package gets one fault each, in a copy of the project. A fault is tried on the default tests
that execute its statement, as coverage.py saw them: first those that mirror its module, then the
quickest. Which tests those are is kept in a file, and measured anew for tests that have changed
since. Survivors are printed with their change: some compute the same as the original, which only a
reader can tell.
"""

import argparse
import ast
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import groupby
from pathlib import Path
from typing import Any

from contest import require

# Of a test: its seconds, and the lines that it executes, by module.
Test = dict[str, Any]
Statement = ast.stmt | ast.ExceptHandler | ast.match_case
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "data", "models", "training", "evaluation", "explanation", "storage", "service", "workbench",
)  # fmt: skip
# What a package consists of, if its name does not say so: patterns of files.
FILES = {
    "storage": ("storage.py", "file_lock.py"),
    "service": ("serving/service/*.py",),
    "workbench": ("serving/*.py", "serving/pages/**/*.py"),
}
COPIED = (
    "src", "tests", "docs", "examples", "bench", "pyproject.toml", "README.md",
    "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "Makefile", "mkdocs.yml",
    ".github", ".ci",
)  # fmt: skip
# Unions of types in annotations: any other operator fails when the module is imported.
NO_FAULTS = ("core/ReplaceBinaryOperator_BitOr_", "core/VariableReplacer", "core/VariableInserter")
CONFIG = """[cosmic-ray]
module-path = [{paths}]
timeout = {timeout}
excluded-modules = []
test-command = "{command}"
distributor.name = "local"
"""
COVERAGE = """[run]
source = {source}
parallel = true
data_file = {data}
context = ${{MUTANTS_TEST-}}
patch = _exit
disable_warnings = no-data-collected, module-not-measured, module-not-imported
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    parser.add_argument("--count", type=int, default=20, help="faults per package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--python", default=str(ROOT / ".venv/bin/python"), help="runs the tests")
    parser.add_argument("--timeout", type=float, default=60, help="seconds of tests per fault")
    parser.add_argument(
        "--map", type=Path, default=ROOT / ".mutants.json", help="keeps which test executes what"
    )
    parser.add_argument("--tests", nargs="+", default=["tests"], help="which tests may notice")
    parser.add_argument("--try-one", action="store_true", help="for internal use: test a fault")
    options = parser.parse_args()
    if options.try_one:
        sys.exit(try_one(options.map, options.timeout))
    require("cosmic_ray", "make mutants installs it")
    options.map = options.map.resolve()
    os.environ["MUTANTS_PYTHON"] = options.python
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = copied(Path(folder))
        bring_up_to_date(options.map, copy, options.tests)
        for package in options.packages:
            report(package, copy, options)


def copied(folder: Path) -> Path:
    """A copy of the project whose bytecode is checked by content, not by time."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=skipped)
        else:
            shutil.copy2(ROOT / name, folder / name)
    shutil.copytree(folder / "src", folder / "unchanged" / "src")
    # A fault may change neither the size of a file nor the second in which it was written.
    compiling = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "src"]
    subprocess.run([os.environ["MUTANTS_PYTHON"], *compiling], cwd=folder, check=True)
    return folder


def bring_up_to_date(kept: Path, copy: Path, folders: list[str]) -> None:
    """Measure the tests that have changed, and move what was seen with the lines of the package."""
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    source = copy / "src" / "glasshouse"
    code = {
        path.relative_to(source).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(source.rglob("*.py"))
    }
    known = {"files": {}, "tests": {}, "code": code, **known}
    move(known["tests"], known["code"], code)
    known["code"] = code
    # Those of files that are gone would keep all others from being run.
    known["tests"] = {
        test: seen for test, seen in known["tests"].items() if (copy / _file_of(test)).exists()
    }
    paths = [copy / folder for folder in folders]
    paths = [
        each for path in paths for each in (path.rglob("test_*.py") if path.is_dir() else [path])
    ]
    files = {str(path.relative_to(copy)): _digest(path) for path in paths}
    new = [name for name, digest in files.items() if known["files"].get(name) != digest]
    # A folder at a time: what was measured before an interruption is kept.
    for _, names in groupby(sorted(new, key=_folder_of), key=_folder_of):
        part = sorted(names)
        print(f"measuring which lines the tests of {', '.join(part)} execute", flush=True)
        others = {k: v for k, v in known["tests"].items() if _file_of(k) not in part}
        known["tests"] = others | measured(copy, part)
        known["files"] |= {name: files[name] for name in part}
        _keep(known, kept)
    _keep(known, kept)


def _file_of(test: str) -> str:
    return test.split("::")[0]


def _folder_of(file: str) -> Path:
    return Path(file).parent


def _keep(known: dict[str, Any], kept: Path) -> None:
    written = kept.with_name(f"{kept.name}.new")
    written.write_text(json.dumps(known), encoding="utf-8")
    written.replace(kept)


def move(tests: dict[str, Test], before: dict[str, str], after: dict[str, str]) -> None:
    """Give each line that was executed its number of today; a new one has that of the line above.

    before, after: the texts of the modules, by name.
    """
    for module in before.keys() & after.keys():
        if before[module] == after[module]:
            continue
        moved = _moved(before[module].splitlines(), after[module].splitlines())
        for test in tests.values():
            if module in test["lines"]:
                now = {new for old in test["lines"][module] for new in moved[old]}
                test["lines"][module] = sorted(now)


def _moved(before: list[str], after: list[str]) -> dict[int, list[int]]:
    """The numbers that each line has in the other text, counted from 1."""
    moved: dict[int, list[int]] = defaultdict(list)
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            for old, new in zip(range(a, b), range(c, d), strict=True):
                moved[old + 1].append(new + 1)
        else:
            for old in range(a, b) if kind == "replace" else [a - 1]:
                moved[old + 1] += [new + 1 for new in range(c, d)]
    return moved


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def measured(copy: Path, files: list[str]) -> dict[str, Test]:
    """Of each test that passes: its seconds, and the lines of each module that it executes."""
    folder = copy / "measured"
    folder.mkdir()
    (folder / "settings").write_text(COVERAGE.format(source=copy / "src", data=folder / "data"))
    environment = {
        **_environment(copy),
        "COVERAGE_PROCESS_START": str(folder / "settings"),
        "MUTANTS_NOTES": str(folder / "notes.json"),
    }
    python = os.environ["MUTANTS_PYTHON"]
    plugin = ["-p", "tests.executed_lines", "-p", "no:xdist", "-p", "no:cacheprovider"]
    measuring = [python, "-m", "coverage", "run", f"--rcfile={folder / 'settings'}"]
    command = [*measuring, "-m", "pytest", "-q", *plugin, *files]
    subprocess.run(command, cwd=copy, env=environment, check=False)
    command = [python, "-m", "tests.executed_lines", str(folder), str(copy / "src" / "glasshouse")]
    subprocess.run(command, cwd=copy, env=_environment(copy), check=True)
    seen = json.loads((folder / "lines.json").read_text(encoding="utf-8"))
    shutil.rmtree(folder)
    return seen


def _environment(copy: Path) -> dict[str, str]:
    own = {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, **own}


def modules_of(package: str, root: Path) -> list[Path]:
    source = root / "src" / "glasshouse"
    patterns = FILES.get(package, (f"{package}/**/*.py",))
    found = {path for pattern in patterns for path in source.glob(pattern)}
    return sorted(path for path in found if path.stat().st_size)


def report(package: str, copy: Path, options: argparse.Namespace) -> None:
    """Test a sample of faults in a package, and print its score and the survivors."""
    from cosmic_ray.work_db import WorkDB, use_db

    began = time.monotonic()
    own = f"--try-one --map {options.map} --timeout {options.timeout}"
    command = f"{sys.executable} {Path(__file__).resolve()} {own}"
    paths = ", ".join(f'"{path.relative_to(copy)}"' for path in modules_of(package, copy))
    config, session = copy / f"{package}.toml", copy / f"{package}.sqlite"
    limit = 5 * options.timeout + 300  # tests of a busy machine take longer than when measured
    config.write_text(CONFIG.format(paths=paths, timeout=limit, command=command))
    environment = _environment(copy)
    tool = [sys.executable, "-m", "cosmic_ray.cli"]
    subprocess.run([*tool, "init", config, session], cwd=copy, env=environment, check=True)
    places = sample(session, options.count, f"{options.seed} {package}")
    subprocess.run([*tool, "exec", config, session], cwd=copy, env=environment, check=True)
    with use_db(session, WorkDB.Mode.open) as database:
        results = [result for _, result in database.results]
    survivors = [result for result in results if not result.is_killed]
    for result in survivors:
        print(f"\nsurvived in {package}:\n{result.diff}")
    noticed = len(results) - len(survivors)
    print(
        f"\n{package}: {noticed} of {len(results)} faults noticed "
        f"({noticed / max(1, len(results)):.0%}), from {places:,} places, "
        f"in {(time.monotonic() - began) / 60:.0f} minutes",
        flush=True,
    )


def sample(session: Path, count: int, seed: str) -> int:
    """Keep one fault at each of some random places; returns how many places there were."""
    from cosmic_ray.work_db import WorkDB, use_db

    chance = random.Random(seed)
    with use_db(session, WorkDB.Mode.open) as database:
        places: dict[tuple[object, ...], list[object]] = {}
        for item in sorted(database.work_items, key=_place):
            (fault,) = item.mutations
            lines = (session.parent / fault.module_path).read_text(encoding="utf-8").splitlines()
            line, column = lines[fault.start_pos[0] - 1], fault.start_pos[1]
            # Whether a dataclass is frozen, or how much a cache keeps, changes no result.
            is_none = line.lstrip().startswith("@") or _is_star(line[:column], line[column:])
            if not is_none and not fault.operator_name.startswith(NO_FAULTS):
                places.setdefault(_place(item)[:2], []).append(item)
        chosen = chance.sample(sorted(places), min(count, len(places)))
        # An operator has a dozen replacements and a number two: each place counts once.
        kept = [chance.choice(places[place]) for place in chosen]
        database.clear()
        database.add_work_items(kept)
    return len(places)


def _is_star(before: str, after: str) -> bool:
    """Whether a star is no operator: it unpacks, or says that arguments are given by name."""
    begins = not before.strip() or before.rstrip()[-1] in "([{,"
    return begins and re.match(r"\*,|\*{1,2}[^\s*,]", after) is not None


def _place(item: object) -> tuple[object, ...]:
    (fault,) = item.mutations  # type: ignore[attr-defined]
    return str(fault.module_path), fault.start_pos, fault.operator_name, fault.occurrence


def try_one(kept: Path, seconds: float) -> int:
    """Run the tests that may notice the fault in the copy of the project that this runs in."""
    tests = json.loads(kept.read_text(encoding="utf-8"))["tests"]
    source = Path("unchanged/src/glasshouse")
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source)
        before = path.read_text(encoding="utf-8").splitlines()
        after = Path("src/glasshouse", name).read_text(encoding="utf-8").splitlines()
        pairs = zip(before, after, strict=False)
        line = next((i for i, (old, new) in enumerate(pairs, 1) if old != new), None)
        if line:
            names = tests_of(tests, source, name, line)
            return _pytest({test: tests[test]["seconds"] for test in names}, name, seconds)
    return 0


def tests_of(tests: dict[str, Test], source: Path, name: Path, line: int) -> set[str]:
    """The tests that execute a statement or, of a definition, whatever uses what it defines."""
    tree = ast.parse((source / name).read_text(encoding="utf-8"))
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, Statement) and line in range(*_span(node))
    ]
    functions = [
        node for node in around if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    inner = around[-1]  # ast.walk goes from the outside to the inside
    if functions and inner is functions[-1]:
        where = {name: range(functions[-1].body[0].lineno, _span(inner)[1])}
    elif functions:
        where = {name: _header(inner)}
    else:
        where = dict(users_of(source, inner))
    if found := _executing(tests, where):
        return found
    # What nobody mentions by name is used by whoever uses its module.
    return set() if functions else _executing(tests, {name: range(1, 1000)})


def _executing(tests: dict[str, Test], where: dict[Path, Iterable[int]]) -> set[str]:
    wanted = {module.as_posix(): set(lines) for module, lines in where.items()}
    return {
        test
        for test, seen in tests.items()
        if any(
            not lines.isdisjoint(seen["lines"].get(module, ())) for module, lines in wanted.items()
        )
    }


def _span(node: Statement) -> tuple[int, int]:
    if isinstance(node, ast.match_case):
        return node.pattern.lineno, _span(node.body[-1])[1]
    return node.lineno, (node.end_lineno or node.lineno) + 1


def _header(node: Statement) -> range:
    """The lines of a statement without those of the statements that it contains."""
    first, last = _span(node)
    body = getattr(node, "body", None)
    return range(first, max(first + 1, body[0].lineno) if body else last)


def users_of(source: Path, definition: ast.AST) -> Iterator[tuple[Path, set[int]]]:
    """The lines, in each module, of the functions that mention what a statement defines."""
    names = {node.id for node in ast.walk(definition) if isinstance(node, ast.Name)}
    names &= {
        node.id
        for node in ast.walk(definition)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    for path in source.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if not any(each in text for each in names):
            continue
        lines = set()
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Name | ast.Attribute) and _name(node) in names:
                        lines.add(node.lineno)
        if lines:
            yield path.relative_to(source), lines


def _name(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _pytest(duration: dict[str, float], module: Path, seconds: float) -> int:
    mirror = f"tests/{(module.parent / f'test_{module.name}').as_posix()}"
    ordered = sorted(duration, key=lambda test: (not test.startswith(mirror), duration[test], test))
    chosen, total = [], 0.0
    for test in ordered:
        total += duration[test]
        if not chosen or total <= seconds:
            chosen.append(test)
    if not chosen:
        return 0
    Path("chosen_tests").write_text("\n".join(chosen), encoding="utf-8")
    quickly = ["-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "timeout=120"]
    command = [os.environ["MUTANTS_PYTHON"], "-m", "pytest", *quickly, "@chosen_tests"]
    return subprocess.run(command, check=False, capture_output=True).returncode


if __name__ == "__main__":
    main()
