"""Flip bits in good image files and cut them short: no crash, no hang, each bad file named.

    python bench/fuzz_decode.py [mutations]

Good files come from GLASSHOUSE_DATA (photos and odd-images) where it is set, and are made in every
format that can be written otherwise. The mutated files are decoded by the processes that read
folders, so a crash or a hang would be reported as such and counted.
"""

import io
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from glasshouse.data.decode import decode
from glasshouse.data.workers import Fitting, decode_files
from glasshouse.errors import BadImage

HANG_S = 5.0


def good_files() -> list[bytes]:
    folder = os.environ.get("GLASSHOUSE_DATA")
    if not folder:
        return made_files()
    found = []
    for path in sorted(Path(folder, "odd-images").iterdir()) + sorted(
        Path(folder, "photos").rglob("*.jpg")
    ):
        try:
            decode(path)
        except BadImage:
            continue
        found.append(path.read_bytes())
    return found + made_files()


def made_files() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((128, 96))
    made = []
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        made.append(buffer.getvalue())
    return made


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    if random.random() < 0.25:
        return data[: int(random.integers(0, len(data)))]
    changed = bytearray(data)
    # Half of the flips hit the first bytes, where the headers are.
    reach = len(data) if random.random() < 0.5 else min(len(data), 256)
    for place in random.integers(0, reach, 1 + int(random.integers(0, 8))):
        changed[place] ^= 1 << int(random.integers(0, 8))
    return bytes(changed)


def main(count: int) -> int:
    random = np.random.default_rng(0)
    seeds = good_files()
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number in range(count):
            path = Path(folder, f"{number:05d}.bin")
            path.write_bytes(mutate(seeds[number % len(seeds)], random))
            paths.append(path)
        start = time.perf_counter()
        results = list(decode_files(paths, Fitting(64, 64, "crop"), timeout_s=HANG_S))
        seconds = time.perf_counter() - start
    lost = [r for r in results if "crashed" in r.reason]
    unnamed = [r for r in results if not r.pixels and not r.reason]
    print(f"{count} mutations of {len(seeds)} good files in {seconds:.1f} s")
    print(f"read {sum(bool(r.pixels) for r in results)}, ", end="")
    print(f"named as bad {sum(bool(r.reason) for r in results)}")
    print(f"crashed or hung (> {HANG_S:g} s): {len(lost)}; bad without a reason: {len(unnamed)}")
    for reason, times in Counter(r.reason.split(":")[0] for r in results).most_common(12):
        print(f"  {times:5d}  {reason or 'read'}")
    return len(lost) + len(unnamed) + (len(results) != count)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2600))
