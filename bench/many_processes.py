"""Training in several processes: the same bytes, how fast, and what is left after kill -9.

    python bench/many_processes.py [bytes | kills N | overhead | speed [RECIPE]]

Claims: model and predictions have the same bytes for 1, 2, 4 and 8 processes, of digits, also where
early stopping ends the training, of a subset of CIFAR-10 and of a transfer run (the last two are
read from GLASSHOUSE_DATA); so they have
after 50 kills of a random process at a random moment, each resumed with another number; a step
takes at most 1.10 times that of DistributedDataParallel in as many processes; on two cores, two
processes train `fast` at least 1.10 times as fast as one process with two threads, and the
tutorial's networks, with 32 images a process, no slower. Without an argument, all four.
"""

import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from contest import judge, judge_rounds, machine, print_medians, ratios

if TYPE_CHECKING:
    from glasshouse.training.loop import Step
    from glasshouse.training.process_group import ProcessGroup

NUMBERS = (1, 2, 4, 8)
EVERYTHING = [
    "train.epochs=6", "train.batch_size=64", "train.shards=8", "train.precision=fp32",
    "train.ema_decay=0.9", "train.keep=best", "train.sampling=balanced", "train.lr=0.002",
    "augment.mixup=0.2", "augment.cutmix=0.5", "augment.rotation_range=10",
    "data.train_limit=600",
]  # fmt: skip
# A rate at which the validation loss soon rises again.
LONGEST = 40
STOPPED = [f"train.epochs={LONGEST}", "train.early_stopping=1", "train.lr=0.01"]
# With a recipe that has BatchNorm and dropout, the rest of what processes have to agree on.
MORE = ["train.epochs=4", "train.lr=auto", "train.early_stopping=2", "data.train_limit=1500"]
WEIGHTS = "weights/imagenet/mobilenetv2_100_tfsame.fp16.safetensors"
TRANSFER = [
    "model.pretrained.name=mobilenetv2_100", "model.pretrained.arguments.pad_type=same",
    "model.pretrained.input_size=96", "train.epochs=3", "train.shards=8", "train.precision=fp32",
]  # fmt: skip
STEPS, ROUNDS = 10, 15
# Images a shard, steps of two processes in a turn (of the tutorial's networks, 42 batches are
# augmented at once), and how many times as fast two processes are as two threads.
SPEEDS = {"tutorial-basic": (32, 42, 1.0), "tutorial-wide": (32, 42, 1.0), "fast": (512, 2, 1.10)}
SPEED_ROUNDS = 30


def command(
    out: Path, processes: int, settings: list[str], recipe: str = "small-cnn",
    source: str = "digits",
) -> list[str]:  # fmt: skip
    sets = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "glasshouse", "train", source, "--recipe", recipe, *sets,
            "--processes", str(processes), "--out", str(out)]  # fmt: skip


def sums(run: Path) -> tuple[str, ...]:
    names = ("model.safetensors", "predictions.safetensors")
    return tuple(hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names)


def same_bytes(folder: Path) -> bool:
    data = os.environ.get("GLASSHOUSE_DATA")
    cases = {
        "digits": command(folder / "digits", 1, EVERYTHING),
        "digits, stopped early": command(folder / "stopped", 1, [*EVERYTHING, *STOPPED]),
    }
    if data:
        transfer = [*TRANSFER, f"model.pretrained.weights={data}/{WEIGHTS}"]
        cases["cifar10"] = [
            *command(folder / "cifar10", 1, [*EVERYTHING, *MORE], "tutorial-wide-bn", "cifar10"),
            "--data-dir", data, "--snapshots", "2",
        ]  # fmt: skip
        cases["hymenoptera"] = command(
            folder / "hymenoptera", 1, transfer, "transfer-gradual", f"{data}/hymenoptera"
        )
    else:
        print("GLASSHOUSE_DATA is not set: digits only")
    held = [alike(name, words) for name, words in cases.items()]
    held.append(judge("runs that early stopping ended", stopped_early(folder), len(NUMBERS)))
    return all(held)


def stopped_early(folder: Path) -> int:
    """How many of the runs in which it is expected early stopping has ended."""
    metrics = folder.glob("stopped-*/metrics.jsonl")
    return sum(path.read_bytes().count(b"\n") < LONGEST for path in metrics)


def alike(name: str, words: list[str]) -> bool:
    """Whether a training has the same bytes in any number of processes."""
    found = []
    for number in NUMBERS:
        out = Path(f"{words[words.index('--out') + 1]}-{number}")
        options = ["--processes", str(number), "--out", str(out)]
        subprocess.run([*words, *options], check=True, capture_output=True)
        found.append(sums(out))
        print(f"{name}, {number} processes: {found[-1][0][:16]} {found[-1][1][:16]}", flush=True)
    claim = f"different results of 1, 2, 4 and 8 processes, {name}"
    return judge(claim, len(set(found)), 1, at_least=False)


def kills(folder: Path, count: int) -> bool:
    whole, killed = folder / "whole", folder / "killed"
    settings = [*EVERYTHING, "train.epochs=24"]
    begun = time.monotonic()
    subprocess.run(command(whole, 2, settings), check=True, capture_output=True)
    seconds = time.monotonic() - begun
    draws, number, done, differing = random.Random(0), 2, 0, 0
    while done < count:
        number = draws.choice([n for n in NUMBERS if n != number])
        again = ["--resume"] if (killed / "recipe.toml").is_file() else []
        process = subprocess.Popen(
            [*command(killed, number, settings), *again],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(draws.uniform(0.1, 0.9) * seconds)
        members = members_of(process.pid)
        if members:
            draws.choice(members).kill()
            done += 1
        code = process.wait()
        psutil.wait_procs(members, timeout=60)
        print(f"kill {done}: {number} processes, exit code {code}", flush=True)
        if (killed / "report.html").is_file():
            differing += check_and_forget(killed, whole)
    number = draws.choice([n for n in NUMBERS if n != number])
    again = ["--resume"] if (killed / "recipe.toml").is_file() else []
    subprocess.run([*command(killed, number, settings), *again], check=True, capture_output=True)
    differing += check_and_forget(killed, whole)
    return judge(f"runs with other bytes after {done} kills", differing, 0, at_least=False)


def check_and_forget(killed: Path, whole: Path) -> int:
    """1 if a run that ended has other bytes; it makes room for the next one."""
    differs = sums(killed) != sums(whole)
    killed.rename(killed.with_name(f"ended-{time.monotonic_ns()}"))
    return int(differs)


def members_of(launcher: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(launcher)
        return [parent, *(c for c in parent.children() if "RANK" in c.environ())]
    except psutil.Error:
        return []


def speed(recipes: list[str]) -> bool:
    """Steps in turns: one process with two threads, with one, and two processes."""
    if unknown := set(recipes) - set(SPEEDS):
        raise SystemExit(f"expected any of {', '.join(SPEEDS)}, got {', '.join(unknown)}")
    held = [faster(recipe) for recipe in recipes or SPEEDS]
    return all(held)


def faster(recipe: str) -> bool:
    """Whether two processes are so much faster than two threads, with as many images a shard.

    Also twice the speed of one thread, which two processes would have if they exchanged nothing.
    """
    shard, steps, at_least = SPEEDS[recipe]
    found = launched("turns", recipe)
    rates = [2 * shard * steps / statistics.median(seconds) for seconds in found.values()]
    print(f"{recipe}, {shard} images a shard: two threads {rates[0]:,.0f} images/s, twice one "
          f"thread {2 * rates[1]:,.0f}, two processes {rates[2]:,.0f}", flush=True)  # fmt: skip
    claim = f"two processes compared with two threads, {recipe}"
    return judge_rounds(claim, ratios(found["two threads"], found["two processes"]), at_least)


def time_turns(recipe: str) -> None:
    """In one of the processes: the seconds of as many images each way, in short turns.

    The speed of a shared machine changes within seconds, so that only turns that follow each other
    can be compared. While the first process trains alone, the other one sleeps.
    """
    import torch
    from torch import distributed

    from glasshouse.training.process_group import ALONE, joined

    shard, steps, _ = SPEEDS[recipe]
    with joined() as group:
        begun = begin_trainings(recipe)
        ways = {
            "two threads": (2, begun(ALONE, shard, 2), 2 * steps),
            "one thread": (1, begun(ALONE, shard, 1), 2 * steps),
            "two processes": (1, begun(group, 2 * shard, 1), steps),
        }
        rounds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(SPEED_ROUNDS + 1):
            # Every other time in reverse: each way meets the processor as the one before left it.
            for name in list(ways)[:: (-1) ** turn]:
                threads, training, count = ways[name]
                distributed.barrier()
                if name != "two processes" and not group.is_first:
                    continue
                # Now: training would set them anew for each step, and set them back.
                torch.set_num_threads(threads)
                started = time.perf_counter()
                for _ in range(count):
                    next(training)
                if turn:  # the first turn warms up
                    rounds[name].append(time.perf_counter() - started)
                torch.set_num_threads(1)
        if group.is_first:
            print(json.dumps(rounds))


def begin_trainings(recipe: str) -> "Callable[[ProcessGroup, int, int], Iterator[Step]]":
    """A function that begins a training of a group, with a batch size and threads: its steps."""
    import torch
    from train_speed import training_of

    from glasshouse.training.loop import Step, train
    from glasshouse.training.state import begin

    classifier, setup = training_of(recipe)

    def begun(group: "ProcessGroup", batch_size: int, threads: int) -> Iterator[Step]:
        words = {"batch_size": batch_size, "shards": group.size, "threads": threads}
        settings = setup.settings.model_copy(update=words)
        state = begin(classifier.net, settings, torch.device("cpu"))
        for record in train(state, replace(setup, settings=settings, group=group)):
            if isinstance(record, Step):
                yield record

    return begun


def overhead() -> bool:
    """A step in two processes compared with DistributedDataParallel, in the same processes."""
    found = launched("step")
    print_medians(found)
    claim = "times DistributedDataParallel's step"
    return judge_rounds(claim, ratios(found["ours"], found["ddp"]), 1.10, at_least=False)


def launched(*words: str) -> dict[str, list[float]]:
    """What the first of two processes of this script measures."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, __file__, *words], check=True, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def time_steps() -> None:
    """In one of the processes: the seconds per step of both, in turns."""
    from torch import distributed

    from glasshouse.training.process_group import joined

    with joined() as group:
        ways = ways_to_step(group)
        rounds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name, run in ways.items():
                distributed.barrier()
                started = time.perf_counter()
                run()
                if turn:  # the first turn warms up
                    rounds[name].append((time.perf_counter() - started) / STEPS)
        if group.is_first:
            print(json.dumps(rounds))


def ways_to_step(group: "ProcessGroup") -> dict[str, Callable[[], None]]:
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    from glasshouse.data.batches import batches, prepare_images
    from glasshouse.data.sources import load_splits
    from glasshouse.models.classifier import Preprocessing
    from glasshouse.settings import AugmentSettings, TrainSettings
    from glasshouse.training.loop import TrainingSetup, update
    from glasshouse.training.optimizers import build_optimizer
    from glasshouse.training.state import begin

    splits, cpu, plain = load_splits("digits"), torch.device("cpu"), AugmentSettings()
    settings = TrainSettings(batch_size=64, shards=2, precision="fp32", device="cpu")
    setup = TrainingSetup(
        splits.train, splits.validation, Preprocessing(8, 8), settings, plain, group=group
    )
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(128, 256, 3, padding=1), nn.BatchNorm2d(256), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 10),
    )  # fmt: skip
    ours, theirs = (begin(net, settings, cpu) for _ in range(2))
    ddp = DistributedDataParallel(theirs.net.train())
    optimizer = build_optimizer(theirs.net, settings)
    data = prepare_images(splits.train, cpu, cut=setup.cut)
    made = list(batches(data, plain, batch_size=64, seed=0, epoch=0))[:STEPS]

    def our_steps() -> None:
        for batch in made:
            update(ours, batch, setup, 1e-3)

    def their_steps() -> None:
        for batch in made:
            (shard,) = batch.shards
            inputs = (shard.images / 255).contiguous(memory_format=torch.channels_last)
            cross_entropy(ddp(inputs), shard.labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    return {"ours": our_steps, "ddp": their_steps}


def main(arguments: list[str]) -> bool:
    if arguments[:1] == ["step"]:
        time_steps()
        return True
    if arguments[:1] == ["turns"]:
        time_turns(arguments[1])
        return True
    print(machine())
    chosen, held = arguments[:1], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if chosen in ([], ["bytes"]):
            held.append(same_bytes(folder))
        if chosen in ([], ["kills"]):
            held.append(kills(folder, int(arguments[1]) if len(arguments) > 1 else 50))
        if chosen in ([], ["overhead"]):
            held.append(overhead())
        if chosen in ([], ["speed"]):
            held.append(speed(arguments[1:]))
    return all(held)


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
