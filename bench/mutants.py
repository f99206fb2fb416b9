"""Mutation testing: which share of small faults in the core packages the tests notice.

Run by `make mutants`, which gives Cosmic Ray an environment of its own. A seeded sample of places
in each package gets one fault each, in a copy of the project. A fault is tried on the tests that
mirror its module and, where they pass, on those of the package and on the laws. Survivors are
printed with their change: some compute the same as the original, which only a reader can tell.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "models", "training", "evaluation", "explanation", "storage", "serving")
# What a package consists of, and where its tests are, if its name does not say so.
FILES = {"storage": ("storage.py", "file_lock.py")}
TESTS = {"storage": ("test_storage.py", "test_file_lock.py")}
COPIED = ("src", "tests", "docs", "examples", "bench", "pyproject.toml", "README.md")
# Unions of types in annotations: any other operator fails when the module is imported.
NO_FAULTS = ("core/ReplaceBinaryOperator_BitOr_", "core/VariableReplacer", "core/VariableInserter")
CONFIG = """[cosmic-ray]
module-path = [{paths}]
timeout = {timeout}
excluded-modules = []
test-command = "{command}"
distributor.name = "local"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    parser.add_argument("--count", type=int, default=20, help="faults per package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--python", default=str(ROOT / ".venv/bin/python"), help="runs the tests")
    parser.add_argument("--timeout", type=float, default=300, help="seconds per fault")
    parser.add_argument("--try-one", help="for internal use: test the fault in this package")
    options = parser.parse_args()
    if options.try_one:
        sys.exit(try_one(options.try_one))
    os.environ["MUTANTS_PYTHON"] = options.python
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = copied(Path(folder))
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
    # A fault may change neither the size of a file nor the second in which it was written.
    compiling = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "src"]
    subprocess.run([os.environ["MUTANTS_PYTHON"], *compiling], cwd=folder, check=True)
    return folder


def modules_of(package: str, root: Path) -> list[Path]:
    source = root / "src" / "glasshouse"
    if package in FILES:
        return [source / name for name in FILES[package]]
    return sorted(path for path in (source / package).rglob("*.py") if path.stat().st_size)


def report(package: str, copy: Path, options: argparse.Namespace) -> None:
    """Test a sample of faults in a package, and print its score and the survivors."""
    from cosmic_ray.work_db import WorkDB, use_db

    began = time.monotonic()
    command = f"{sys.executable} {Path(__file__).resolve()} --try-one {package}"
    paths = ", ".join(f'"{path.relative_to(copy)}"' for path in modules_of(package, copy))
    config, session = copy / f"{package}.toml", copy / f"{package}.sqlite"
    config.write_text(CONFIG.format(paths=paths, timeout=options.timeout, command=command))
    environment = {
        **os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    if subprocess.run(command.split(), cwd=copy, env=environment, check=False).returncode:
        sys.exit(f"{package}: the tests fail without any fault")
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
            # Whether a dataclass is frozen, or how much a cache keeps, changes no result.
            is_decorator = lines[fault.start_pos[0] - 1].lstrip().startswith("@")
            if not is_decorator and not fault.operator_name.startswith(NO_FAULTS):
                places.setdefault(_place(item)[:2], []).append(item)
        chosen = chance.sample(sorted(places), min(count, len(places)))
        # An operator has a dozen replacements and a number two: each place counts once.
        kept = [chance.choice(places[place]) for place in chosen]
        database.clear()
        database.add_work_items(kept)
    return len(places)


def _place(item: object) -> tuple[object, ...]:
    (fault,) = item.mutations  # type: ignore[attr-defined]
    return str(fault.module_path), fault.start_pos, fault.operator_name, fault.occurrence


def try_one(package: str) -> int:
    """Run the tests that may notice the fault in the copy of the project that this runs in.

    Without a fault, those of the package alone, which have to pass.
    """
    here = Path.cwd()
    folder = Path("tests") / package
    everything = [Path("tests") / name for name in TESTS[package]] if package in TESTS else [folder]
    changed = [
        path
        for path in modules_of(package, here)
        if path.read_bytes() != (ROOT / path.relative_to(here)).read_bytes()
    ]
    mirrors = [_mirror(path.relative_to(here / "src" / "glasshouse")) for path in changed]
    rounds = [[mirror for mirror in mirrors if mirror.is_file()], everything, [Path("tests/laws")]]
    for tests in rounds:
        if tests and (code := _pytest(tests)):
            return code
    return 0


def _mirror(module: Path) -> Path:
    return Path("tests") / module.parent / f"test_{module.name}"


def _pytest(tests: list[Path]) -> int:
    quickly = ["-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "timeout=120"]
    command = [os.environ["MUTANTS_PYTHON"], "-m", "pytest", *quickly, *map(str, tests)]
    return subprocess.run(command, check=False, capture_output=True).returncode


if __name__ == "__main__":
    main()
