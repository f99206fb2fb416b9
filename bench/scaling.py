"""Rates of this machine, and what large data sets then cost: the tables of docs/scaling.md.

    python bench/scaling.py measure      writes docs/rates.json and the tables
    python bench/scaling.py tables       writes the tables from docs/rates.json

The rates are those of one process with one thread, in processor time. Everything else is
arithmetic, which tests/architecture/test_scaling.py repeats.
"""

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contest import machine

ROOT = Path(__file__).parents[1]
RATES, PAGE = ROOT / "docs" / "rates.json", ROOT / "docs" / "scaling.md"
START, END = "<!-- tables: bench/scaling.py -->", "<!-- end of tables -->"
SIZE, EPOCHS, BATCH, SHARDS = 64, 30, 256, 64
IMAGES, PROCESSES = (10**5, 10**6, 10**7), (1, 2, 4, 8, 16, 32, 64)
# Of each machine. Reading is done by the first one, training by all.
CORES = 8
# Bytes per second that the network of the tables carries from one machine: 10 Gbit/s. It is given,
# not measured.
NETWORK = 1.25e9
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
    """Exchanges per update between machines, one for each level of the tree above them."""
    return int(math.log2(max(1, processes // CORES)))


def exchange_seconds(processes: int, rates: dict[str, float], network: float = NETWORK) -> float:
    """A sum within each machine, and exchanges between them, where each process sends its part."""
    within = rates["memory_exchange_seconds"] if processes > 1 else 0.0
    by_network = rates["network_exchange_seconds"] / CORES
    carried = rates["gradient_bytes"] / network
    return within + exchanges(processes) * (by_network + carried)


def training_seconds(
    images: int, processes: int, rates: dict[str, float], network: float = NETWORK
) -> float:
    """All epochs: the share of each process, and the exchanges of every update."""
    computed = images / (rates["trained_per_second"] * processes)
    return EPOCHS * (computed + steps(images) * exchange_seconds(processes, rates, network))


def traffic_bytes(images: int, processes: int, rates: dict[str, float]) -> float:
    """What each machine sends in all epochs; it receives as much."""
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
        f"images trained per second and core. A sum of {size(rates['gradient_bytes'])} takes "
        f"{rates['memory_exchange_seconds'] * 1000:.2f} ms in shared memory, and "
        f"{rates['network_exchange_seconds'] * 1000:.1f} ms through gloo before the network has "
        "carried anything.\n"
    ]
    for images in IMAGES:
        found.append(f"\n### {images:,} images, {size(disk_bytes(images))} of cache\n")
        head = ["processes", "machines", "reading, once", "training", "speed-up", "memory"]
        head.append("each sends")
        found += [f"| {' | '.join(head)} |", "|--:" * len(head) + "|"]
        alone = training_seconds(images, 1, rates)
        for count in PROCESSES:
            trained, machines = training_seconds(images, count, rates), -(-count // CORES)
            cells = [
                f"{count}", f"{machines}", duration(reading_seconds(images, count, rates)),
                duration(trained), f"{alone / trained:.1f}",
                size(memory_bytes(images, count, rates)), size(traffic_bytes(images, count, rates)),
            ]  # fmt: skip
            found.append(f"| {' | '.join(cells)} |")
    return "\n".join(found) + "\n"


def measure() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ.update(OMP_NUM_THREADS="1", GLASSHOUSE_CACHE=str(folder / "cache"))
        count = write_images(folder / "images")
        found = {"decoded_per_second": decoded(folder, count), **trained(folder)}
    exchanged = measure_exchanges(int(found["gradient_bytes"]))
    return {
        "date": datetime.now(UTC).date().isoformat(), "processor": machine(), **found, **exchanged,
        # An estimate: ids of 25 characters, four bytes each, a label and a place in the order.
        "bytes_per_image": 120,
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


def processor_seconds() -> float:
    """Of this process, and of those it has started that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def decoded(folder: Path, count: int) -> float:
    """Files decoded per second and core, by the function that every command reads images with."""
    from glasshouse.data.sources import load_splits
    from glasshouse.settings import DataSettings

    started = processor_seconds()
    load_splits(str(folder / "images"), DataSettings(image_size=SIZE))
    return count / (processor_seconds() - started)


def trained(folder: Path) -> dict[str, float]:
    """The rates of the real command in one process with one thread.

    Two runs differ by the epochs between them, which leaves the start of a run out.
    """
    seconds = {}
    for epochs in (1, 3):
        started = processor_seconds()
        run_training(folder, epochs)
        seconds[epochs] = processor_seconds() - started
    run = folder / "run-3"
    images = json.loads((run / "environment.json").read_text())["data"]["images"]["train"]
    return {
        "trained_per_second": 2 * images / (seconds[3] - seconds[1]),
        "gradient_bytes": (run / "model.safetensors").stat().st_size,
        "process_bytes": json.loads((run / "cost.json").read_text())["peak_memory_bytes"],
    }


def run_training(folder: Path, epochs: int) -> None:
    values = {"train.epochs": epochs, "train.batch_size": BATCH, "train.shards": SHARDS,
              "data.image_size": SIZE, "data.on_finding": "ignore"}  # fmt: skip
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    words = [sys.executable, "-m", "glasshouse", "train", str(folder / "images")]
    out = str(folder / f"run-{epochs}")
    subprocess.run([*words, "--recipe", RECIPE, *sets, "--out", out], check=True,
                   capture_output=True)  # fmt: skip


def measure_exchanges(count: int) -> dict[str, float]:
    """Seconds of an exchange of the gradients between two processes of this machine, both ways."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, __file__, "exchange", str(count)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def exchange(count: int) -> None:
    """Time exchanges in this process, as it does all processes do; the first one prints them."""
    from dataclasses import replace

    from glasshouse.training.process_group import joined

    with joined() as group:
        found = {
            "memory_exchange_seconds": exchange_time(group, count),
            # As between machines that share no memory.
            "network_exchange_seconds": exchange_time(replace(group, memory=None), count),
        }
        if group.is_first:
            print(json.dumps(found))


def exchange_time(group: Any, count: int) -> float:
    import torch

    own, times = torch.ones(count // 4), []
    for _ in range(100):
        # As training does: gradients are written where they are summed.
        place = group.place(count // 4)
        if place is not None:
            own = place.fill_(1.0)
        started = time.perf_counter()
        group.sum(own, changes=False)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


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
