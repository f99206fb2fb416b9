"""Ants and bees from MobileNetV2's features: from nothing to a report, through the real command.

Claims: at least 90 % on the val folder, in at most 60 s with an empty cache.
Run: GLASSHOUSE_DATA=DATA python bench/transfer_hymenoptera.py [repeats]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contest import data_folder, judge, machine

DATA = data_folder()
WEIGHTS = DATA / "weights/imagenet/mobilenetv2_100_tfsame.fp16.safetensors"
BACKBONE = "mobilenetv2_100:pad_type=same,mean=0.5,std=0.5"


def once() -> tuple[float, float, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "glasshouse", "train", str(DATA / "hymenoptera"),
             "--recipe", "transfer-features", "--backbone", BACKBONE, "--weights", str(WEIGHTS),
             "--out", f"{folder}/run", "--json"],
            env={**os.environ, "GLASSHOUSE_CACHE": f"{folder}/cache"},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        assert (Path(folder) / "run" / "report.html").is_file()
        accuracy = json.loads(done.stdout)["accuracy"]
        return seconds, accuracy["value"], [accuracy["low"], accuracy["high"]]


def main() -> None:
    print(machine())
    rounds = [once() for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)]
    seconds = sorted(each[0] for each in rounds)[len(rounds) // 2]
    accuracy, interval = rounds[0][1], rounds[0][2]
    print(json.dumps({"seconds": round(seconds, 1), "accuracy": accuracy, "interval": interval}))
    holds = [
        judge("seconds from nothing to a report", seconds, 60, at_least=False),
        judge("% of the val folder right", 100 * accuracy, 90),
    ]
    sys.exit(not all(holds))


if __name__ == "__main__":
    main()
