import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glasshouse.errors import DataError, Interrupted, ModelError, UsageError
from glasshouse.models.classifier import load_classifier
from glasshouse.recipe import load_recipe
from glasshouse.runs import holding
from glasshouse.runs.folder import next_run_folder, read_run
from glasshouse.runs.listing import RunListing
from glasshouse.storage import write_tensors
from glasshouse.training.loop import Step
from glasshouse.training.operations import image_flop
from glasshouse.training.state import Epoch
from glasshouse.training.thread_choice import ThreadChoice
from glasshouse.workflow.train import conclusion
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    finish_experiment,
    fit_experiment,
    open_experiment,
    setup_of,
)

SMALL = ["train.epochs=2", "data.train_limit=96", "train.precision=fp32", "train.device=cpu"]
NET = """
from torch import nn

def linear(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))
"""


def request(out: Path, *overrides: str, resume: bool = False) -> TrainRequest:
    return TrainRequest(
        "digits", load_recipe("small-cnn", [*SMALL, *overrides]), out, resume=resume
    )


def test_a_run_records_its_threads_and_keeps_them_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "glasshouse.workflow.train.experiment.choose_threads"
    monkeypatch.setattr(place, lambda *_: ThreadChoice(3, {4: 60.0, 3: 90.0}))
    begun = open_experiment(request(tmp_path / "run"))
    rates = {"3": 90.0, "4": 60.0}
    assert read_run(tmp_path / "run").environment["thread_rates"] == rates
    assert (begun.settings.threads, read_run(tmp_path / "run").threads) == (3, 3)
    # As it would be on a machine that has become busy, or has other cores.
    holding.release(tmp_path / "run")
    monkeypatch.setattr(place, lambda *_: ThreadChoice(1))
    resumed = open_experiment(request(tmp_path / "run", resume=True))
    assert (resumed.settings.threads, read_run(tmp_path / "run").threads) == (3, 3)
    assert read_run(tmp_path / "run").environment["thread_rates"] == rates
    holding.release(tmp_path / "run")
    monkeypatch.undo()
    # A number in the recipe is a number for every run of it.
    given = open_experiment(request(tmp_path / "given", "train.threads=2"))
    assert given.settings.threads == 2


def test_opening_writes_recipe_and_environment(tmp_path: Path) -> None:
    experiment = open_experiment(request(tmp_path / "run"))
    run = read_run(tmp_path / "run")
    assert run.recipe == experiment.request.recipe
    assert run.environment["data"]["source"] == "digits"
    assert run.environment["data"]["images"]["train"] == 96
    assert len(run.environment["data"]["fingerprint"]) == 64
    assert not run.is_finished
    assert run.epochs == ()


def test_a_signal_saves_after_the_step_and_says_how_to_resume(tmp_path: Path) -> None:
    experiment = open_experiment(request(tmp_path / "run"))
    steps = 0

    def signal_after_two_steps() -> int | None:
        return 15 if steps == 2 else None

    with pytest.raises(Interrupted, match=r"epoch 1, step 2.*--resume") as stopped:
        for record in fit_experiment(experiment, signal_after_two_steps):
            steps += isinstance(record, Step)
    assert stopped.value.exit_code == 143
    again = open_experiment(request(tmp_path / "run", resume=True))
    assert (again.state.epoch, again.state.step) == (0, 2)
    epochs = [record for record in fit_experiment(again) if isinstance(record, Epoch)]
    assert [epoch.epoch for epoch in epochs] == [1, 2]


def test_a_run_that_never_reached_a_checkpoint_starts_again_as_it_was_started(
    tmp_path: Path,
) -> None:
    (tmp_path / "own_nets.py").write_text(NET)
    code, weights = f"{tmp_path / 'own_nets.py'}:linear", tmp_path / "own.safetensors"
    values = {"1.weight": torch.full((10, 192), 0.25), "1.bias": torch.arange(10.0)}
    write_tensors(weights, values)
    started = request(tmp_path / "run", f"model.code={json.dumps(code)}")
    started = replace(started, may_run_code=True, weights=weights, snapshots=3)
    open_experiment(started)
    again = open_experiment(replace(started, resume=True, weights=None, snapshots=0))
    assert again.request.snapshots == 3
    found = again.classifier.net.state_dict()
    assert {name: value.tolist() for name, value in values.items()} == {
        name.removeprefix("net."): value.tolist() for name, value in found.items()
    }
    weights.unlink()
    with pytest.raises(ModelError, match=r"own\.safetensors does not exist"):
        open_experiment(replace(started, resume=True, weights=None))


def test_resuming_with_another_recipe_names_the_difference(tmp_path: Path) -> None:
    open_experiment(request(tmp_path / "run"))
    with pytest.raises(UsageError, match=r"train\.epochs was 2 and is now 1"):
        open_experiment(request(tmp_path / "run", "train.epochs=1", resume=True))
    with pytest.raises(UsageError, match=r"train\.seed was 0 and is now 5"):
        open_experiment(request(tmp_path / "run", "train.seed=5", resume=True))


def test_a_run_is_resumed_by_its_recipe_under_another_name(tmp_path: Path) -> None:
    open_experiment(request(tmp_path / "run"))
    called = ("name='mine'", "description='Said in other words.'")
    assert open_experiment(request(tmp_path / "run", *called, resume=True)).state.step == 0


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("model.preset='small-residual'", r"model\.preset was 'small-cnn' and is now 'small-res"),
        ("augment.cutout=0.25", r"augment\.cutout was 0\.0 and is now 0\.25"),
        ("data.train_limit=90", r"data\.train_limit was 96 and is now 90"),
    ],
)
def test_resuming_compares_every_section_of_the_recipe(
    tmp_path: Path, override: str, difference: str
) -> None:
    started = request(tmp_path / "run")
    open_experiment(started)
    holding.release(started.out)
    before = {path: path.read_bytes() for path in started.out.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=rf"started with another recipe: {difference}"):
        open_experiment(request(tmp_path / "run", override, resume=True))
    after = {path: path.read_bytes() for path in started.out.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("train_on_validation", [False, True])
def test_the_temperature_is_fitted_only_to_images_that_were_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_on_validation: bool
) -> None:
    monkeypatch.setattr(conclusion, "write_run_report", lambda *parts: None)
    wanted = f"data.train_on_validation={str(train_on_validation).lower()}"
    experiment = open_experiment(
        request(tmp_path / "run", wanted, "train.epochs=1", "train.keep=last")
    )
    for _ in fit_experiment(experiment):
        pass
    result = finish_experiment(experiment)
    assert (result.classifier.temperature == 1.0) == train_on_validation
    stored = load_classifier(tmp_path / "run").temperature
    assert stored == result.predictions.temperature == result.classifier.temperature
    net, images = experiment.state.net, experiment.splits.train
    operations = len(images) * image_flop(net, (3, images.height, images.width))
    cost = json.loads((tmp_path / "run" / "cost.json").read_text())
    assert cost["training_flop"] == operations and cost["peak_memory_bytes"] > 2**20


def test_resuming_a_run_with_other_images_is_refused(tmp_path: Path) -> None:
    first = request(tmp_path / "run", "data.image_size=32")
    open_experiment(first)
    with pytest.raises(DataError, match=r"not those that .* was started with"):
        open_experiment(replace(first, source="shapes", resume=True))


def test_a_folder_with_something_in_it_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match=r"is not empty\. Name another folder with --out"):
        open_experiment(request(tmp_path))
    with pytest.raises(UsageError, match=r"not a run folder: it has no recipe\.toml"):
        open_experiment(request(tmp_path, resume=True))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_existing_run_is_only_continued_on_request(tmp_path: Path) -> None:
    open_experiment(request(tmp_path / "run"))
    with pytest.raises(UsageError, match=r"is not empty.*--resume.*--out"):
        open_experiment(request(tmp_path / "run"))


def test_resuming_a_missing_run_starts_it(tmp_path: Path) -> None:
    experiment = open_experiment(request(tmp_path / "run", resume=True))
    assert experiment.state.epoch == 0


def test_runs_are_found_below_a_folder_and_numbered(tmp_path: Path) -> None:
    assert next_run_folder(tmp_path, "digits-x").name == "digits-x-1"
    open_experiment(request(tmp_path / "digits-x-1"))
    open_experiment(request(tmp_path / "deep" / "other"))
    assert next_run_folder(tmp_path, "digits-x").name == "digits-x-2"
    found = {run.folder.name for run in RunListing(tmp_path).read()}
    assert found == {"digits-x-1", "other"}


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a run folder: it has no recipe\.toml"):
        read_run(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        read_run(tmp_path / "none")


def test_a_run_killed_at_its_first_file_starts_again(tmp_path: Path) -> None:
    first = request(tmp_path / "run", resume=True)
    first.out.mkdir()
    (first.out / ".recipe.toml.123").write_text("half a rec")
    (first.out / "recipe.toml").write_text("half a rec")
    assert open_experiment(first).state.epoch == 0
    assert read_run(first.out).recipe == first.recipe


@pytest.mark.parametrize("number", [None, 15])
def test_training_asks_whether_its_process_has_received_a_signal(
    tmp_path: Path, number: int | None
) -> None:
    experiment = open_experiment(request(tmp_path / "run"))
    asks = setup_of(experiment, lambda: number).is_asked_to_stop
    assert asks() == (number is not None)
