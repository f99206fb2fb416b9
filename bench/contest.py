"""Run contenders side by side: taken in turns, ratios round by round, and a verdict on a claim.

Every verdict is also added to the file that GLASSHOUSE_FIGURES names, a line of JSON each.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from math import comb
from pathlib import Path
from typing import Any

# Where the interval of a median is wider than this share of it, there is no figure.
WIDEST = 0.5
# Keras was seen to hang at its start, without using the processor.
LONGEST_S, TRIES = 300, 3
# The threads of a library go on waiting for work on their cores for a while: those of numpy took
# one of two cores from Eigen-CAM's component, which took 32 ms instead of 0.3.
SETTLED_S = 0.2
# How to install what is compared with.
BENCH = "pip install -e '.[bench]'"


def play_rounds(script: str, contenders: list[str], rounds: int) -> dict[str, list[float]]:
    """The figures of each contender, one per round."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in contenders:
            figures[name].append(_figure(script, name))
            print(f"  round {turn + 1}/{rounds}  {name:<28} {figures[name][-1]:,.4g}", flush=True)
    return figures


def _figure(script: str, name: str) -> float:
    """What a contender measures in a process of its own; one that hangs is begun again once."""
    command = [sys.executable, script, "--contender", name]
    for _ in range(TRIES):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=LONGEST_S
            )
        except subprocess.TimeoutExpired:
            print(f"  {name} did not end within {LONGEST_S} s", flush=True)
            continue
        if done.returncode != 0:
            raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
        return float(json.loads(done.stdout.splitlines()[-1]))
    raise SystemExit(f"{name} hung {TRIES} times")


def run_contender(contenders: Mapping[str, Callable[[], float]]) -> bool:
    """In a contender's own process, measure and print it; False in the process that compares."""
    if "--contender" not in sys.argv:
        return False
    name = sys.argv[sys.argv.index("--contender") + 1]
    print(json.dumps(contenders[name]()))
    return True


def interleaved(
    what: Mapping[str, Callable[[], object]], rounds: int, wait: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of each in this process, round by round: taking turns, all meet the same machine.

    wait: returns once a device has done what it was asked to.
    """
    times: dict[str, list[float]] = {name: [] for name in what}
    for turn in range(rounds + 1):
        for name, run in what.items():
            time.sleep(SETTLED_S)
            start = time.perf_counter()
            run()
            wait()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return times


def print_medians(times: Mapping[str, Sequence[float]]) -> None:
    """The median of each, given in seconds."""
    medians = {name: 1000 * statistics.median(seconds) for name, seconds in times.items()}
    print(", ".join(f"{name} {found:.3g} ms" for name, found in medians.items()))


def ratios(over: Sequence[float], under: Sequence[float], *others: Sequence[float]) -> list[float]:
    """Each round's ratio; with others, to the largest of those that came with it."""
    return [first / max(rest) for first, *rest in zip(over, under, *others, strict=True)]


def data_folder() -> Path:
    """The folder with CIFAR-10, photos and weights that GLASSHOUSE_DATA names."""
    if not os.environ.get("GLASSHOUSE_DATA"):
        raise SystemExit("not run: GLASSHOUSE_DATA must name the folder with the real data")
    return Path(os.environ["GLASSHOUSE_DATA"]).resolve()


def require(name: str, install: str) -> None:
    """End with a sentence where a program or a package is missing; install: what to do then."""
    if shutil.which(name) is None and find_spec(name) is None:
        raise SystemExit(f"not run: this needs {name}, which is not installed ({install})")


def require_keras() -> None:
    """Keras with the backend of the tutorial's program."""
    for name in ("keras", "tensorflow"):
        require(name, BENCH)


def require_browser() -> None:
    """Chromium, and what drives it."""
    require("selenium", "pip install -e '.[dev]'")
    for name in ("chromium", "chromedriver"):
        require(name, "apt install chromium chromium-driver")


def processor() -> str:
    """The name of the processor, as a run records it."""
    from glasshouse.workflow.train.environment import _processor

    return _processor()


def machine(device: Any = None) -> str:
    """The processor, and the GPU if that is the device, that the figures belong to."""
    gpu = ""
    if device is not None and device.type == "cuda":
        import torch

        gpu = f"{torch.cuda.get_device_name(device)}, "
    return f"{gpu}{processor()}, {platform.system()}, Python {platform.python_version()}"


def waiting_for(device: Any) -> Callable[[], object]:
    """A function that returns once a device has done what it was asked to."""
    import torch

    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def judge(claim: str, value: float, bound: float, *, at_least: bool = True) -> bool:
    """Print a claim with its figure, and whether it holds."""
    holds = value >= bound if at_least else value <= bound
    return _verdict("holds" if holds else "FAILS", claim, [value], bound, at_least)


def judge_rounds(
    claim: str, figures: Sequence[float], bound: float, *, at_least: bool = True
) -> bool:
    """Print a claim with the median of its rounds, and whether it holds.

    It is open where the rounds disagree about it: where the bound is inside the interval of the
    median. Where the interval is wide, there is a verdict and no figure.
    """
    low, high = interval(figures)
    if low >= bound if at_least else high <= bound:
        verdict = "holds"
    elif high < bound if at_least else low > bound:
        verdict = "FAILS"
    else:
        verdict = "open"
    return _verdict(verdict, claim, figures, bound, at_least)


def interval(figures: Sequence[float]) -> tuple[float, float]:
    """An interval of the median of at least 90 %, from five rounds on; else all of them.

    Order statistics of the binomial distribution; it assumes nothing about the noise.
    """
    ordered, count = sorted(figures), len(figures)
    outside, cut = 0.0, 0
    while (outside := outside + 2 * comb(count, cut) / 2**count) <= 0.1:
        cut += 1
    cut = max(cut - 1, 0)
    return ordered[cut], ordered[-1 - cut]


def _verdict(
    verdict: str, claim: str, figures: Sequence[float], bound: float, at_least: bool
) -> bool:
    """Print and keep a verdict; whether the claim holds."""
    value, (low, high) = statistics.median(figures), interval(figures)
    is_steady = high - low <= WIDEST * abs(value)
    spread = f"{low:.2f} to {high:.2f} in {len(figures)} rounds; " if len(figures) > 1 else ""
    figure = f"{value:.2f}" if is_steady else "no figure"
    sign = ">=" if at_least else "<="
    print(f"{verdict}  {claim}: {figure} ({spread}{sign} {bound})", flush=True)
    if verdict == "open" or not is_steady:
        print("       The rounds disagree: repeat with more of them, or on a quieter machine.")
    if path := os.environ.get("GLASSHOUSE_FIGURES"):
        kept = {
            "claim": claim, "median": value if is_steady else None, "low": low, "high": high,
            "rounds": len(figures), "verdict": verdict,
        }  # fmt: skip
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(kept) + "\n")
    return verdict == "holds"
