"""Many small images: time per image of 200,000 files and of 20,000, and of splitting a million ids.

    python bench/many_files.py [ROUNDS]

Claims: listing, splitting and caching a folder takes at most 1.2 times as long per image with ten
times as many files; a million ids are shuffled and split in less than 2 s and 1 GiB. Each folder is
made in a temporary directory (200,000 files need 1 GB on most file systems), and each figure is
measured in a fresh process: in turns, as seconds of the processor and as seconds of the clock.
"""

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from contest import judge, judge_rounds, machine
from PIL import Image

FEW, MANY, IDS, SIDE = 20_000, 200_000, 1_000_000, 32


def write_images(root: Path, count: int) -> None:
    random = np.random.default_rng(0)
    encoded = []
    for _ in range(200):
        buffer = io.BytesIO()
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    for label in range(10):
        (root / f"class{label}").mkdir(parents=True)
    for number in range(count):
        # Bytes behind the end of a PNG are not read, but make the file another one.
        content = encoded[number % 200] + b"%d" % number
        (root / f"class{number % 10}" / f"{number:06d}.png").write_bytes(content)


def read(folder: str) -> dict[str, float]:
    """Seconds of listing, splitting and caching a folder, with the workers that decode."""
    from glasshouse.data.sources import load_splits
    from glasshouse.settings import DataSettings

    started = time.perf_counter()
    splits = load_splits(folder, DataSettings(image_size=SIDE))
    seconds = time.perf_counter() - started
    count = sum(len(part) for part in (splits.train, splits.validation, splits.test) if part)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "images": count,
        "clock": seconds,
        "processor": sum(each.ru_utime + each.ru_stime for each in used),
        "MiB": used[0].ru_maxrss / 1024,
    }


def split() -> dict[str, float]:
    """Seconds of shuffling and splitting a million ids, and the memory of the whole process."""
    from glasshouse.data.splits import three_way_split
    from glasshouse.rng import keys_of, permutation

    labels = np.arange(IDS) % 10
    ids = np.array([f"class{label}/image_{n:07}.jpg" for n, label in enumerate(labels.tolist())])
    started = time.perf_counter()
    train, _, _ = three_way_split(ids, labels, validation_fraction=0.1, test_fraction=0.2, seed=0)
    permutation(0, "order", 0, keys_of(ids[train]))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images": IDS, "clock": seconds, "MiB": peak}


def measured(*arguments: str) -> dict[str, float]:
    """What a process of its own prints."""
    with tempfile.TemporaryDirectory() as cache:
        found = subprocess.run(
            [sys.executable, __file__, *arguments],
            env={**os.environ, "GLASSHOUSE_CACHE": cache},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    result: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    print(*arguments[:1], {name: round(value, 2) for name, value in result.items()}, flush=True)
    return result


def main(rounds: int) -> bool:
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for count in (FEW, MANY):
            write_images(Path(folder, str(count)), count)
        ratios: dict[str, list[float]] = {"clock": [], "processor": []}
        splits = []
        for _ in range(rounds):
            few, many = (measured("read", f"{folder}/{count}") for count in (FEW, MANY))
            if (few["images"], many["images"]) != (FEW, MANY):
                raise SystemExit("images are missing")
            for clock, values in ratios.items():
                values.append(many[clock] / MANY / (few[clock] / FEW))
            splits.append(measured("split"))
    held = [
        judge_rounds("times as long per image", ratios["clock"], 1.2, at_least=False),
        judge_rounds("... in seconds of the processor", ratios["processor"], 1.2, at_least=False),
        judge_rounds("seconds of a million ids", [s["clock"] for s in splits], 2, at_least=False),
        judge("GiB of a million ids", max(s["MiB"] for s in splits) / 1024, 1, at_least=False),
    ]  # fmt: skip
    return all(held)


if __name__ == "__main__":
    if sys.argv[1:2] == ["read"]:
        print(json.dumps(read(sys.argv[2])))
    elif sys.argv[1:2] == ["split"]:
        print(json.dumps(split()))
    else:
        sys.exit(not main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
