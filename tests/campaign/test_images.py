"""Image files with flipped bits or cut short: no crash, no hang, each bad one with a reason."""

import io
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glasshouse.data.decode import decode
from glasshouse.data.fitting import Fitting
from glasshouse.data.workers import decode_files
from glasshouse.errors import BadImage

# A hang is ended after so long, and its image named as such.
HANG_S = 60.0
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000")
ROUND = 2000  # files that are on the disk at the same time


def made_files() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((128, 96))
    made = []
    for kind in FORMATS:
        buffer = io.BytesIO()
        image.save(buffer, kind)
        made.append(buffer.getvalue())
    return made


def real_files() -> list[bytes]:
    """The photos and odd images of GLASSHOUSE_DATA that can be read."""
    folder = os.environ.get("GLASSHOUSE_DATA")
    found = []
    for path in [] if not folder else sorted(Path(folder).glob("*/**/*.*")):
        if path.suffix.lower() not in (".jpg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp"):
            continue
        try:
            decode(path)
        except BadImage:
            continue
        found.append(path.read_bytes())
    # Large files would take most of the time, and fail at the same places as small ones.
    return [data for data in found if len(data) < 200_000][:200]


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """The file cut short, or with up to eight bits flipped."""
    if random.random() < 0.25:
        return data[: int(random.integers(0, len(data)))]
    changed = bytearray(data)
    # Half of the flips hit the first bytes, where the headers are.
    reach = len(data) if random.random() < 0.5 else min(len(data), 256)
    for place in random.integers(0, reach, 1 + int(random.integers(0, 8))):
        changed[place] ^= 1 << int(random.integers(0, 8))
    return bytes(changed)


def decode_mutations(folder: Path, good: list[bytes], count: int) -> Counter[str]:
    """How often each reason was given; "read" for those that can still be read."""
    random = np.random.default_rng(0)
    reasons: Counter[str] = Counter()
    for first in range(0, count, ROUND):
        paths = [folder / f"{k:06d}.bin" for k in range(first, min(first + ROUND, count))]
        for number, path in enumerate(paths, first):
            path.write_bytes(mutated(good[number % len(good)], random))
        results = list(decode_files(paths, Fitting(64, 64, "crop"), timeout_s=HANG_S))
        assert len(results) == len(paths)
        for path, result in zip(paths, results, strict=True):
            kept = path.rename(path.with_suffix(".bad")) if "crashed" in result.reason else path
            assert "crashed" not in result.reason, f"{kept}: {result.reason}"
            assert bool(result.pixels) != bool(result.reason), f"{path}: {result}"
            reasons[result.reason.split(":")[0] or "read"] += 1
            path.unlink()
    return reasons


def test_mutated_images_are_read_or_named(tmp_path: Path) -> None:
    reasons = decode_mutations(tmp_path, made_files(), 300)
    assert reasons.total() == 300
    assert reasons["read"] > 20 and len(reasons) > 5


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_100_000_mutated_images_are_read_or_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = made_files() + real_files()
    started = time.monotonic()
    reasons = decode_mutations(tmp_path, good, 100_000)
    assert reasons.total() == 100_000
    with capsys.disabled():
        seconds = time.monotonic() - started
        print(f"\n  100,000 mutations of {len(good)} files in {seconds:.0f} s, {dict(reasons)}")
