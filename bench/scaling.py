"""Rates of this machine, and what large data sets then cost: the tables of docs/scaling.md.

    python bench/scaling.py measure      writes docs/rates.json and the tables
    python bench/scaling.py tables       writes the tables from docs/rates.json

The rates are those of one process with one thread. Everything else is arithmetic, which
tests/architecture/test_scaling.py repeats.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from contest import machine

ROOT = Path(__file__).parents[1]
RATES, PAGE = ROOT / "docs" / "rates.json", ROOT / "docs" / "scaling.md"
START, END = "<!-- tables: bench/scaling.py -->", "<!-- end of tables -->"
SIZE, EPOCHS, BATCH, SHARDS = 64, 30, 256, 64
IMAGES, PROCESSES = (10**5, 10**6, 10**7), (1, 2, 4, 8, 16, 32, 64)
# Reading is done by the first machine, training by all.
CORES = 8
RECIPE = "small-residual"


def disk_bytes(images: int) -> int:
    """The cache: three bytes for each pixel, once."""
    return images * 3 * SIZE * SIZE


def reading_seconds(images: int, processes: int, rates: dict[str, float]) -> float:
    """Decoding every file once, on the cores of the first machine."""
    return images / (rates["decoded_per_second"] * min(processes, CORES))


def steps(images: int) -> int:
    """Updates per epoch."""
    return math.ceil(images / BATCH)


def exchanges(processes: int) -> int:
    """Exchanges per update: one for each level of the tree of processes."""
    return int(math.log2(processes))


def training_seconds(images: int, processes: int, rates: dict[str, float]) -> float:
    """All epochs: the share of each process, and the exchanges of every update."""
    computed = images / (rates["trained_per_second"] * processes)
    exchanged = steps(images) * exchanges(processes) * rates["exchange_seconds"]
    return EPOCHS * (computed + exchanged)


def traffic_bytes(images: int, processes: int, rates: dict[str, float]) -> float:
    """What each process sends in all epochs; it receives as much."""
    return EPOCHS * steps(images) * exchanges(processes) * rates["gradient_bytes"]


def memory_bytes(images: int, processes: int, rates: dict[str, float]) -> float:
    """What the processes take in all, without the cache of the images, which is mapped."""
    return processes * (rates["process_bytes"] + images * rates["bytes_per_image"])


def duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def size(count: float) -> str:
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= length:
            return f"{count / length:,.1f} {unit}"
    return f"{count:,.0f} B"


def tables(rates: dict[str, float]) -> str:
    """A table for each number of images."""
    found = [
        f"Measured on {rates['date']} on {rates['processor']}: "
        f"{rates['decoded_per_second']:,.0f} files decoded and {rates['trained_per_second']:,.0f} "
        f"images trained per second and core; an exchange of {size(rates['gradient_bytes'])} takes "
        f"{rates['exchange_seconds'] * 1000:.1f} ms.\n"
    ]
    for images in IMAGES:
        found.append(f"\n### {images:,} images, {size(disk_bytes(images))} of cache\n")
        head = ["processes", "reading, once", "training", "speed-up", "memory", "each sends"]
        found += [f"| {' | '.join(head)} |", "|--:" * len(head) + "|"]
        alone = training_seconds(images, 1, rates)
        for count in PROCESSES:
            trained = training_seconds(images, count, rates)
            cells = [
                f"{count}", duration(reading_seconds(images, count, rates)), duration(trained),
                f"{alone / trained:.1f}", size(memory_bytes(images, count, rates)),
                size(traffic_bytes(images, count, rates)),
            ]  # fmt: skip
            found.append(f"| {' | '.join(cells)} |")
    return "\n".join(found) + "\n"


def measure() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        count = write_images(folder / "images")
        trained = train(folder, count)
    exchange = measure_exchange(int(trained["gradient_bytes"]))
    return {
        "date": datetime.now(UTC).date().isoformat(), "processor": machine(),
        **trained, "exchange_seconds": exchange,
    }  # fmt: skip


def write_images(folder: Path, count: int = 2000) -> int:
    """Photos-like JPEG files of 256x256: smooth noise."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(count):
        low = random.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        path = folder / f"class{number % 10}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(low).resize((256, 256), Image.Resampling.BICUBIC).save(path, quality=90)
    return count


def train(folder: Path, count: int) -> dict[str, float]:
    """The rates of the real command in one process with one thread."""
    os.environ.update(OMP_NUM_THREADS="1", GLASSHOUSE_CACHE=str(folder / "cache"))
    from glasshouse.data.sources import load_splits
    from glasshouse.settings import DataSettings

    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    started = time.perf_counter()
    load_splits(str(folder / "images"), DataSettings(image_size=SIZE))
    decoded = count / (time.perf_counter() - started)
    os.sched_setaffinity(0, allowed)
    values = {"train.epochs": 3, "train.batch_size": BATCH, "train.shards": SHARDS,
              "data.image_size": SIZE, "data.on_finding": "ignore"}  # fmt: skip
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    run = folder / "run"
    source = str(folder / "images")
    words = [sys.executable, "-m", "glasshouse", "train", source, "--recipe", RECIPE]
    subprocess.run([*words, *sets, "--out", str(run)], check=True, capture_output=True)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    cost = json.loads((run / "cost.json").read_text())
    return {
        "decoded_per_second": decoded,
        "trained_per_second": statistics.median(line["images_per_second"] for line in lines[1:]),
        "gradient_bytes": (run / "model.safetensors").stat().st_size,
        "process_bytes": cost["peak_memory_bytes"],
        # An estimate: ids of 25 characters, four bytes each, a label and a place in the order.
        "bytes_per_image": 120,
    }


def measure_exchange(count: int) -> float:
    """Seconds of an exchange of the gradients between two processes of this machine."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, __file__, "exchange", str(count)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(done.stdout.splitlines()[-1])


def exchange(count: int) -> None:
    import torch

    from glasshouse.training.process_group import joined

    with joined() as group:
        own, times = torch.ones(count // 4), []
        for _ in range(30):
            started = time.perf_counter()
            group.sum(own)
            times.append(time.perf_counter() - started)
        if group.is_first:
            print(statistics.median(times))


def write_tables() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    text = tables(json.loads(RATES.read_text(encoding="utf-8")))
    PAGE.write_text(f"{before}{START}\n\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["exchange"]:
        exchange(int(sys.argv[2]))
        sys.exit()
    if sys.argv[1:] == ["measure"]:
        RATES.write_text(json.dumps(measure(), indent=2) + "\n", encoding="utf-8")
    write_tables()
