"""Images a second of the tutorial's wide net, batch 32, with the tutorial's augmentation.

Claims: >= 2.2x Keras 3 on TensorFlow with ImageDataGenerator; >= 2.2x a PyTorch DataLoader with
torchvision's transforms on PIL images; >= 93 % of our own steps without loading and augmenting.
Needs the extra `bench`. Reads CIFAR-10 from GLASSHOUSE_DATA, else makes random images.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from contest import judge, machine, play, run_contender

BATCH, WARMUP, STEPS, ROUNDS = 32, 30, 250, 3


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


def glasshouse() -> float:
    """Our training loop as `glasshouse train --recipe tutorial-wide` runs it."""
    import torch

    from glasshouse.data.images import ImageSet, Splits, take
    from glasshouse.memory import keep_freed_memory
    from glasshouse.recipe import load_recipe
    from glasshouse.training.fit import untrained_classifier
    from glasshouse.training.loop import Step, TrainingSetup, train
    from glasshouse.training.state import begin

    keep_freed_memory()  # as the command does
    data, labels = images()
    ids = np.array([str(i) for i in range(len(data))])
    whole = ImageSet(data, labels, ids, tuple("0123456789"))
    splits = Splits(whole, take(whole, range(32)), take(whole, range(32)))
    recipe = load_recipe("tutorial-wide")
    classifier = untrained_classifier(recipe.model, splits, seed=0)
    state = begin(classifier.net, recipe.train, torch.device("cpu"))
    setup = TrainingSetup(
        whole, splits.validation, classifier.preprocessing, recipe.train, recipe.augment
    )
    return rate(r for r in train(state, setup) if isinstance(r, Step))


def compute_only() -> float:
    """Forward, backward and update of the same net in the same precision, on ready batches."""
    import torch

    from glasshouse.memory import keep_freed_memory
    from glasshouse.models.layers import build
    from glasshouse.models.predict import autocast
    from glasshouse.recipe import load_recipe
    from glasshouse.training.devices import choose_precision
    from glasshouse.training.state import begin

    keep_freed_memory()
    recipe = load_recipe("tutorial-wide")
    device = torch.device("cpu")
    state = begin(build(recipe.model, 10, (3, 32, 32), seed=0), recipe.train, device)
    precision = choose_precision(recipe.train, device)
    data, answers = images()
    # Different images in each step: a net that knows its only batch by heart has gradients so
    # small that the processor handles them as denormal numbers, many times slower.
    count = min(len(data), BATCH * (WARMUP + STEPS))
    whole = torch.from_numpy(data[:count]).float().div(255)
    inputs = whole.contiguous(memory_format=torch.channels_last).split(BATCH)
    labels = torch.from_numpy(answers[:count]).split(BATCH)
    state.net.train()

    def steps() -> Iterator[None]:
        for step in range(WARMUP + STEPS):
            with autocast(device, precision):
                logits = state.net(inputs[step % len(inputs)])
            loss = torch.nn.functional.cross_entropy(logits.float(), labels[step % len(labels)])
            loss.backward()  # type: ignore[no-untyped-call]
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
            yield

    return rate(steps())


def keras() -> float:
    """The tutorial's own program, as close as Keras 3 still runs it."""
    import tutorial_keras

    data, labels = images()
    net, flow = tutorial_keras.program(data[: BATCH * 400], labels[: BATCH * 400], BATCH)
    net.fit(flow, steps_per_epoch=WARMUP, epochs=1, verbose=0)
    started = time.perf_counter()
    net.fit(flow, steps_per_epoch=STEPS, epochs=1, verbose=0)
    return BATCH * STEPS / (time.perf_counter() - started)


def data_loader(workers: int) -> float:
    """Plain PyTorch: Dataset of PIL images, torchvision's transforms, DataLoader, float32."""
    import torch
    from PIL import Image
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    from glasshouse.models.pretrained import _torchvision

    transforms = _torchvision().transforms

    data, labels = images()
    change = transforms.Compose(
        [
            transforms.RandomAffine(15, translate=(0.1, 0.1)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
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

    net = nn.Sequential(
        *conv(3, 32, 1), *conv(32, 32, 0), nn.MaxPool2d(2), *conv(32, 64, 1), *conv(64, 128, 0),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4608, 512), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters())
    loader = DataLoader(Images(), BATCH, shuffle=True, num_workers=workers)

    def steps() -> Iterator[None]:
        for inputs, targets in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            yield

    return rate(steps())


CONTENDERS = {
    "glasshouse": glasshouse,
    "glasshouse, compute only": compute_only,
    "keras": keras,
    "DataLoader, no worker": lambda: data_loader(0),
    "DataLoader, 2 workers": lambda: data_loader(2),
}


def main() -> None:
    """Play the rounds and judge the claims."""
    print(f"{machine()}; images a second, batch {BATCH}, median of {ROUNDS}")
    speed = play(__file__, list(CONTENDERS), ROUNDS)
    for name, value in speed.items():
        print(f"{name:<28} {value:8,.0f}")
    ours = speed["glasshouse"]
    loader = max(speed["DataLoader, no worker"], speed["DataLoader, 2 workers"])
    held = [
        judge("glasshouse / Keras", ours / speed["keras"], 2.2),
        judge("glasshouse / DataLoader", ours / loader, 2.2),
        judge("glasshouse / compute only", ours / speed["glasshouse, compute only"], 0.93),
    ]
    raise SystemExit(0 if all(held) else 1)


if __name__ == "__main__" and not run_contender(CONTENDERS):
    main()
