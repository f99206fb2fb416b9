"""Run contenders side by side: fresh processes, taken in turns, medians and ratios."""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


def play(script: str, contenders: list[str], rounds: int) -> dict[str, float]:
    """The median figure of each contender over some rounds, each round in its own process."""
    figures = play_rounds(script, contenders, rounds)
    return {name: statistics.median(values) for name, values in figures.items()}


def play_rounds(script: str, contenders: list[str], rounds: int) -> dict[str, list[float]]:
    """The figures of each contender, one per round."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in contenders:
            command = [sys.executable, script, "--contender", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
            figures[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"  round {turn + 1}/{rounds}  {name:<28} {figures[name][-1]:,.1f}", flush=True)
    return figures


def run_contender(contenders: Mapping[str, Callable[[], float]]) -> bool:
    """In a contender's own process, measure and print it; False in the process that compares."""
    if "--contender" not in sys.argv:
        return False
    name = sys.argv[sys.argv.index("--contender") + 1]
    print(json.dumps(contenders[name]()))
    return True


def interleaved(
    what: Mapping[str, Callable[[], object]], rounds: int, wait: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Median seconds of each in this process; taking turns, so that all meet the same machine.

    wait: returns once a device has done what it was asked to.
    """
    times: dict[str, list[float]] = {name: [] for name in what}
    for turn in range(rounds + 1):
        for name, run in what.items():
            start = time.perf_counter()
            run()
            wait()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def machine(device: Any = None) -> str:
    """The processor, and the GPU if that is the device, that the figures belong to."""
    from glasshouse.workflow.train.environment import _processor

    gpu = ""
    if device is not None and device.type == "cuda":
        import torch

        gpu = f"{torch.cuda.get_device_name(device)}, "
    return f"{gpu}{_processor()}, {platform.system()}, Python {platform.python_version()}"


def waiting_for(device: Any) -> Callable[[], object]:
    """A function that returns once a device has done what it was asked to."""
    import torch

    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def judge(claim: str, value: float, bound: float, *, at_least: bool = True) -> bool:
    """Print a claim with its figure, and whether it holds."""
    holds = value >= bound if at_least else value <= bound
    sign = ">=" if at_least else "<="
    print(f"{'holds' if holds else 'FAILS'}  {claim}: {value:.2f} ({sign} {bound})")
    return holds
