"""Seeds, reproduction, comparison and the ladder, on digits with a tiny budget."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glasshouse.errors import DivergedError, ModelError, NoUsableRate, UsageError
from glasshouse.evaluation.compare import Comparison
from glasshouse.recipe import load_recipe
from glasshouse.report.run_report import DISAGREEMENTS, render_comparison
from glasshouse.runs.folder import read_run
from glasshouse.settings import StepDecay, TransferSettings
from glasshouse.storage import read_json, read_tensors, write_tensors
from glasshouse.workflow.compare.compare_runs import compare_runs, disagreement_images
from glasshouse.workflow.compare.ladder import RUNGS, climb, ladder_requests, rung_recipe
from glasshouse.workflow.compare.reproduce import compare_folders, reproduce
from glasshouse.workflow.compare.seeds import run_quietly, seed_requests, train_seeds
from glasshouse.workflow.train.experiment import TrainRequest, open_experiment
from glasshouse.workflow.train.range_test import find_recipe_lr
from glasshouse.workflow.train.request import is_finished
from tests.run_files import without_reports

SMALL = ["train.epochs=2", "data.train_limit=96", "train.precision=fp32", "train.device=cpu"]


def request(out: Path, *overrides: str) -> TrainRequest:
    return TrainRequest("digits", load_recipe("small-cnn", [*SMALL, *overrides]), out)


@pytest.fixture(scope="module", autouse=True)
def empty_reports() -> Iterator[None]:
    with without_reports():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of one recipe, trained once for this file."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("tuning") / "seeds"
    train_seeds(request(out), 2)
    return out


def test_seeds_are_summarised_with_an_interval(folder: Path) -> None:
    summary = read_json(folder / "seeds.json")
    values = [read_run(folder / f"seed-{n}").evaluation["accuracy"]["value"] for n in (0, 1)]  # type: ignore[index]
    assert summary["scores"] == values
    assert summary["score"] == pytest.approx(sum(values) / 2)
    # Two seeds have so wide a t-interval that it reaches beyond what an accuracy can be.
    interval = summary["score_interval"]
    assert 0 <= interval["low"] < summary["score"] < interval["high"] <= 1
    assert summary["loss_interval"]["low"] >= 0


def test_finished_seeds_are_kept_when_more_are_asked_for(folder: Path) -> None:
    trained: list[Path] = []

    def note(one: TrainRequest) -> None:
        trained.append(one.out)
        run_quietly(one)

    summary = train_seeds(replace(request(folder), resume=True), 3, note)
    assert [path.name for path in trained] == ["seed-2"]
    assert summary.seeds == (0, 1, 2)
    with pytest.raises(UsageError, match=r"not empty.*--resume"):
        train_seeds(request(folder), 3)


def test_only_the_same_recipe_counts_as_finished(folder: Path) -> None:
    (first,) = seed_requests(request(folder), 1)
    assert is_finished(first)
    (other,) = seed_requests(request(folder, "train.epochs=3"), 1)
    assert not is_finished(other)
    assert not is_finished(replace(first, source="shapes"))


def test_a_run_is_reproduced_byte_by_byte(folder: Path, tmp_path: Path) -> None:
    found = reproduce(folder / "seed-0", tmp_path / "again")
    assert found.agrees, found.files
    assert [each.file for each in found.files if each.detail == "the same bytes"] == [
        "model.safetensors", "predictions.safetensors", "validation-predictions.safetensors",
    ]  # fmt: skip
    assert found.environment == ()


def test_differences_between_runs_are_named(folder: Path, tmp_path: Path) -> None:
    found = compare_folders(read_run(folder / "seed-0"), read_run(folder / "seed-1"))
    assert not found.agrees
    details = {each.file: each.detail for each in found.files}
    assert "tensors differ" in details["model.safetensors"]
    assert "train_loss was" in details["metrics.jsonl"]
    weights, metadata = read_tensors(folder / "seed-0" / "model.safetensors")
    name = sorted(weights)[0]
    weights[name].view(-1)[0] += 0.5
    for path in (folder / "seed-0").glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_tensors(tmp_path / "model.safetensors", weights, metadata)
    changed = compare_folders(read_run(folder / "seed-0"), read_run(tmp_path))
    assert [each.file for each in changed.files if not each.agrees] == ["model.safetensors"]
    assert f"1 of {len(weights)} tensors differ, by 0.5 at most" in changed.files[0].detail


def test_an_unfinished_run_cannot_be_reproduced(tmp_path: Path) -> None:
    open_experiment(request(tmp_path / "run"))
    with pytest.raises(UsageError, match="has not finished"):
        reproduce(tmp_path / "run", tmp_path / "again")


def test_runs_are_compared_by_their_stored_predictions(folder: Path) -> None:
    (found,) = compare_runs([folder / "seed-0", folder / "seed-1"])
    assert isinstance(found, Comparison)
    assert (found.first, found.second) == ("seed-0", "seed-1")
    figures = read_run(folder / "seed-1").evaluation
    assert figures is not None
    assert found.second_accuracy.value == pytest.approx(figures["accuracy"]["value"])
    with pytest.raises(UsageError, match="given twice"):
        compare_runs([folder / "seed-0", folder / "seed-0"])
    with pytest.raises(UsageError, match="two run folders or more"):
        compare_runs([folder / "seed-0"])


def test_disagreements_are_shown_under_distinct_run_names(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(folder / "seed-0", tmp_path / name / "seed-0")
    runs = [tmp_path / "a" / "seed-0", tmp_path / "b" / "seed-0", folder / "seed-1"]
    found = compare_runs(runs)
    assert [each.first for each in found] == ["a/seed-0", "a/seed-0", "b/seed-0"]
    images = disagreement_images(found, runs[0])
    shown = [row for each in found for row in each.only_first_right[:DISAGREEMENTS]]
    assert shown
    assert all(images[row.id].shape == (3, 8, 8) for row in shown)
    page = render_comparison(found, images)
    assert page.count("data:image/png") > len(images)
    assert render_comparison(found).count("<li>") == 0


def test_the_range_test_of_a_frozen_backbone_trains_its_head(tmp_path: Path) -> None:
    auto = request(tmp_path / "run", "train.lr=auto", "train.optimizer=sgd")
    frozen = TransferSettings(way="tune", trainable="head")
    curve = find_recipe_lr(auto)
    head = find_recipe_lr(replace(auto, recipe=auto.recipe.model_copy(update={"transfer": frozen})))
    assert head.losses[0, 0] == curve.losses[0, 0]
    # A head alone stays tame at rates at which the whole net explodes.
    assert np.isfinite(head.losses).sum() > np.isfinite(curve.losses).sum()


def test_the_learning_rate_that_was_found_is_recorded_and_kept(tmp_path: Path) -> None:
    auto = request(tmp_path / "run", "train.lr=auto", "train.schedule={type='one_cycle'}")
    experiment = open_experiment(auto)
    record = read_json(tmp_path / "run" / "finder.json")
    assert read_run(tmp_path / "run").recipe.train.lr == "auto"
    assert experiment.settings.peak_lr == record["lr"] == record["curve"]["max_lr"]
    assert experiment.state.optimizer.param_groups[0]["lr"] == record["lr"]
    record["curve"]["max_lr"] = 0.123
    (tmp_path / "run" / "finder.json").write_text(json.dumps(record))
    again = open_experiment(replace(auto, resume=True))
    assert again.settings.peak_lr == 0.123  # read, not found a second time


def test_steps_of_the_ladder_scale_with_the_budget_and_take_overrides() -> None:
    for rung in RUNGS:
        recipe = rung_recipe(rung, 20, ["data.train_limit=5"])
        assert (recipe.train.epochs, recipe.data.train_limit) == (20, 5)
    cyclical = rung_recipe(next(r for r in RUNGS if "cyclical" in r.name), 7)
    assert cyclical.train.schedule.type == "triangular"
    assert cyclical.train.schedule.cycle == 3.5
    assert cyclical.train.lr == "auto"
    step = rung_recipe(next(r for r in RUNGS if r.name == "step schedule"), 20)
    norm = rung_recipe(next(r for r in RUNGS if r.name == "BatchNorm"), 20)
    assert step.train == norm.train
    assert step.train.schedule == StepDecay(every=8, factor=0.3)
    assert step.train.lr == 1e-3


def test_the_ladder_measures_each_step_against_the_one_before(tmp_path: Path) -> None:
    base = request(tmp_path / "ladder")
    trained: list[str] = []

    def run(one: TrainRequest) -> None:
        trained.append(f"{one.out.parent.name}/{one.out.name}")
        if one.out.parent.name.startswith("2"):
            raise DivergedError("the loss became nan")
        run_quietly(one)

    # The tutorial's networks need images of 10x10 pixels or more; digits have 8x8.
    first, second = (replace(rung, recipe="small-cnn") for rung in RUNGS[:2])
    rungs = (first, second, RUNGS[8])
    found = climb(base, overrides=SMALL[1:], seeds=2, rungs=rungs, run=run)
    assert [row.verdict for row in found.rows][:2] == ["first", "failed"]
    assert found.rows[1].problem == "the loss became nan"
    start, last = found.rows[0], found.rows[2]
    assert last.gain is not None
    gain = sum(last.scores) / 2 - sum(start.scores) / 2
    assert last.gain.value == pytest.approx(gain)
    for name in ("ladder.json", "ladder.png", "ladder.html"):
        assert (tmp_path / "ladder" / name).stat().st_size > 500
    page = (tmp_path / "ladder" / "ladder.html").read_text()
    assert "the loss became nan" in page
    assert "http://" not in page
    assert "https://" not in page
    trained.clear()
    again = climb(base, overrides=SMALL[1:], seeds=2, rungs=rungs, run=run)
    # The images are too small for the best recipe's net, which is found out anew.
    assert trained == ["2-augmentation/seed-0", "3-our-best/seed-0"]
    assert again.rows[2].recipe == "small-residual"
    assert again == found


def test_images_that_are_too_small_end_a_ladder_at_its_first_step_only(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"larger images\. Small images .* --image-size 32"):
        climb(request(tmp_path / "none"), overrides=SMALL[1:], seeds=1)
    first = replace(RUNGS[0], recipe="small-cnn")
    found = climb(request(tmp_path), overrides=SMALL[1:], seeds=1, rungs=(first, RUNGS[1]))
    assert [row.verdict for row in found.rows] == ["first", "failed"]
    assert found.rows[1].problem is not None and "larger images" in found.rows[1].problem


def test_the_runs_of_a_ladder_are_known_before_it_is_climbed(tmp_path: Path) -> None:
    asked: list[TrainRequest] = []

    def run(each: TrainRequest) -> None:
        asked.append(each)
        raise DivergedError("no")

    # Cycles are shares of the budget, also where a setting trains for longer than that.
    changes = ("train.epochs=6", "train.seed=5")
    with pytest.raises(DivergedError):
        climb(request(tmp_path), overrides=changes, seeds=1, run=run)
    expected = ladder_requests(request(tmp_path), overrides=changes, seeds=1)
    assert [(each.out, each.recipe) for each in asked] == [(e.out, e.recipe) for e in expected]
    assert len(expected) == len(RUNGS)
    every = expected[4].recipe.train
    assert isinstance(every.schedule, StepDecay) and every.schedule.every == pytest.approx(0.8)
    assert (every.epochs, every.seed) == (6, 5)
    two = ladder_requests(request(tmp_path), seeds=2, rungs=RUNGS[:1])
    assert [each.out.name for each in two] == ["seed-0", "seed-1"]


def test_a_ladder_without_any_trainable_step_raises(tmp_path: Path) -> None:
    def run(one: TrainRequest) -> None:
        raise NoUsableRate("no usable valley")

    with pytest.raises(DivergedError, match=r"no step .* no usable valley"):
        climb(request(tmp_path), seeds=1, rungs=RUNGS[:2], run=run)
