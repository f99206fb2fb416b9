from pathlib import Path

import numpy as np

from glasshouse.data.fitting import Fitting
from glasshouse.data.workers import decode_files
from tests.data.image_files import all_formats


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """Truncated somewhere, or with a few bits flipped."""
    if random.random() < 0.4:
        return data[: int(random.integers(0, len(data)))]
    changed = bytearray(data)
    for place in random.integers(0, len(data), int(random.integers(1, 6))):
        changed[place] ^= 1 << int(random.integers(8))
    return bytes(changed)


def test_damaged_files_are_read_or_named_and_crash_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    paths = []
    for name, data in all_formats().items():
        for i in range(25):
            paths.append(tmp_path / f"{i:02}-{name}")
            paths[-1].write_bytes(mutate(data, random))
    results = list(decode_files(paths, Fitting(8, 8, "crop"), timeout_s=5))
    assert sorted(result.position for result in results) == list(range(len(paths)))
    for result in results:
        assert bool(result.pixels) != bool(result.reason), paths[result.position]
        assert len(result.pixels) in (0, 3 * 8 * 8)
        assert "crashed" not in result.reason, paths[result.position]
    named = sum(bool(result.reason) for result in results)
    assert 0.2 < named / len(results) < 0.95
