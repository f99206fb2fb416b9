"""Images a second of full fine-tuning beside timm's own training script.

Same net (timm's mobilenetv2_100 at 224, all of it trained, batch statistics moving), batch of 32,
AdamW, bf16 where the processor computes in it, channels_last on both sides. The wheel of timm holds
no train.py, so its step is put together from timm's own parts as that script does: create_loader
with the script's default augmentation and two workers, create_optimizer_v2, the task's loss,
backward, update, and the loss read after each step. Ours is the training loop as
`glasshouse train --recipe transfer-full` runs it, augmentation included. Claims: no slower than the
script; and, for a look without loading, no slower than its step on batches that are ready.
Run: GLASSHOUSE_DATA=DATA python bench/finetune_step.py [rounds]
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contest import data_folder, judge_rounds, machine, play_rounds, ratios, run_contender

SIZE, BATCH, WARMUP, STEPS = 224, 32, 2, 8
NET = "mobilenetv2_100"
COPIES = 7


def photos(folder: str) -> Path:
    """Class folders with enough files for an epoch that outlasts the measurement."""
    for file in (data_folder() / "hymenoptera" / "train").rglob("*.jpg"):
        for number in range(COPIES):
            target = Path(folder) / file.parent.name / f"{number}-{file.name}"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(file, target)
    return Path(folder)


def rate(steps: Iterator[Any]) -> float:
    for _ in range(WARMUP):
        next(steps)
    started = time.perf_counter()
    for _ in range(STEPS):
        next(steps)
    return BATCH * STEPS / (time.perf_counter() - started)


def glasshouse() -> float:
    import torch

    from glasshouse.data.sources import load_splits
    from glasshouse.recipe import load_recipe
    from glasshouse.training.adapting import adapt
    from glasshouse.training.loop import Step, TrainingSetup
    from glasshouse.training.transfer import begin_transfer, train_transfer
    from glasshouse.workflow.train.pretrained_setup import data_settings

    with tempfile.TemporaryDirectory() as folder:
        source = photos(folder)
        os.environ["GLASSHOUSE_CACHE"] = f"{folder}/cache"
        recipe = load_recipe("transfer-full", [
            f"model.pretrained.name={NET}", "model.pretrained.weights=none",
            f"train.batch_size={BATCH}", "transfer.batch_statistics=true",
        ])  # fmt: skip
        splits = load_splits(source, data_settings(source, recipe))
        assert recipe.model.pretrained is not None
        classifier = adapt(recipe.model.pretrained, splits.train).classifier
        device = torch.device("cpu")
        state = begin_transfer(classifier.net, recipe.train, recipe.transfer, device)
        setup = TrainingSetup(
            splits.train,
            splits.validation,
            classifier.preprocessing,
            recipe.train,
            recipe.augment,
        )
        records = train_transfer(state, setup, recipe.transfer)
        return rate(record for record in records if isinstance(record, Step))


def steps_of_timm(batches: Iterator[Any]) -> Iterator[float]:
    """What timm's script does with each batch, with --amp --amp-dtype bfloat16 --channels-last."""
    import torch

    from glasshouse.models.libraries import timm_library
    from glasshouse.models.predict import autocast
    from glasshouse.settings import TrainSettings
    from glasshouse.training.precision import choose_precision

    timm = timm_library()
    from timm.optim import create_optimizer_v2

    device = torch.device("cpu")
    net = timm.create_model(NET, num_classes=2).to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(net, opt="adamw", lr=1e-4, weight_decay=0.01)
    loss_of = torch.nn.CrossEntropyLoss()
    precision = choose_precision(TrainSettings(device="cpu"), device)
    net.train()
    optimizer.zero_grad()
    for images, labels in batches:
        images = images.contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            loss = loss_of(net(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def timm_script() -> float:
    import torch

    from glasshouse.models.libraries import timm_library

    timm_library()
    from timm.data import create_dataset, create_loader

    with tempfile.TemporaryDirectory() as folder:
        loader = create_loader(
            create_dataset("", root=str(photos(folder))), input_size=(3, SIZE, SIZE),
            batch_size=BATCH, is_training=True, num_workers=2, interpolation="random",
            device=torch.device("cpu"),
        )  # fmt: skip
        return rate(steps_of_timm(iter(loader)))


def timm_ready() -> float:
    import torch

    random = torch.Generator().manual_seed(0)
    ready = [(torch.randn(BATCH, 3, SIZE, SIZE, generator=random),
              torch.randint(0, 2, (BATCH,), generator=random)) for _ in range(4)]  # fmt: skip
    return rate(steps_of_timm(ready[number % 4] for number in range(WARMUP + STEPS)))


CONTENDERS = {"glasshouse": glasshouse, "timm_script": timm_script, "timm_ready": timm_ready}


def main() -> None:
    print(machine())
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    ours, script, ready = play_rounds(__file__, list(CONTENDERS), rounds).values()
    holds = [
        judge_rounds("full fine-tuning, times timm's script", ratios(ours, script), 1.0),
        judge_rounds("... times timm's step on ready batches", ratios(ours, ready), 1.0),
    ]
    sys.exit(not holds[0])


if __name__ == "__main__" and not run_contender(CONTENDERS):
    main()
