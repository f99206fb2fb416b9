"""What five exact nearest neighbours among a million rows of features cost, per query.

Rows in half precision, memory-mapped as those of a run, on two cores; the file is in memory after
the first pass. Prints milliseconds for one query and, per query, for 64 of them together.
Run: python bench/neighbours.py
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from contest import machine

from glasshouse.models.neighbours import nearest_rows, squared_lengths, unit_rows

ROWS = 1_000_000


def milliseconds(known: np.ndarray, queries: int) -> float:
    """Per query, the median of three rounds."""
    asked = unit_rows(np.random.default_rng(1).normal(size=(queries, known.shape[1])))
    times, squares = [], squared_lengths(known)
    for _ in range(4):
        started = time.perf_counter()
        nearest_rows(known, asked, 5, squares)
        times.append(1000 * (time.perf_counter() - started) / queries)
    return sorted(times[1:])[1]


def main() -> None:
    torch.set_num_threads(2)
    print(machine())
    for width in (64, 256, 512):
        with tempfile.TemporaryDirectory() as folder:
            known = np.lib.format.open_memmap(
                Path(folder) / "rows.npy", "w+", np.float16, (ROWS, width)
            )
            random = np.random.default_rng(0)
            for start in range(0, ROWS, 50_000):
                values = random.standard_normal((50_000, width), dtype=np.float32)
                known[start : start + 50_000] = unit_rows(values)
            one, many = milliseconds(known, 1), milliseconds(known, 64)
        print(f"{ROWS:,} rows of {width}: {one:,.0f} ms for one query, {many:,.1f} ms each for 64")


if __name__ == "__main__":
    main()
