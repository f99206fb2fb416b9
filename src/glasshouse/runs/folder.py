"""Run folders, read without torch: what was trained, how far, how well."""

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glasshouse.errors import UsageError
from glasshouse.recipe import parse_recipe
from glasshouse.settings import Recipe
from glasshouse.storage import read_json

RECIPE = "recipe.toml"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
FINDER = "finder.json"
HEADS = "heads.json"
MODEL = "model.json"
PREDICTIONS = "predictions.safetensors"
VALIDATION_PREDICTIONS = "validation-predictions.safetensors"
EVALUATION = "evaluation.json"
REPORT = "report.html"
COST = "cost.json"
MISTAKES = "mistakes.html"
EXPLAINED_MISTAKES = "plots/explained-mistakes.png"


@dataclass(frozen=True)
class Run:
    """One run folder; evaluation is None until the run has ended."""

    folder: Path
    recipe: Recipe
    environment: dict[str, Any]
    epochs: tuple[dict[str, Any], ...]
    evaluation: dict[str, Any] | None

    @property
    def is_finished(self) -> bool:
        """True when the test split has been touched and the report can be written."""
        return self.evaluation is not None

    @property
    def seconds(self) -> float:
        """What training took: of the epochs, or of features and heads where there are none."""
        return training_seconds(self.folder, self.epochs)

    @property
    def finder_seconds(self) -> float:
        """What the range test took, where the rate was left to it."""
        path = self.folder / FINDER
        return float(read_json(path)["seconds"]) if path.is_file() else 0.0


def read_run(folder: Path) -> Run:
    """Read a run folder; raises UsageError when it is not one."""
    if not (folder / RECIPE).is_file() or not (folder / ENVIRONMENT).is_file():
        what = "does not exist" if not folder.exists() else f"has no {RECIPE}"
        raise UsageError(
            f"{folder} is not a run folder: it {what}. "
            "`glasshouse runs FOLDER` lists the runs in a folder, `glasshouse train` makes one."
        )
    recipe = parse_recipe(tomllib.loads((folder / RECIPE).read_text(encoding="utf-8")))
    evaluation = read_json(folder / EVALUATION) if (folder / EVALUATION).is_file() else None
    return Run(
        folder, recipe, read_json(folder / ENVIRONMENT), _read_epochs(folder / METRICS), evaluation
    )


def training_seconds(folder: Path, epochs: Sequence[Mapping[str, Any]]) -> float:
    """What training took: of the epochs, or of features and heads where there are none."""
    path = folder / HEADS
    if path.is_file():
        record = read_json(path)
        return float(record["feature_seconds"]) + float(record["head_seconds"])
    return math.fsum(float(epoch["seconds"]) for epoch in epochs)


def find_runs(folder: Path) -> list[Run]:
    """Every run below a folder, the newest first."""
    found = [read_run(path.parent) for path in sorted(folder.glob(f"**/{RECIPE}"))
             if (path.parent / ENVIRONMENT).is_file()]  # fmt: skip
    return sorted(found, key=lambda run: str(run.environment.get("started")), reverse=True)


def next_run_folder(parent: Path, name: str) -> Path:
    """A folder that does not exist yet: name-1, name-2 and so on."""
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def _read_epochs(path: Path) -> tuple[dict[str, Any], ...]:
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line) for line in lines if line)
