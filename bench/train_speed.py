"""Images a second of the tutorial's basic and wide networks, batch 32, with its augmentation.

Claims for both: >= 2.2x Keras 3 on TensorFlow with ImageDataGenerator; >= 2.2x a PyTorch
DataLoader with torchvision's transforms on PIL images; >= 95 % of plain PyTorch steps on ready
batches. Each round has a fresh process for each, and one in which our steps and the plain ones take
turns, so that both meet the same machine.
Needs the extra `bench`. Reads CIFAR-10 from GLASSHOUSE_DATA, else makes random images.
Run: python bench/train_speed.py [tutorial-basic | tutorial-wide] [--rounds 5]
"""

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from contest import (
    interleaved,
    judge_rounds,
    machine,
    play_rounds,
    ratios,
    require_keras,
    run_contender,
)

BATCH, WARMUP, STEPS = 32, 30, 250
# Steps of ours and of plain PyTorch in turn, and how many turns. Ours augments 42 steps at once.
BLOCK, TURNS = 42, 16
RECIPES = ("tutorial-basic", "tutorial-wide")


def images() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """uint8 ``(n, 3, 32, 32)`` and labels."""
    if os.environ.get("GLASSHOUSE_DATA"):
        from glasshouse.data.sources import load_splits
        from glasshouse.settings import DataSettings

        train = load_splits("cifar10", DataSettings()).train
        return train.pixels, train.labels
    random = np.random.default_rng(0)
    count = 20_000
    return (
        random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8),
        random.integers(0, 10, count),
    )


def rate(steps: Iterator[Any]) -> float:
    """Images a second over STEPS steps after the warm-up."""
    for _ in range(WARMUP):
        next(steps)
    started = time.perf_counter()
    for _ in range(STEPS):
        next(steps)
    return BATCH * STEPS / (time.perf_counter() - started)


def training_of(recipe_name: str, overrides: Sequence[str] = ()) -> tuple[Any, Any]:
    """The untrained classifier and the TrainingSetup of a recipe on all images."""
    from glasshouse.data.images import ImageSet, Splits, take
    from glasshouse.memory import keep_freed_memory
    from glasshouse.recipe import load_recipe
    from glasshouse.training.fit import untrained_classifier
    from glasshouse.training.loop import TrainingSetup

    keep_freed_memory()  # as the command does
    data, labels = images()
    ids = np.array([str(i) for i in range(len(data))])
    whole = ImageSet(data, labels, ids, tuple("0123456789"))
    splits = Splits(whole, take(whole, range(32)), take(whole, range(32)))
    recipe = load_recipe(recipe_name, overrides)
    classifier = untrained_classifier(recipe.model, splits, seed=0)
    return classifier, TrainingSetup(
        whole, splits.validation, classifier.preprocessing, recipe.train, recipe.augment
    )


def glasshouse_steps(recipe_name: str) -> Iterator[Any]:
    """The steps of our training loop as `glasshouse train --recipe` runs it."""
    import torch

    from glasshouse.training.loop import Step, train
    from glasshouse.training.state import begin

    classifier, setup = training_of(recipe_name)
    state = begin(classifier.net, setup.settings, torch.device("cpu"))
    return (record for record in train(state, setup) if isinstance(record, Step))


def ready_steps(recipe_name: str) -> Iterator[None]:
    """Forward, backward and update of the same net in the same precision, on ready batches."""
    import torch
    import tutorial_keras

    from glasshouse.memory import keep_freed_memory
    from glasshouse.models.layers import build
    from glasshouse.models.predict import autocast
    from glasshouse.recipe import load_recipe
    from glasshouse.training.precision import choose_precision
    from glasshouse.training.state import begin

    keep_freed_memory()
    recipe = load_recipe(recipe_name)
    device = torch.device("cpu")
    state = begin(build(recipe.model, 10, (3, 32, 32), seed=0), recipe.train, device)
    precision = choose_precision(recipe.train, device)
    data, answers = images()
    # Different images in each step: a net that knows its only batch by heart has gradients so
    # small that the processor handles them as denormal numbers, many times slower.
    count = min(len(data), BATCH * (WARMUP + STEPS))
    prepared = tutorial_keras.prepared(data[:count], data, recipe_name)
    whole = torch.from_numpy(prepared).permute(0, 3, 1, 2)
    inputs = whole.contiguous(memory_format=torch.channels_last).split(BATCH)
    labels = torch.from_numpy(answers[:count]).split(BATCH)
    state.net.train()
    for step in itertools.count():
        with autocast(device, precision):
            logits = state.net(inputs[step % len(inputs)])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[step % len(labels)])
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        yield


def beside_ready_steps(recipe_name: str) -> float:
    """Our speed as a share of that of steps on ready batches, some of each in turn."""
    steps = {"ours": glasshouse_steps(recipe_name), "ready": ready_steps(recipe_name)}

    def some(of: Iterator[Any]) -> None:
        for _ in range(BLOCK):
            next(of)

    times = interleaved({name: partial(some, each) for name, each in steps.items()}, TURNS)
    return statistics.median(ratios(times["ready"], times["ours"]))


def keras(recipe_name: str) -> float:
    """The tutorial's own program, as close as Keras 3 still runs it."""
    import tutorial_keras

    data, labels = images()
    count = BATCH * 400
    net, flow = tutorial_keras.program(data[:count], labels[:count], BATCH, recipe_name)
    net.fit(flow, steps_per_epoch=WARMUP, epochs=1, verbose=0)
    started = time.perf_counter()
    net.fit(flow, steps_per_epoch=STEPS, epochs=1, verbose=0)
    return BATCH * STEPS / (time.perf_counter() - started)


def data_loader_steps(workers: int, recipe_name: str) -> Iterator[None]:
    """The steps of plain PyTorch, epoch after epoch."""
    import torch
    import tutorial_keras
    from PIL import Image
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    from glasshouse.models.libraries import torchvision_library

    transforms = torchvision_library().transforms

    data, labels = images()
    scale = 3 * [float(data.mean() / 255)], 3 * [float(data.std() / 255)]
    change = transforms.Compose(
        [
            transforms.RandomAffine(15, translate=(0.1, 0.1)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            *([transforms.Normalize(*scale)] if recipe_name == "tutorial-wide" else []),
        ]
    )

    class Images(Dataset[Any]):
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, index: int) -> Any:
            image = Image.fromarray(data[index].transpose(1, 2, 0))
            return change(image), int(labels[index])

    def conv(inside: int, outside: int, padding: int) -> list[nn.Module]:
        return [nn.Conv2d(inside, outside, 3, padding=padding), nn.ReLU()]

    first, second, third, fourth = tutorial_keras.FILTERS[recipe_name]
    net = nn.Sequential(
        *conv(3, first, 1), *conv(first, second, 0), nn.MaxPool2d(2),
        *conv(second, third, 1), *conv(third, fourth, 0), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(36 * fourth, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters())
    loader = DataLoader(Images(), BATCH, shuffle=True, num_workers=workers)

    while True:
        for inputs, targets in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            yield


def rate_of(steps: Callable[[str], Iterator[Any]], recipe_name: str) -> float:
    """Images a second of these steps with a recipe's network."""
    return rate(steps(recipe_name))


TRAINERS: dict[str, Callable[[str], float]] = {
    "glasshouse": partial(rate_of, glasshouse_steps),
    "keras": keras,
    "DataLoader, no worker": partial(rate_of, partial(data_loader_steps, 0)),
    "DataLoader, 2 workers": partial(rate_of, partial(data_loader_steps, 2)),
    "share of ready steps": beside_ready_steps,
}
CONTENDERS = {
    f"{recipe}: {name}": partial(trainer, recipe)
    for recipe in RECIPES
    for name, trainer in TRAINERS.items()
}


def judge_recipe(recipe: str, rounds: int) -> bool:
    """Play the rounds of one network and judge its claims."""
    names = [f"{recipe}: {name}" for name in TRAINERS]
    ours, keras, alone, with_workers, share = play_rounds(__file__, names, rounds).values()
    claims = {
        f"{recipe}: ours / Keras": (ratios(ours, keras), 2.2),
        f"{recipe}: ours / DataLoader": (ratios(ours, alone, with_workers), 2.2),
        f"{recipe}: ours / steps on ready batches": (share, 0.95),
    }
    held = [judge_rounds(claim, found, bound) for claim, (found, bound) in claims.items()]
    return all(held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    require_keras()
    print(f"{machine()}; images a second, batch {BATCH}")
    held = [judge_recipe(recipe, options.rounds) for recipe in options.recipes]
    raise SystemExit(0 if all(held) else 1)


if __name__ == "__main__" and not run_contender(CONTENDERS):
    main()
