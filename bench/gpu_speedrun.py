"""`fast` on a GPU against airbench94 on the same one: seconds of training, and accuracy.

airbench94 is the package of its author (`pip install airbench`), warmed up as the author does; with
--compile its network is compiled as well, which ours never is. Both see all training images, and
both answer the test images with mirrored views (airbench94 with shifted ones, too). Seconds are
those of training, without validation and without reading files.
Reads CIFAR-10 from GLASSHOUSE_DATA; without a GPU it says that it was not run. It has not been run
to its end yet.
Run: python bench/gpu_speedrun.py [--runs N] [--compile]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contest import data_folder

Result = tuple[float, float]


def glasshouse(seed: int) -> Result:
    """Seconds of training and accuracy of one run of `fast`."""
    from glasshouse.data.sources import load_splits
    from glasshouse.models.predict import predict
    from glasshouse.recipe import load_recipe
    from glasshouse.settings import DataSettings
    from glasshouse.training.fit import untrained_classifier
    from glasshouse.training.loop import Step, TrainingSetup, train
    from glasshouse.training.state import begin, final_net

    recipe = load_recipe("fast", ["data.train_on_validation=true", f"train.seed={seed}"])
    splits = load_splits("cifar10", DataSettings(train_on_validation=True))
    classifier = untrained_classifier(recipe.model, splits, seed=seed)
    state = begin(classifier.net, recipe.train, torch.device("cuda"))
    setup = TrainingSetup(
        splits.train, splits.validation, classifier.preprocessing, recipe.train, recipe.augment
    )
    torch.cuda.synchronize()
    seconds, started = 0.0, time.perf_counter()
    for record in train(state, setup):
        # An epoch has been validated when it is yielded, which airbench94 does not do.
        if not isinstance(record, Step):
            seconds += record.seconds
    total = time.perf_counter() - started
    trained = classifier.__class__(
        final_net(state), classifier.preprocessing, splits.class_names, mirror=True
    )
    found = predict(trained, splits.test.pixels.transpose(0, 2, 3, 1))
    accuracy = float((found.logits.argmax(1) == splits.test.labels).mean())
    print(f"  ours, seed {seed}: {seconds:.2f} s ({total:.2f} s with validation), {accuracy:.2%}")
    return seconds, accuracy


def airbench(folder: Path, *, compiled: bool) -> Callable[[int], Result]:
    """A function that trains airbench94 once, in a folder with its images."""
    import airbench
    from airbench import lib_airbench94

    os.chdir(folder)

    def make_net() -> Any:
        net = lib_airbench94.make_net94()
        if compiled:
            net.compile(mode="max-autotune")
        return net

    airbench.warmup94(verbose=False, make_net=make_net)
    if compiled:
        airbench.train94(verbose=False, make_net=make_net, epochs=1)
    test = airbench.CifarLoader("cifar10", train=False, batch_size=2000)
    images = airbench.CifarLoader(
        "cifar10", train=True, batch_size=1024, aug=lib_airbench94.hyp["aug"], altflip=True
    )
    # Reading files is not part of the author's seconds either.
    airbench.utils.CifarLoader = lambda *given, **more: test

    def run(seed: int) -> Result:
        torch.manual_seed(seed)
        torch.cuda.synchronize()
        started = time.perf_counter()
        net = airbench.train94(images, verbose=False, make_net=make_net, run=seed)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        accuracy = airbench.evaluate(net, test, tta_level=2)
        print(f"  airbench94, seed {seed}: {seconds:.2f} s, {accuracy:.2%}", flush=True)
        return seconds, accuracy

    return run


def write_images(folder: Path) -> None:
    """CIFAR-10 as airbench94 reads it."""
    from glasshouse.data.sources import load_splits
    from glasshouse.settings import DataSettings

    splits = load_splits("cifar10", DataSettings(train_on_validation=True))
    (folder / "cifar10").mkdir(parents=True)
    for name, images in (("train", splits.train), ("test", splits.test)):
        pixels = torch.from_numpy(np.ascontiguousarray(images.pixels.transpose(0, 2, 3, 1)))
        labels = torch.from_numpy(np.asarray(images.labels, dtype=np.int64))
        classes = list(splits.class_names)
        torch.save(
            {"images": pixels, "labels": labels, "classes": classes},
            folder / "cifar10" / f"{name}.pt",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("not run: there is no CUDA device here")
    os.environ["GLASSHOUSE_DATA"] = str(data_folder())
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        theirs = airbench(Path(folder), compiled=given.compile)
        glasshouse(given.runs)  # warms up
        found: dict[str, list[Result]] = {"ours": [], "airbench94": []}
        for seed in range(given.runs):
            found["airbench94"].append(theirs(seed))
            found["ours"].append(glasshouse(seed))
    for name, results in found.items():
        seconds, shares = zip(*results, strict=True)
        print(
            f"{name}: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
            f", {statistics.mean(shares):.2%} (mean of {len(shares)}; {min(shares):.2%} to "
            f"{max(shares):.2%})"
        )


if __name__ == "__main__":
    main()
