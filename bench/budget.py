"""`glasshouse train --minutes M` ends in time: wall clock of the command, all of it.

Claim: at most M minutes, for 1 and 3, on real CIFAR-10 with the recipe that the command takes when
none is named. Prints the time used, what was chosen and the test accuracy. Reads GLASSHOUSE_DATA.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contest import judge, machine

MINUTES = (1.0, 3.0)


def train(minutes: float, out: Path) -> tuple[float, dict[str, object]]:
    """Seconds of the command, and what it printed."""
    command = [sys.executable, "-m", "glasshouse", "train", "cifar10", "--minutes", f"{minutes:g}",
               "--out", str(out), "--json"]  # fmt: skip
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return time.monotonic() - started, json.loads(done.stdout)


def main() -> None:
    print(machine())
    held = []
    for minutes in [float(word) for word in sys.argv[1:]] or MINUTES:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            seconds, result = train(minutes, out)
            environment = json.loads((out / "environment.json").read_text())
        accuracy = result["accuracy"]
        assert isinstance(accuracy, dict)
        print(f"  {minutes:g} minutes: test accuracy {accuracy['value']:.2%} "
              f"({accuracy['low']:.2%} to {accuracy['high']:.2%}) in {seconds:.1f} s; "
              f"{environment['budget']['plan']}")  # fmt: skip
        held.append(judge(f"{minutes:g} minutes, seconds used", seconds, 60 * minutes,
                          at_least=False))  # fmt: skip
    raise SystemExit(not all(held))


if __name__ == "__main__":
    main()
