"""Runs, checks and answers with fixed numbers, for pages that show them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from glasshouse.data.findings import Finding
from glasshouse.data.images import BadFile, ImageSet, Splits
from glasshouse.explanation.nouns import Activations, Check, Explanation, ExplanationPage
from glasshouse.models.conformity import SetRule
from glasshouse.recipe import load_recipe, to_toml
from glasshouse.serving.check_cache import CachedCheck
from glasshouse.serving.explainer import ExplainedPhoto
from glasshouse.serving.photos import Photo
from glasshouse.workflow.use.model_choices import ModelChoice
from glasshouse.workflow.use.source_check import Examination
from tests.run_files import environment, epoch_line, write_lines

NAMES = ("cat", "dog", "owl")


def share(value: float) -> dict[str, float]:
    """A value with an interval."""
    return {"value": value, "low": value - 0.0625, "high": value + 0.03125}


def write_made_up_run(folder: Path, recipe: str = "small-residual", **evaluation: Any) -> Path:
    """A run that ended: with an evaluation, if one is given."""
    folder.mkdir(parents=True)
    found = load_recipe(recipe, ["train.epochs=3"] if recipe == "small-residual" else [])
    (folder / "recipe.toml").write_text(to_toml(found), encoding="utf-8")
    known = environment("data/photos", "2026-11-01T09:05:00+00:00")
    known["data"] |= {
        "class_names": list(NAMES), "notes": ["Split by hash.", "Mirrored copies: none."],
        "bad_files": ["a.png", "b.png"], "images": {"train": 1234, "validation": 4, "test": 5},
    }  # fmt: skip
    (folder / "environment.json").write_text(json.dumps(known | {"threads": 2}), encoding="utf-8")
    if recipe == "small-residual":
        lines = [
            epoch_line(k, lr=0.012345 / k, train_accuracy=k / 8, validation_accuracy=right)
            for k, right in enumerate((0.25, 0.8125, 0.75), 1)
        ]
        write_lines(folder / "metrics.jsonl", lines)
    if evaluation:
        (folder / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    return folder


def of_one_label() -> dict[str, Any]:
    """The evaluation of 1,200 images with one of three classes each."""
    bins = [
        {"low": 0.0, "high": 0.25, "count": 0, "confidence": None, "accuracy": None},
        {"low": 0.25, "high": 0.5, "count": 7, "confidence": 0.4, "accuracy": share(0.375)},
        {"low": 0.5, "high": 1.0, "count": 1193, "confidence": 0.9, "accuracy": share(0.87654321)},
    ]
    mistakes = [
        {"id": f"test/{k}.png", "true": NAMES[k], "predicted": NAMES[k - 1],
         "probability": 0.9 - k / 16, "probability_of_true": k / 32}
        for k in range(3)
    ]  # fmt: skip
    per_class = [
        {"name": "cat", "support": 1000, "precision": 0.90625, "recall": share(0.9), "f1": 0.875},
        {"name": "dog", "support": 200, "precision": 0.5, "recall": share(0.25), "f1": 0.3125},
        {"name": "owl", "support": 0, "precision": None, "recall": None, "f1": None},
    ]
    return {
        "image_count": 1200, "mistake_count": 250, "class_names": NAMES,
        "accuracy": share(0.791666), "commonest_share": 0.8333, "calibrated_loss": 0.43216,
        "top_k": [{"k": k, "accuracy": share(0.9 + k / 64)} for k in (2, 3)],
        "macro": {"f1": 0.395833}, "confusion": [[900, 90, 10], [150, 50, 0], [0, 0, 0]],
        "confused_pairs": [
            {"true": "dog", "predicted": "cat", "count": 1150},
            {"true": "cat", "predicted": "dog", "count": 90},
        ],
        "per_class": per_class, "mistakes": mistakes, "loss": 1.5,
        "before": {"loss": 1.5, "ece": 0.1234, "temperature": 1.0, "bins": []},
        "after": {"loss": 0.4, "ece": 0.0123, "temperature": 1.875, "bins": bins},
    }  # fmt: skip


def of_several_labels() -> dict[str, Any]:
    """The evaluation of 1,234 images with any of three labels each."""
    label = {"precision": 0.25, "recall": share(0.5), "f1": share(0.75), "threshold": 0.375}
    precision = {"average_precision": share(0.625), "support": 1100}
    none = {"average_precision": None, "f1": None, "recall": None, "support": 0}
    return {
        "image_count": 1234, "class_names": NAMES, "accuracy": share(0.125),
        "mean_average_precision": share(0.5), "chance": 0.0625, "commonest_share": 0.375,
        "macro_f1": share(0.875), "micro_f1": 0.9375, "calibrated_loss": 0.12345,
        "unlabelled_count": 5678, "loss": 1.0,
        "per_label": [
            {"name": "cat", **label, **precision},
            {"name": "dog", **label, **none},
        ],
        "before": {"loss": 1.0, "ece": 0.25, "temperature": 1.0, "bins": []},
        "after": {"loss": 0.5, "ece": 0.03, "temperature": 0.75, "bins": []},
    }  # fmt: skip


def paired() -> Any:
    """What the paired tests of three runs found, and why two others were left out."""
    one = SimpleNamespace(
        first="one", second="two", verdict="two is better than one.", p=0.0004, p_adjusted=0.001,
        difference=SimpleNamespace(value=0.0125, low=-0.5, high=0.525),
        only_first_right=range(3), only_second_right=range(1234),
    )  # fmt: skip
    others = [
        SimpleNamespace(**{**vars(one), "verdict": f"Verdict {k}.", "first": f"run {k}"})
        for k in range(3)
    ]
    return SimpleNamespace(
        comparisons=(one, *others), are_several=False, problem="", unfinished=("half", "none"),
        unfit={"other": "It has other images.", "broken": "It is damaged"},
    )  # fmt: skip


def images_of(count: int, prefix: str, side: int = 8, classes: int = 3) -> ImageSet:
    """Black images, whose classes take turns."""
    names = (*NAMES, *(f"class {k}" for k in range(3, classes)))[:classes]
    return ImageSet(
        np.zeros((count, 3, side, side + 1), dtype=np.uint8),
        np.arange(count) % classes,
        np.array([f"{prefix}/{k}.png" for k in range(count)]),
        names,
    )


def made_up_check() -> CachedCheck:
    """A check with findings of every form, of a source with two files that cannot be read."""
    splits = Splits(
        images_of(9, "a"), images_of(4, "b"), images_of(5, "c"),
        bad_files=(BadFile("a/broken.png", "cut off"), BadFile("b/none.png", "it is empty")),
    )  # fmt: skip
    many = tuple(f"a/{k}.png" for k in range(9)) + tuple(f"c/{k}.png" for k in range(5))
    findings = (
        Finding("counts", "info", "18 images", "shown in another panel"),
        Finding("leaked", "error", "Copies", "in two splits", groups=(("a/0.png", "c/1.png"),),
                formula="Equal pixels."),
        Finding("near", "warning", "Alike", "a group", groups=(many[:8], ("a/8.png", "b/3.png"))),
        Finding("dark", "warning", "Dark", "too many to show at once", ids=many),
        Finding("small", "warning", "Small", "one of them unknown", ids=("b/0.png", "none")),
        Finding("names", "info", "Names", "no images", ids=("none",), formula="By hand."),
        Finding("big", "info", "Big", "closed at first", ids=("c/0.png",)),
    )  # fmt: skip
    return CachedCheck("KEY", Examination("photos", findings, splits))


def made_up_answer(*, several: bool = False) -> ExplainedPhoto:
    """A photo of two classes with three maps, of which two were checked, and two layers."""
    images = np.zeros((1, 3, 4, 6), dtype=np.uint8)
    logits = np.log([[0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125]])
    names = ("cat", "dog", "owl", "fox", "bee", "ant")
    checks = (
        Check("faithful", (0.5,), "good", "It follows the network."),
        Check("stable", (0.5,), "doubtful", "It may change."),
        Check("size", (0.5,), "note", "It is small."),
    )

    def map_of(method: str, **other: Any) -> Explanation:
        return Explanation(
            method, np.zeros((1, 4, 6)), images, logits, np.array([1]), names, **other
        )

    cam = map_of(
        "grad-cam", layer="block.2", checks=checks, warnings=("Beware.",), notes=("By the way.",)
    )
    contrast = map_of("saliency", against=np.array([0]), checks=checks[:1])
    rule = SetRule(0.9, "lac", class_conditional=False, limits=(0.6,) * 6, count=9, source="val")
    layers = (
        Activations("stem", np.zeros((1, 16, 8, 12))),
        Activations("end", np.zeros((1, 2, 1, 3))),
    )
    page = ExplanationPage(
        images, logits, names, (cam, contrast, map_of("guided")), activations=layers,
        thresholds=(0.4, 0.2, 0.9, 0.9, 0.9, 0.01) if several else None,
        set_rule=None if several else rule,
    )  # fmt: skip
    photo = Photo("my cat.png", np.zeros((4, 6, 3), dtype=np.uint8), class_name="cat")
    nothing: Any = None
    return ExplainedPhoto(
        "KEY", ModelChoice("one", epoch=2), photo, nothing, page, np.zeros((8, 12, 3), np.uint8)
    )
