"""What a range test of 100 steps costs beside 100 training steps of the same net and data.

Claim: <= 1.2x. Both in a fresh process each round, data and net ready, on tutorial-wide with its
augmentation at batch 32. Reads CIFAR-10 from GLASSHOUSE_DATA, else makes random images.
"""

import time
from itertools import islice
from typing import Any

import numpy as np
from contest import judge_rounds, machine, play_rounds, ratios, run_contender
from train_speed import images

STEPS, ROUNDS = 100, 5


def setup() -> tuple[Any, Any]:
    """An untrained net and what it is trained with."""
    from glasshouse.data.images import ImageSet, Splits, take
    from glasshouse.recipe import load_recipe
    from glasshouse.training.fit import untrained_classifier
    from glasshouse.training.loop import TrainingSetup

    data, labels = images()
    ids = np.array([str(i) for i in range(len(data))])
    whole = ImageSet(data, labels, ids, tuple("0123456789"))
    splits = Splits(whole, take(whole, range(32)), take(whole, range(32)))
    recipe = load_recipe("tutorial-wide")
    classifier = untrained_classifier(recipe.model, splits, seed=0)
    return classifier.net, TrainingSetup(
        whole, splits.validation, classifier.preprocessing, recipe.train, recipe.augment
    )


def training() -> float:
    """Seconds of the first 100 steps of a training run."""
    import torch

    from glasshouse.training.loop import train
    from glasshouse.training.state import begin

    net, what = setup()
    warm_up(net, what)
    started = time.perf_counter()
    state = begin(net, what.settings, torch.device("cpu"))
    for _ in islice(train(state, what), STEPS):
        pass
    return time.perf_counter() - started


def finder() -> float:
    """Seconds of a range test of one seed that does not end early, reading the curve included."""
    from glasshouse.training.finder import RangeTest, find_lr

    net, what = setup()
    warm_up(net, what)
    # Rates that do not make the loss explode, so that no step is saved.
    test = RangeTest(start=1e-6, end=1e-2, steps=STEPS, seeds=1)
    started = time.perf_counter()
    curve = find_lr(net, what, test=test)
    seconds = time.perf_counter() - started
    assert np.isfinite(curve.losses).all(), "the test ended early"
    return seconds


def warm_up(net: Any, what: Any) -> None:
    """The first steps of a process choose kernels."""
    import torch

    from glasshouse.training.loop import train
    from glasshouse.training.state import begin

    for _ in islice(train(begin(net, what.settings, torch.device("cpu")), what), 10):
        pass


CONTENDERS = {"training": training, "finder": finder}


def main() -> None:
    print(machine())
    seconds = play_rounds(__file__, list(CONTENDERS), ROUNDS)
    found = ratios(seconds["finder"], seconds["training"])
    raise SystemExit(not judge_rounds("finder / training, 100 steps", found, 1.2, at_least=False))


if __name__ == "__main__":
    if not run_contender(CONTENDERS):
        main()
