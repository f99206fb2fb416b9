"""The tables of docs/scaling.md are what their formulas give for the measured rates."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
RATES = json.loads((ROOT / "docs" / "rates.json").read_text(encoding="utf-8"))
HEADINGS = re.compile(r"^### ([\d,]+) images, (.+) of cache$", re.M)
UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "B": 1, "MB": 1e6, "GB": 1e9, "TB": 1e12}
ROW = re.compile(r"^\| (\d+) \| (\d+) \| (.+?) \| (.+?) \| ([\d.]+) \| (.+?) \| (.+?) \|$", re.M)


def number(text: str) -> float:
    value, unit = text.replace(",", "").split()
    return float(value) * UNITS[unit]


def sections() -> dict[int, list[tuple[str, ...]]]:
    parts = re.split(r"^### ([\d,]+) images", PAGE, flags=re.M)[1:]
    return {
        int(images.replace(",", "")): ROW.findall(text)
        for images, text in zip(parts[::2], parts[1::2], strict=True)
    }


def test_every_number_of_images_and_processes_is_there() -> None:
    assert list(sections()) == [10**5, 10**6, 10**7]
    for rows in sections().values():
        assert [int(row[0]) for row in rows] == [1, 2, 4, 8, 16, 32, 64]


def test_the_size_of_the_cache_is_three_bytes_a_pixel() -> None:
    found = HEADINGS.findall(PAGE)
    assert len(found) == 3
    for images, size in found:
        expected = int(images.replace(",", "")) * 3 * 64 * 64
        assert number(size) == pytest.approx(expected, rel=0.03)


def exchange(processes: int, bandwidth: float) -> float:
    """Seconds of the exchanges of an update: 8 processes of a machine, then the machines."""
    memory = float(RATES["memory_exchange_seconds"])
    if processes <= 8:
        return memory if processes > 1 else 0.0
    levels = (processes // 8).bit_length() - 1
    each = RATES["network_exchange_seconds"] / 8 + RATES["gradient_bytes"] / bandwidth
    return float(memory + levels * each)


@pytest.mark.parametrize("images", [10**5, 10**6, 10**7])
def test_the_figures_follow_from_the_rates(images: int) -> None:
    updates = 30 * math.ceil(images / 256)
    alone = 30 * images / RATES["trained_per_second"]
    for count, machines, reading, training, speedup, memory, sent in sections()[images]:
        processes = int(count)
        assert int(machines) == math.ceil(processes / 8)
        levels = int(machines).bit_length() - 1
        expected = alone / processes + updates * exchange(processes, 1.25e9)
        # Printed with one digit after the point, and seconds with none.
        near: Any = {"rel": 0.03, "abs": 0.5}
        assert number(training) == pytest.approx(expected, **near)
        assert number(reading) == pytest.approx(
            images / RATES["decoded_per_second"] / min(processes, 8), **near
        )
        assert float(speedup) == pytest.approx(alone / expected, abs=0.06)
        assert number(memory) == pytest.approx(
            processes * (RATES["process_bytes"] + 120 * images), rel=0.05
        )
        assert number(sent) == pytest.approx(updates * levels * RATES["gradient_bytes"], rel=0.05)


def test_the_speedups_of_a_slower_network_follow_from_the_rates() -> None:
    def times(processes: int, bandwidth: float) -> float:
        alone = 256 / RATES["trained_per_second"]
        return float(alone / (alone / processes + exchange(processes, bandwidth)))

    text = PAGE.partition("## Where it stops")[2]
    said = [float(found) for found in re.findall(r"([\d.]+) times", text)]
    wanted = [times(64, 1.25e9), times(64, 1.25e8), times(32, 1.25e8)]
    assert said == pytest.approx(wanted, abs=0.06)


def test_the_page_is_what_the_bench_script_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import scaling  # type: ignore[import-not-found]

    text = PAGE.partition(scaling.START)[2].partition(scaling.END)[0]
    assert text.strip() == scaling.tables(RATES).strip()
    sys.modules.pop("scaling")


def test_the_rates_say_when_and_where_they_were_measured() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", RATES["date"]) and RATES["processor"]
    assert all(value > 0 for value in RATES.values() if not isinstance(value, str))
