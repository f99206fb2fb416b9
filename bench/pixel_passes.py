"""How many bytes are read per byte of pixels before the first training step.

Opens an experiment as `glasshouse train` does, on a folder of generated images with an empty cache
and with a full one, and on digits, which are in memory. Expected: one pass each.

    python bench/pixel_passes.py [--count 600] [--size 64]
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glasshouse.data import cache, cache_entry, pixel_blocks
from glasshouse.recipe import load_recipe
from glasshouse.workflow.train.experiment import TrainRequest, open_experiment

READ = {"bytes": 0}


def count_reads() -> None:
    """Count what the two functions read that all pixels pass through."""
    copy_rows, file_blocks = pixel_blocks._copy_rows, cache_entry.file_blocks

    def counting_rows(images: np.ndarray, positions: np.ndarray) -> np.ndarray:
        rows = copy_rows(images, positions)
        READ["bytes"] += rows.nbytes
        return rows

    def counting_blocks(file: Any, *arguments: Any) -> Iterator[bytes]:
        for block in file_blocks(file, *arguments):
            READ["bytes"] += len(block)
            yield block

    pixel_blocks._copy_rows = counting_rows
    cache.file_blocks = cache_entry.file_blocks = counting_blocks  # type: ignore[assignment]


def write_images(folder: Path, count: int, size: int) -> None:
    """Two classes of noise."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("ant", "bee")[number % 2] / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)


def passes(source: str, out: Path, size: int) -> float:
    """Bytes read per byte of pixels until everything is ready for the first step."""
    READ["bytes"] = 0
    overrides = [f"data.image_size={size}", "model.scaling=standardize"]
    recipe = load_recipe("small-cnn", overrides)
    splits = open_experiment(
        TrainRequest(source=source, recipe=recipe, out=out, command="bench")
    ).splits
    whole = sum(part.pixels.nbytes for part in (splits.train, splits.validation, splits.test))
    return READ["bytes"] / whole


def main() -> None:
    """Print the passes of each case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--size", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["GLASSHOUSE_CACHE"] = str(root / "cache")
        write_images(root / "images", arguments.count, arguments.size)
        count_reads()
        for name in ("cold cache", "warm cache"):
            found = passes(str(root / "images"), root / name, arguments.size)
            print(f"folder, {name}: {found:.2f} bytes read per byte of pixels")
        found = passes("digits", root / "digits", 8)
        print(f"digits, in memory: {found:.2f} bytes read per byte of pixels")


if __name__ == "__main__":
    main()
