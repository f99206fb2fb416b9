"""Training next to other busy programs: 0, 1, 2 and 4 of them, of equal priority.

Images a second of the tutorial's basic network, batch 32, for a few seconds from the beginning:
ours as `glasshouse train` does it, with the threads that it measures and chooses; the same with all
threads; Keras 3 on TensorFlow with ImageDataGenerator; a PyTorch DataLoader without and with
workers.
Claim: at each load, ours is at least as fast as every peer, as the median over the rounds.
Needs the extra `bench`. Reads CIFAR-10 from GLASSHOUSE_DATA, else makes random images.
Run: python bench/busy.py [LOAD ...]
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import train_speed
from contest import judge_rounds, machine, play_rounds, ratios, require_keras, run_contender

RECIPE, BATCH = "tutorial-basic", 32
LOADS, ROUNDS, WARMUP, SECONDS = (0, 1, 2, 4), 5, 3, 5.0
PEERS = ("keras", "DataLoader, no worker", "DataLoader, 2 workers")
BUSY = "while True: pass"


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many programs that use a core each while the context is open."""
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def rate(steps: Iterator[Any]) -> float:
    """Images a second over some seconds after a few steps."""
    for _ in range(WARMUP):
        next(steps)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        next(steps)
        count += 1
    return BATCH * count / (time.perf_counter() - started)


def glasshouse(*, chooses: bool) -> float:
    """Our loop, with the threads that a training chooses, or with all of them."""
    import torch

    from glasshouse.training.loop import Step, train
    from glasshouse.training.state import begin
    from glasshouse.training.thread_choice import choose_threads

    classifier, setup = train_speed.training_of(RECIPE)
    device = torch.device("cpu")
    if chooses:
        choice = choose_threads(partial(begin, classifier.net, device=device), setup)
        torch.set_num_threads(choice.threads)
    state = begin(classifier.net, setup.settings, device)
    return rate(r for r in train(state, setup) if isinstance(r, Step))


def keras() -> float:
    """The tutorial's own program, as close as Keras 3 still runs it."""
    import tutorial_keras

    data, labels = train_speed.images()
    count = BATCH * 400
    net, flow = tutorial_keras.program(data[:count], labels[:count], BATCH, RECIPE)
    from keras.callbacks import Callback

    class Clock(Callback):
        seen, began = -WARMUP, 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen += 1
            if self.seen == 0:
                self.began = time.perf_counter()
            seconds = time.perf_counter() - self.began
            if self.seen > 0 and seconds >= SECONDS:
                # Not stop_training: next to busy programs, TensorFlow often waits forever for the
                # thread that reads ahead, once an epoch ends before its last batch.
                print(BATCH * self.seen / seconds, flush=True)
                os._exit(0)

    net.fit(flow, epochs=10**6, verbose=0, callbacks=[Clock()])
    raise AssertionError("the training ends in its callback")


def data_loader(workers: int) -> float:
    """Plain PyTorch: Dataset of PIL images, torchvision's transforms, DataLoader, float32."""
    return rate(train_speed.data_loader_steps(workers, RECIPE))


CONTENDERS: dict[str, Callable[[], float]] = {
    "glasshouse": partial(glasshouse, chooses=True),
    "all threads": partial(glasshouse, chooses=False),
    "keras": keras,
    "DataLoader, no worker": partial(data_loader, 0),
    "DataLoader, 2 workers": partial(data_loader, 2),
}


def judge_load(count: int) -> bool:
    """Play the rounds next to so many busy programs, and judge the claim."""
    with busy(count):
        figures = play_rounds(__file__, list(CONTENDERS), ROUNDS)
    for name, found in figures.items():
        spread = f"({min(found):,.0f} to {max(found):,.0f})"
        print(f"{count} busy: {name:<24} {statistics.median(found):8,.0f} {spread}")
    found = ratios(figures["glasshouse"], *(figures[name] for name in PEERS))
    return judge_rounds(f"{count} busy: ours / the best peer", found, 1.0)


def main() -> None:
    require_keras()
    print(f"{machine()}; images a second, batch {BATCH}, {ROUNDS} rounds")
    loads = [int(each) for each in sys.argv[1:]] or LOADS
    held = [judge_load(count) for count in loads]
    raise SystemExit(0 if all(held) else 1)


if __name__ == "__main__" and not run_contender(CONTENDERS):
    main()
