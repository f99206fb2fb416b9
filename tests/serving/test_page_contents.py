"""What the pages show that needs torch: layers, paired tests and augmented images."""

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glasshouse.data.images import ImageSet
from glasshouse.evaluation.multi_label import evaluate_labels
from glasshouse.models.outputs import save_predictions
from glasshouse.models.predict import load_predictions
from glasshouse.recipe import load_recipe
from glasshouse.runs.listing import list_run
from glasshouse.serving.augmented_images import augmented_images
from glasshouse.serving.layer_table import layer_rows
from glasshouse.serving.pages.compare import _pair
from glasshouse.serving.pages.curves import chart_titles
from glasshouse.serving.pages.explain import view as explain_view
from glasshouse.serving.pages.explain.panel import places_shown
from glasshouse.serving.pages.explain.strip import _worst_mistakes
from glasshouse.serving.pages.explain.view import _check
from glasshouse.serving.pages.label_results import _row
from glasshouse.serving.paired_tests import paired_tests
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.model_choices import ModelChoice
from tests.run_files import environment, epoch_line, write_lines


def test_the_layers_of_a_run_add_up_to_its_parameters(full: Workbench) -> None:
    rows, total = layer_rows(full, "first")
    parameters = sum(int(row[3].replace(",", "")) for row in rows)
    assert total.startswith(f"{parameters:,} parameters")
    assert total.endswith("8x8 pixels.")


def test_runs_without_predictions_are_left_out_of_the_tests(full: Workbench) -> None:
    folders = {name: full.runs / name for name in ("first", "sub/second")}
    (one,) = paired_tests(folders).comparisons
    assert (one.first, one.second) == ("first", "sub/second")
    (folders["first"] / "predictions.safetensors").unlink()
    found = paired_tests(folders)
    assert found.unfinished == ("first",) and not found.comparisons
    assert "Fewer than two" in found.problem


def test_runs_with_several_labels_per_image_are_tested_among_themselves(full: Workbench) -> None:
    folders = {name: full.runs / name for name in ("first", "sub/second")}
    path = folders["first"] / "predictions.safetensors"
    single = load_predictions(path)
    count = len(single.class_names)
    labels = np.random.default_rng(0).random((len(single), count)) < 0.3
    several = replace(single, targets=labels, thresholds=(0.5,) * count)
    save_predictions(several, path)
    found = paired_tests(folders)
    assert "sub/second gives each image one class" in found.problem
    assert not found.comparisons
    better = np.where(labels, 1, -1).astype(np.float32)
    other = folders["sub/second"] / "predictions.safetensors"
    save_predictions(replace(several, logits=better), other)
    found = paired_tests(folders)
    (one,) = found.comparisons
    assert found.are_several and one.verdict.startswith("sub/second is better than first by 0.")
    cells = _pair(one, several=True)
    assert (
        cells[2] == f"{one.difference.value:+.3f}" and cells[5] == f"{len(one.only_second_right):,}"
    )


def test_a_run_on_other_images_is_left_out_and_named_and_the_others_are_compared(
    full: Workbench,
) -> None:
    for name in ("other", "broken"):
        shutil.copytree(full.runs / "first", full.runs / name)
    path = full.runs / "other" / "predictions.safetensors"
    predictions = load_predictions(path)
    other_ids = np.char.add("x", predictions.ids)
    save_predictions(replace(predictions, ids=other_ids), path)
    (full.runs / "broken" / "predictions.safetensors").write_bytes(b"not a file of tensors")
    names = ("other", "first", "broken", "sub/second")
    found = paired_tests({name: full.runs / name for name in names})
    (one,) = found.comparisons
    assert (one.first, one.second) == ("first", "sub/second") and not found.problem
    assert set(found.unfit) == {"other", "broken"}
    assert "first and other were not evaluated on the same images" in found.unfit["other"]
    assert "broken" in found.unfit["broken"]
    alone = paired_tests({name: full.runs / name for name in ("other", "first")})
    assert not alone.comparisons and "not evaluated on the same images" in alone.problem


def test_a_row_of_the_paired_tests_has_what_was_measured() -> None:
    difference = SimpleNamespace(value=0.0125, low=-0.5, high=0.525)
    one: Any = SimpleNamespace(
        first="a", second="b", difference=difference, p=0.0004, p_adjusted=0.0456,
        only_first_right=range(3), only_second_right=range(1234),
    )  # fmt: skip
    assert _pair(one, several=False) == (
        "a", "b", "+1.25 points", "-50.00 to +52.50", "3", "1,234", "< 0.001", "0.046",
    )  # fmt: skip
    assert _pair(one, several=True)[2:4] == ("+0.013", "-0.500 to +0.525")


def test_a_row_of_the_labels_has_what_was_measured_and_dashes_for_the_rest() -> None:
    interval = {"value": 0.5, "low": 0.25, "high": 0.75}
    label = {
        "name": "cat", "average_precision": interval, "f1": {"value": 0.125}, "precision": 0.2,
        "recall": {"value": 0.4}, "threshold": 0.6, "support": 1234,
    }  # fmt: skip
    assert _row(label) == (
        "cat", "0.500", "0.250 – 0.750", "0.125", "20.0 %", "40.0 %", "60.0 %", "1,234",
    )  # fmt: skip
    unknown = label | {"average_precision": None, "f1": None, "recall": None}
    assert _row(unknown) == ("cat", "–", "–", "–", "20.0 %", "–", "60.0 %", "1,234")


def test_the_worst_mistakes_of_several_labels_are_offered_once_each(full: Workbench) -> None:
    path = full.runs / "first" / "predictions.safetensors"
    single = load_predictions(path)
    count = len(single.class_names)
    labels = np.random.default_rng(0).random((len(single), count)) < 0.3
    several = replace(single, targets=labels, thresholds=(0.5,) * count)
    save_predictions(several, path)
    ids = single.ids[::-1]
    pixels = np.zeros((len(ids), 3, 8, 8), dtype=np.uint8)
    images = ImageSet(pixels, labels[::-1], ids, single.class_names)
    rows = _worst_mistakes(full, ModelChoice("first"), images)
    expected = list(dict.fromkeys(error.id for error in evaluate_labels(several).errors))
    assert [str(ids[row]) for row in rows] == expected[:6] and len(set(rows)) == 6


def test_the_explained_class_and_every_label_that_is_found_have_their_bars() -> None:
    shares = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    assert places_shown(shares, 4) == [0, 1, 2, 3, 4]
    assert places_shown(shares, 6) == [0, 1, 2, 3, 4, 6]
    thresholds = (0.95, 0.1, 0.1, 0.1, 0.1, 0.5, 0.2, 0.5)
    assert places_shown(shares, 0, thresholds) == [0, 1, 2, 3, 4, 6]
    assert places_shown(shares, 7, thresholds) == [0, 1, 2, 3, 4, 6, 7]
    assert places_shown(shares, 5, thresholds) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("override", ["augment.rotation_range=0", "augment.rotation_range=90"])
def test_each_row_starts_with_the_original(workbench: Workbench, override: str) -> None:
    plain = ["augment.horizontal_flip=false", "augment.random_crop=0", override]
    rows, facts = augmented_images(workbench, "digits", load_recipe("small-residual", plain))
    assert [len(row) for row in rows] == [5] * 4
    assert len({row[0] for row in rows}) == 4
    is_changed = override.endswith("90")
    assert all((len(set(row)) > 1) == is_changed for row in rows), json.dumps(rows)[:200]
    assert facts["size"] == "8x8" and "training" in facts["images"]
    assert "mirrored" not in facts


@pytest.mark.parametrize(
    ("source", "words"), [("digits", "digits or letters"), ("shapes", "left and right")]
)
def test_the_preview_says_that_images_are_mirrored(
    workbench: Workbench, source: str, words: str
) -> None:
    recipe = load_recipe("small-residual", ["augment.horizontal_flip=true"])
    assert words in augmented_images(workbench, source, recipe)[1]["mirrored"]


@pytest.mark.parametrize("several", [True, False])
def test_the_accuracy_of_an_epoch_says_that_all_labels_have_to_be_right(
    tmp_path: Path, several: bool
) -> None:
    """From the first epoch on, long before there is an evaluation."""
    (tmp_path / "run").mkdir()
    known = environment()
    known["data"]["several_labels"] = several
    (tmp_path / "run" / "environment.json").write_text(json.dumps(known))
    (tmp_path / "run" / "recipe.toml").write_text('name = "a"\n[train]\nepochs = 3\n')
    write_lines(tmp_path / "run" / "metrics.jsonl", [epoch_line(1)])
    title = chart_titles(list_run(tmp_path, tmp_path / "run").metric)["accuracy"]
    assert title == ("Images with all labels right, %" if several else "Accuracy, %")


def test_each_column_gets_its_checks_or_says_that_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(explain_view, "in_thread", asyncio.to_thread)  # there is no page
    said: list[tuple[str, object]] = []

    def column(key: str) -> Any:
        return SimpleNamespace(
            words=key,
            answer=SimpleNamespace(key=key),
            show_checks=lambda found: said.append((key, found)),
            show_no_checks=lambda: said.append((key, "none")),
        )

    def show(turn: int) -> list[tuple[str, object]]:
        said.clear()
        view: Any = SimpleNamespace(
            columns=[column("cat"), column("dog")],
            explainer=SimpleNamespace(checked={"cat": "a page"}.get),
            is_at=lambda turn, words: turn == 2,
        )
        asyncio.run(_check(view, turn))
        return said

    assert show(2) == [("cat", "a page"), ("dog", "none")]
    assert show(1) == []
