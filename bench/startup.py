"""How long a command takes from a cold start to its answer, compared with importing torch.

Claims: `predict` of one photo needs at most 0.7 s more than `python -c "import torch"`, `explain
--method grad-cam --no-checks` at most 1.5 s more, `--help` at most 0.4 s in all, and `explain` with
all maps and checks at most 3 s on top of its imports. Each command runs in a process of its own,
taken in turns; a claim is judged by the differences within each turn. Reads nothing but the bundled
photo and model.

    python bench/startup.py --rounds 7
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from contest import judge_rounds, machine

from glasshouse.models.known_names import EXAMPLE_PHOTO

MODEL = "cifar10-small"
# Runs the command and writes down every module it imported, in the order of the imports.
RECORD = """
import json, sys
from pathlib import Path
from glasshouse.cli.main import main
try:
    main()
finally:
    names = [name for name in sys.modules if "__main__" not in name]
    Path({file!r}).write_text(json.dumps(names))
"""
# Modules that are created without an import, torch.ops for example, cannot be imported by name.
REPLAY = """
import contextlib, importlib, json
from pathlib import Path
for name in json.loads(Path({file!r}).read_text()):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(f"{machine()}: {arguments.rounds} turns", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        times = measure(commands(Path(folder)), arguments.rounds)
    for name, seconds in times.items():
        print(f"{name:<18} {spread(seconds)}")
    held = [
        judge_rounds(claim, seconds, bound, at_least=False)
        for claim, seconds, bound in (
            ("--help, s", times["help"], 0.4),
            ("predict - import torch, s", gaps(times, "predict", "torch"), 0.7),
            ("grad-cam - import torch, s", gaps(times, "grad-cam", "torch"), 1.5),
            ("explain all - its imports, s", gaps(times, "all", "imports"), 3),
        )
    ]
    raise SystemExit(not all(held))


def commands(folder: Path) -> dict[str, list[str]]:
    """What is timed, by name; `imports` imports all that `all` does and ends."""
    photo, glasshouse = str(EXAMPLE_PHOTO), [sys.executable, "-m", "glasshouse"]
    explain = ["explain", MODEL, photo, "--out", str(folder / "explanations")]
    modules = str(folder / "modules.json")
    record = [sys.executable, "-c", RECORD.format(file=modules), *explain]
    subprocess.run(record, check=True, capture_output=True)
    return {
        "torch": [sys.executable, "-c", "import torch"],
        "help": [*glasshouse, "--help"],
        "predict": [*glasshouse, "predict", MODEL, photo],
        "grad-cam": [*glasshouse, *explain, "--method", "grad-cam", "--no-checks"],
        "imports": [sys.executable, "-c", REPLAY.format(file=modules)],
        "all": [*glasshouse, *explain],
    }


def measure(what: Mapping[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each command in each round; the round before the first warms the file cache."""
    times: dict[str, list[float]] = {name: [] for name in what}
    for turn in range(rounds + 1):
        for name, command in what.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if turn:
                times[name].append(time.perf_counter() - started)
    return times


def gaps(times: Mapping[str, list[float]], longer: str, shorter: str) -> list[float]:
    """The difference within each round, in which both meet the same machine."""
    pairs = zip(times[longer], times[shorter], strict=True)
    return [more - less for more, less in pairs]


def spread(seconds: list[float]) -> str:
    median = statistics.median(seconds)
    return f"{median:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
