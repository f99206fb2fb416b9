"""Shortcuts planted by code, and clean controls: what is found, and what is accused wrongly.

Claim: of the planted cues that a network uses, >= 95 % are found with the right place or kind; of
the clean runs, <= 5 % are accused. A cue counts as used where shuffling it between classes costs
5 points of accuracy or more on 1,000 images that nothing else has seen, and McNemar's p < 0.01.
Five kinds at five strengths with three seeds, in generated shapes and in CIFAR-10; small networks
of a few seconds. Runs are written to a file as they end and not repeated.

    python bench/shortcuts.py --out shortcuts.jsonl --data-dir FOLDER --limit 20
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from torch import manual_seed, nn, set_num_threads

sys.path.insert(0, str(Path(__file__).parents[1]))

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.data.shapes import make_shapes
from glasshouse.data.sources import load_splits
from glasshouse.evaluation.compare import mcnemar
from glasshouse.explanation.shortcuts.find import find_shortcuts
from glasshouse.models.predict import predict
from glasshouse.settings import DataSettings, TrainSettings
from glasshouse.training.fit import train_classifier
from tests.planted_cues import CORNERS, KINDS, STRENGTHS, CueKind, plant, shuffled_cues

SETS = ("cifar10", "shapes")
SEEDS = (0, 1, 2)
CLEAN = "clean"
_TRAIN, _HELD_OUT = 3000, 1000
_USED, _SIGNIFICANT = 0.05, 0.01
Case = tuple[str, str, float, int]


def cases() -> list[Case]:
    """Every planted run and as many clean ones, in an order that any limit samples evenly."""
    planted = [(k, s, seed) for k in KINDS for s in STRENGTHS for seed in SEEDS]
    clean = [(CLEAN, 0.0, seed) for seed in range(len(planted))]
    every = [(name, *case) for name in SETS for case in (*planted, *clean)]
    random.Random(0).shuffle(every)
    return every


def images_of(name: str, data_dir: Path | None, seed: int) -> Splits:
    """Training and validation images, and 1,000 others that take the place of a test split.

    Clean runs with other seeds have other training and validation images.
    """
    if name == "shapes":
        train, validation, others = (
            make_shapes(split, count, seed=100 + seed)
            for split, count in (("train", 6000), ("validation", _HELD_OUT), ("extra", _HELD_OUT))
        )
        return Splits(train, validation, others)
    splits = load_splits("cifar10", DataSettings(), data_dir=data_dir)
    order = np.random.default_rng(seed).permutation(len(splits.train))
    ends = (_TRAIN, _TRAIN + _HELD_OUT, _TRAIN + 2 * _HELD_OUT)
    parts = np.split(order[: ends[-1]], ends[:-1])
    train, validation, others = (take(splits.train, part) for part in parts)
    return Splits(train, validation, others)


def network() -> nn.Module:
    """A small convolutional network that trains in seconds."""

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU(),
        ]  # fmt: skip

    return nn.Sequential(
        *block(3, 24, 2), *block(24, 48, 1), nn.MaxPool2d(2), *block(48, 64, 1),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip


def judge(case: Case, data_dir: Path | None) -> dict[str, Any]:
    """Train one network and look for shortcuts in it."""
    name, kind, strength, seed = case
    plain = images_of(name, data_dir, seed)
    splits = plain if kind == CLEAN else planted(plain, kind, strength, seed)
    start = time.perf_counter()
    epochs = 4 if name == "cifar10" else 6
    settings = TrainSettings(
        epochs=epochs, batch_size=64, optimizer="adam", lr=2e-3, seed=seed, keep="last"
    )
    manual_seed(seed)  # of the first weights
    classifier, _ = train_classifier(network(), splits, settings, progress=False)
    trained = time.perf_counter()
    found = find_shortcuts(classifier, splits.validation, splits.train)
    seconds = time.perf_counter() - trained
    aligned = hits(classifier, splits.test)
    shuffled = aligned
    if kind != CLEAN:
        cues = shuffled_cues(plain.test, seed)
        shuffled = hits(classifier, plant_in(plain.test, kind, strength, seed, cues))
    loss = float(aligned.mean() - shuffled.mean())
    p = mcnemar(int((aligned & ~shuffled).sum()), int((shuffled & ~aligned).sum()))
    names = [test.name for test in found.used]
    return {
        "set": name, "kind": kind, "strength": strength, "seed": seed,
        "accuracy": round(float(aligned.mean()), 4), "loss": round(loss, 4),
        "is_used": loss >= _USED and p < _SIGNIFICANT, "found": names,
        "lost": [round(test.effect.lost.value, 4) for test in found.used],
        "gains": {key: round(alone.gain, 3) for key, alone in found.alone.items()},
        "largest": {
            t.name: round(t.effect.lost.value, 4) for t in found.tests if t.subject == "all"
        },
        "is_right": bool(names) and names[0] in right_names(kind, seed),
        "training_seconds": round(trained - start, 1), "seconds": round(seconds, 1),
    }  # fmt: skip


def right_names(kind: str, seed: int) -> tuple[str, ...]:
    """What the first shortcut of a run may be called; a text may be found by its place."""
    return {
        "tag": (CORNERS[seed % 4],),
        "border": ("border",),
        "text": ("fixed pattern", "bottom edge"),
        "tint": ("overall colour",),
        "jpeg": ("JPEG compression",),
    }.get(kind, ())


def planted(splits: Splits, kind: str, strength: float, seed: int) -> Splits:
    """The same splits with the cue of its class in every image."""
    parts = (splits.train, splits.validation, splits.test)
    return Splits(*(plant_in(part, kind, strength, seed, None) for part in parts))


def plant_in(
    images: ImageSet, kind: str, strength: float, seed: int, cues: np.ndarray | None
) -> ImageSet:
    """`plant` for the kind of a case."""
    known: CueKind = next(each for each in KINDS if each == kind)
    return plant(images, known, strength, cues=cues, seed=seed)


def hits(classifier: Any, images: ImageSet) -> np.ndarray:
    """Which images are classified correctly."""
    answer: np.ndarray = predict(classifier, images).logits.argmax(axis=1) == images.labels
    return answer


def summary(rows: list[dict[str, Any]]) -> None:
    """Print what was found of what was used, and what was accused."""
    for name in SETS:
        own = [row for row in rows if row["set"] == name]
        clean = [row for row in own if row["kind"] == CLEAN]
        accused = [row for row in clean if row["found"]]
        used = [row for row in own if row["is_used"]]
        right = [row for row in used if row["is_right"]]
        print(f"{name}: {len(own)} of 150 runs; clean accused {len(accused)} of {len(clean)}; "
              f"used {len(used)} of {len(own) - len(clean)} planted, "
              f"found with the right place or kind {len(right)}")  # fmt: skip
        for row in (*accused, *(row for row in used if not row["is_right"])):
            print(f"  {row['kind']} {row['strength']} seed {row['seed']}: loss {row['loss']}, "
                  f"found {row['found']}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("shortcuts.jsonl"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--limit", type=int, default=10, help="how many runs to add")
    parser.add_argument("--set", choices=SETS, help="only this data set")
    parser.add_argument("--minutes", type=float, default=25, help="begin no run after this long")
    options = parser.parse_args()
    set_num_threads(1)
    lines = options.out.read_text().splitlines() if options.out.is_file() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["set"], row["kind"], row["strength"], row["seed"]) for row in rows}
    left = [c for c in cases() if c not in done and options.set in (None, c[0])]
    end = time.monotonic() + 60 * options.minutes
    for case in left[: options.limit]:
        if time.monotonic() > end:
            break
        rows.append(judge(case, options.data_dir))
        with options.out.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(json.dumps({k: v for k, v in rows[-1].items() if k not in ("gains", "largest")}),
              flush=True)  # fmt: skip
    summary(rows)


if __name__ == "__main__":
    main()
