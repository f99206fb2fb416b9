"""An hour of glasshouse serve under load, with a model that is replaced every minute.

    python bench/serving_hour.py [--minutes 60] [--clients 64] [--workers 1]

Claims: every request is answered, each answer is the offline one of the weights before or after
the last replacement, every replacement is picked up, and memory stays the same within 20 MiB up and
down, without a drift. It is judged once the service is warm: after two minutes and 20,000 answers,
however long these take on a busy machine. What the service refuses (503, when other work stops it
for seconds) is counted, and asked again. Reads CIFAR-10 from GLASSHOUSE_DATA.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from contest import judge, machine
from serving import offline_answers, request_of, running, save_small, write_files, write_script

_WARM_SECONDS, _WARM_ANSWERS = 120.0, 20_000
_SAMPLE_SECONDS = 10.0
_TOLERANCE = 1e-5


@dataclass
class Tally:
    """What happened: answers by status and weights, lost requests, memory by second and answers."""

    statuses: Counter[int] = field(default_factory=Counter)
    answered_by: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    wrong: int = 0
    replaced: int = 0
    memory: list[tuple[float, int, float]] = field(default_factory=list)


Expected = list[dict[str, dict[str, float]]]


async def answer_to(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes
) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection stays open."""
    reader, writer = streams
    writer.write(data)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = re.search(rb"content-length: (\d+)", head)
    body = await reader.readexactly(int(length[1]) if length else 0)
    return int(head[9:12]), body, b"connection: close" not in head


async def ask(port: int, forms: list[bytes], ends: float, tally: Tally, expected: Expected) -> None:
    """One client that asks without a pause, and again for what was refused."""
    streams, turn = None, 0
    while time.monotonic() < ends:
        try:
            streams = streams or await asyncio.open_connection("127.0.0.1", port)
            status, body, stays = await answer_to(streams, request_of(forms[turn % len(forms)]))
        except (OSError, asyncio.IncompleteReadError):
            tally.lost += 1
            streams = None
            continue
        tally.statuses[status] += 1
        if status == 200:
            turn += 1
            judge_answer(body, tally, expected)
        else:
            await asyncio.sleep(1)
        if not stays:
            streams = None
    if streams:
        streams[1].close()


def judge_answer(body: bytes, tally: Tally, expected: Expected) -> None:
    """Which weights gave this answer."""
    (found,) = json.loads(body)["predictions"]
    for number, offline in enumerate(expected):
        wanted = offline[found["image"]]
        if all(abs(t["probability"] - wanted[t["class"]]) < _TOLERANCE for t in found["top"]):
            tally.answered_by[number] += 1
            return
    tally.wrong += 1


async def replace_weights(folder: Path, ends: float, every: float, tally: Tally) -> None:
    """Write the other weights into the folder that is served, again and again."""
    # The last replacement has time to be picked up.
    while time.monotonic() + every + 10 < ends:
        await asyncio.sleep(every)
        tally.replaced += 1
        await asyncio.to_thread(save_small, folder, tally.replaced % 2)


async def watch_memory(pid: int, ends: float, tally: Tally) -> None:
    """Sample the memory that the service's processes have for themselves."""
    began, process = time.monotonic(), psutil.Process(pid)
    while time.monotonic() < ends:
        everyone = [process, *process.children(recursive=True)]
        size = sum(each.memory_full_info().uss for each in everyone) / 2**20
        passed, done = time.monotonic() - began, tally.statuses[200]
        tally.memory.append((passed, done, size))
        if len(tally.memory) % 6 == 0:
            print(f"  {passed:6.0f} s  {size:7.1f} MiB  {done:,} answers, "
                  f"{tally.lost} lost, {tally.wrong} wrong", flush=True)  # fmt: skip
        await asyncio.sleep(_SAMPLE_SECONDS)


async def an_hour(
    port: int, pid: int, folder: Path, options: argparse.Namespace, expected: Expected
) -> Tally:
    """The load, the replacements and the watch together."""
    tally, ends = Tally(), time.monotonic() + options.minutes * 60
    forms = [path.read_bytes() for path in sorted(folder.glob("*.form"))]
    async with asyncio.TaskGroup() as group:
        for _ in range(options.clients):
            group.create_task(ask(port, forms, ends, tally, expected))
        group.create_task(replace_weights(folder / "small", ends, options.every, tally))
        group.create_task(watch_memory(pid, ends, tally))
    return tally


def loads(port: int) -> int:
    """How often the service has loaded newer weights, all its workers together."""
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = re.findall(r"^glasshouse_model_loads_total\{[^}]*\} (\S+)$", text, re.MULTILINE)
    return int(sum(map(float, found)))


def report(tally: Tally, loaded: int, workers: int) -> bool:
    """The claims, and whether all of them hold."""
    refused = {status: n for status, n in tally.statuses.items() if status != 200}
    shares = ", ".join(f"{n:,} by weights {k}" for k, n in sorted(tally.answered_by.items()))
    print(f"  {tally.statuses[200]:,} answers ({shares}); refused: {refused or 'none'}")
    held = [
        judge("lost requests", tally.lost, 0, at_least=False),
        judge("answers that are neither weights' offline one", tally.wrong, 0, at_least=False),
        judge(f"of {tally.replaced} replacements picked up by {workers} workers, on average",
              loaded / workers, tally.replaced),
    ]  # fmt: skip
    warm = [each for each in tally.memory if each[0] >= _WARM_SECONDS and each[1] >= _WARM_ANSWERS]
    if not warm:
        print(f"  too short to judge memory: {_WARM_ANSWERS:,} answers warm the service up")
        return False
    sizes = [size for _, _, size in warm]
    print(f"  memory: {sizes[0]:.1f} MiB after {warm[0][0]:.0f} s and {warm[0][1]:,} answers, then "
          f"{min(sizes):.1f} to {max(sizes):.1f} MiB, {sizes[-1]:.1f} MiB at the end")  # fmt: skip
    half = (max(sizes) - min(sizes)) / 2
    held.append(judge("half the range of memory, MiB", half, 20, at_least=False))
    third = len(sizes) // 3 or 1
    drift = median(sizes[-third:]) - median(sizes[:third])
    claim = "median of the last third minus that of the first, MiB"
    return all([*held, judge(claim, drift, 20, at_least=False)])


def main() -> bool:
    """Command line; whether every claim holds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--every", type=float, default=60, help="seconds from one replacement on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_files("small", folder)
        write_script(paths, folder)
        expected: list[Any] = []
        for seed in (1, 0):
            save_small(folder / "small", seed)
            expected.insert(0, offline_answers("small", folder, paths))
        print(f"{options.clients} clients, {options.minutes:g} min; {machine()}", flush=True)
        more = ("--workers", str(options.workers)) if options.workers > 1 else ()
        with running("ours", "small", folder, more) as (port, process):
            tally = asyncio.run(an_hour(port, process.pid, folder, options, expected))
            loaded = loads(port)
        return report(tally, loaded, options.workers)


if __name__ == "__main__":
    sys.exit(not main())
