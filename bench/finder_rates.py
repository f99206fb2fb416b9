"""`train.lr = "auto"` against the recipe's own rate, a third of it and three times it.

Claim: with the rate that the range test finds, test accuracy is at most three points (the chance of
one run on so few images) below that of the recipe's own, on five pairs of a source and a recipe.
CIFAR-10 from GLASSHOUSE_DATA; few images and epochs, so that all takes some ten minutes. Words
after the name choose the pairs.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from contest import judge, machine
from torch import nn

from glasshouse.data.images import take
from glasshouse.models.predict import predict
from glasshouse.recipe import load_recipe
from glasshouse.training.finder import find_lr, with_found_rate
from glasshouse.training.fit import train_until_done
from glasshouse.training.loop import TrainingSetup
from glasshouse.training.state import begin, final_net
from glasshouse.workflow.train.experiment import TrainRequest, first_classifier, make_setup

FEW = ["data.train_limit=6000", "train.epochs=4"]
CASES = {
    "digits/small-cnn": ("digits", "small-cnn", []),
    "cifar10/tutorial-wide-bn": (
        "cifar10", "tutorial-wide-bn",
        [*FEW, "train.lr=1e-3", "train.schedule={type='step', every=1.6, factor=0.3}"],
    ),
    "cifar10/tutorial-wide-bn, one-cycle": (
        "cifar10", "tutorial-wide-bn",
        [*FEW, "train.lr=1e-3", "train.schedule={type='one_cycle'}"],
    ),
    "cifar10/small-residual": (
        "cifar10", "small-residual", ["data.train_limit=4000", "train.epochs=4"]
    ),
    "shapes/small-residual": (
        "shapes", "small-residual", ["data.train_limit=3000", "train.epochs=8"]
    ),
}  # fmt: skip
TEST_IMAGES = 2000


def accuracies(source: str, name: str, overrides: list[str]) -> dict[str, tuple[float, float]]:
    """The rate and the test accuracy with each way to choose it."""
    recipe = load_recipe(name, overrides)
    splits, untrained = first_classifier(TrainRequest(source, recipe, Path("unused")))
    setup = make_setup(recipe, splits, untrained)
    test = take(splits.test, np.arange(min(TEST_IMAGES, len(splits.test))))
    own = recipe.train.peak_lr
    auto = with_found_rate(recipe.train, find_lr(untrained.net, setup))
    settings = {
        "auto": auto,
        **{
            label: recipe.train.model_copy(update={"lr": own * factor})
            for label, factor in (("own", 1.0), ("a third", 1 / 3), ("three times", 3.0))
        },
    }
    found = {}
    for label, chosen in settings.items():
        net = trained(replace(setup, settings=chosen), untrained.net)
        answers = predict(replace(untrained, net=net), test)
        right = float((answers.logits.argmax(axis=1) == answers.labels).mean())
        found[label] = chosen.peak_lr, right
        print(f"  {label:<12} {chosen.peak_lr:<8.3g} {right:.1%}", flush=True)
    return found


def trained(setup: TrainingSetup, net: nn.Module) -> nn.Module:
    """A copy of the net, trained."""
    state = begin(net, setup.settings, torch.device("cpu"))
    for _ in train_until_done(state, setup):
        pass
    return final_net(state).eval()


def main() -> None:
    print(machine())
    held = []
    for case in sys.argv[1:] or CASES:
        print(case)
        found = accuracies(*CASES[case])
        points = 100 * (found["auto"][1] - found["own"][1])
        held.append(judge(f"{case}, points of auto over the recipe's rate", points, -3.0))
    raise SystemExit(not all(held))


if __name__ == "__main__":
    main()
