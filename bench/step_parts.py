"""Where a training step spends its time, and what limits it on this processor.

Steps of a recipe as `glasshouse train` takes them, on 32x32 images, taking turns with a product of
two large bf16 matrices, the most that the processor computes at that time. Prints the milliseconds
of each kind of work, and how many operations a second the convolutions and the whole step compute,
as shares of that product. There is no claim. Reads CIFAR-10 from GLASSHOUSE_DATA, else makes random
images.
Run: python bench/step_parts.py [RECIPE] [--set KEY=VALUE ...] [--rounds 20]
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from contest import machine
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from train_speed import training_of

from glasshouse.training.loop import Step, train
from glasshouse.training.operations import image_flop
from glasshouse.training.precision import has_matrix_tiles
from glasshouse.training.state import begin

MATRIX = 2048
# Parts of the names of torch's operations, and what they are part of.
KINDS = {
    "convolution_backward": "convolutions, backward",
    "convolution": "convolutions, forward",
    "max_pool2d": "max pooling",
    "batch_norm": "batch normalisation",
    "gelu": "activations",
    "relu": "activations",
    "threshold_backward": "activations",
}
OPTIMIZER, REST = "optimizer", "the rest: augmentation, layouts, loss"


class Clock(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the seconds of each kind of operation, and of the optimizer as a whole."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds: dict[str, float] = defaultdict(float)
        self._began = 0.0
        optimizer.register_step_pre_hook(self._begin)
        optimizer.register_step_post_hook(self._end)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        started = time.perf_counter()
        found = func(*args, **(kwargs or {}))
        kind = next((kind for part, kind in KINDS.items() if part in func.__name__), None)
        if kind is not None:
            self.seconds[kind] += time.perf_counter() - started
        return found

    def _begin(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.seconds[OPTIMIZER] += time.perf_counter() - self._began


def turns(steps: Iterator[object], clock: Clock, rounds: int) -> Iterator[dict[str, float]]:
    """Seconds of each part of a step, of the whole, and of the product of matrices."""
    left, right = (torch.randn(MATRIX, MATRIX).bfloat16() for _ in range(2))
    for _ in range(rounds):
        clock.seconds.clear()
        started = time.perf_counter()
        with clock:
            next(steps)
        ended = time.perf_counter()
        torch.mm(left, right)
        product = time.perf_counter() - ended
        parts = dict(clock.seconds)
        rest = ended - started - sum(parts.values())
        yield {**parts, REST: rest, "step": ended - started, "product": product}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", nargs="?", default="fast")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    classifier, setup = training_of(options.recipe, options.overrides)
    state = begin(classifier.net, setup.settings, torch.device("cpu"))
    size = setup.settings.batch_size
    flop = size * image_flop(state.net, (3, 32, 32))
    steps = (record for record in train(state, setup) if isinstance(record, Step))
    for _ in range(3):
        next(steps)
    rounds = list(turns(steps, Clock(state.optimizer), options.rounds))
    tiles = "with" if has_matrix_tiles() else "without"
    print(f"{machine()}, {tiles} matrix tiles, {torch.get_num_threads()} threads")
    print(f"{options.recipe}, batch {size}: {flop / 1e9:.0f} GFLOP a step, {len(rounds)} steps")
    middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    for name, seconds in sorted(middle.items(), key=lambda pair: -pair[1]):
        if name != "product":
            share = f"{seconds / middle['step']:4.0%}" if name != "step" else ""
            fastest = min(each[name] for each in rounds)
            print(f"  {name:<38} {1e3 * seconds:7.1f} ms {share:>5}   at best {1e3 * fastest:.1f}")
    print_rates(rounds, flop)


def print_rates(rounds: list[dict[str, float]], flop: int) -> None:
    """Operations a second of the convolutions, the step and the product next to each."""
    for what, chosen in (("median", statistics.median), ("best", max)):
        product = chosen([2 * MATRIX**3 / each["product"] for each in rounds])
        convolutions = chosen(
            [flop / sum(each[name] for name in each if "convolutions" in name) for each in rounds]
        )
        step = chosen([flop / each["step"] for each in rounds])
        print(
            f"{what}: product of {MATRIX}x{MATRIX} matrices {product / 1e12:.2f} TFLOP/s, "
            f"convolutions {convolutions / 1e12:.2f} ({convolutions / product:.0%}), "
            f"step {step / 1e12:.2f} ({step / product:.0%})"
        )


if __name__ == "__main__":
    main()
