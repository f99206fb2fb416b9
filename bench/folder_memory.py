"""A folder of 20,000 photos: time to decode it, and the largest memory of decoding and reading.

    python bench/folder_memory.py [photos] [pixels a side]

Claim: at most 1.5 GiB, whatever the size of the photos, for decoding and for `glasshouse train`.

The photos are made in a temporary folder: 20 different JPEGs with other last bytes, so that no two
files are equal. Then the cache is built, opened again, one epoch of random batches is read, and
`glasshouse train` trains, measures and reports on them with a small net.
"""

import io
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from contest import judge, machine
from PIL import Image

from glasshouse.data.pixel_blocks import gather
from glasshouse.data.sources import load_splits
from glasshouse.settings import DataSettings

BATCH = 32


def write_photos(root: Path, count: int, side: int) -> int:
    random = np.random.default_rng(0)
    jpegs = []
    for _ in range(20):
        small = random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG")
        jpegs.append(buffer.getvalue())
    for number in range(count):
        folder = root / f"class{number % 10}"
        folder.mkdir(exist_ok=True)
        # Bytes behind the end of a JPEG are not read, but make the file another one.
        (folder / f"{number:06d}.jpg").write_bytes(jpegs[number % 20] + b"%d" % number)
    return sum(len(jpegs[number % 20]) for number in range(count))


def peak_mib(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0.0
    return int(line.split()[1]) / 1024


def watch(peaks: dict[int, float], stop: threading.Event) -> None:
    """The high-water mark of this process and of its children."""
    own = os.getpid()
    while not stop.wait(0.2):
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        for tasks in Path(f"/proc/{own}/task").iterdir():
            try:
                children += (tasks / "children").read_text().split()
            except OSError:
                continue
        for process in {own, *map(int, children)}:
            peaks[process] = max(peaks.get(process, 0.0), peak_mib(process))


def train_peak_mib(photos: Path, side: int) -> float:
    """The largest memory of a whole training run in a process of its own, decoding left out."""
    layers = (
        "[{type='conv', filters=8, kernel_size=8, strides=8, activation='relu'},"
        " {type='global_average_pool'}, {type='dense', units='classes'}]"
    )
    arguments = ["train", str(photos), "--recipe", "small-cnn", "--set", "train.epochs=1"]
    arguments += ["--set", f"data.image_size={side}", "--set", f"model.layers={layers}"]
    # The photos are copies of twenty, which is no way to measure a net, but one to measure memory.
    arguments += ["--set", "data.on_finding=ignore", "--out", str(photos.parent / "run")]
    subprocess.run([sys.executable, "-m", "glasshouse", *arguments], check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main(count: int, side: int) -> bool:
    print(machine())
    peaks: dict[int, float] = {}
    stop = threading.Event()
    threading.Thread(target=watch, args=(peaks, stop), daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GLASSHOUSE_CACHE"] = str(Path(folder, "cache"))
        photos = Path(folder, "photos")
        photos.mkdir()
        size = write_photos(photos, count, side)
        print(f"{count} photos of {side} x {side} pixels, {size / 1e6:.0f} MB")
        settings = DataSettings(image_size=side)
        for what in ("decoded and cached", "opened again"):
            start = time.perf_counter()
            splits = load_splits(photos, settings)
            print(f"{what} in {time.perf_counter() - start:.1f} s")
        train = splits.train.pixels
        order = np.random.default_rng(0).permutation(len(train))
        start = time.perf_counter()
        for first in range(0, len(order), BATCH):
            gather(train, order[first : first + BATCH])
        seconds = time.perf_counter() - start
        print(f"an epoch of {len(order)} images ({train.nbytes / 1e6:.0f} MB) in {seconds:.1f} s")
        time.sleep(0.5)
        stop.set()
        trained = train_peak_mib(photos, side)
    print(f"peak memory of this process: {peaks[os.getpid()]:.0f} MiB")
    held = [
        judge("GiB of decoding and reading, processes summed", sum(peaks.values()) / 1024, 1.5,
              at_least=False),
        judge("GiB of `glasshouse train`, start to report", trained / 1024, 1.5, at_least=False),
    ]  # fmt: skip
    return all(held)


if __name__ == "__main__":
    held = main(*(int(sys.argv[n]) if len(sys.argv) > n else d for n, d in ((1, 20_000), (2, 224))))
    sys.exit(not held)
