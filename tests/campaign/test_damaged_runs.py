"""Damaged files of a run: whatever is wrong with them, the error has a name."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glasshouse.cli.runs import runs as print_runs
from glasshouse.errors import GlasshouseError
from glasshouse.models.classifier import load_classifier
from glasshouse.models.outputs import load_predictions
from glasshouse.recipe import load_recipe
from glasshouse.runs import folder as runs
from glasshouse.runs.listing import list_run
from glasshouse.runs.steps import StepReader, last_mark
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    finish_experiment,
    fit_experiment,
    open_experiment,
)
from tests.campaign.mutations import damaged
from tests.run_files import without_reports

OVERRIDES = ["train.epochs=1", "data.train_limit=96", "train.precision=fp32", "train.device=cpu"]


@pytest.fixture(scope="module")
def sound_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("campaign") / "run"
    request = TrainRequest("digits", load_recipe("small-cnn", OVERRIDES), folder)
    experiment = open_experiment(request)
    for _ in fit_experiment(experiment):
        pass
    with without_reports():
        finish_experiment(experiment)
    return folder


@pytest.fixture
def run(sound_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound_run, tmp_path / "run"))


def everything_of(folder: Path) -> None:
    found = runs.read_run(folder)
    assert found.epochs is not None
    assert found.seconds >= 0
    assert found.evaluation is not None


def follow_steps(folder: Path) -> None:
    reader = StepReader(folder / runs.STEPS)
    reader.read()
    assert reader.seconds_left is None or reader.seconds_left > -1e300


def listed(folder: Path) -> None:
    list_run(folder.parent, folder)


READERS: dict[str, tuple[Callable[[Path], object], ...]] = {
    runs.RECIPE: (everything_of, listed, lambda folder: load_recipe(folder / runs.RECIPE)),
    runs.ENVIRONMENT: (everything_of, listed),
    runs.METRICS: (everything_of, listed),
    runs.EVALUATION: (everything_of, listed),
    runs.STEPS: (last_mark, follow_steps),
    runs.MODEL: (load_classifier,),
    runs.WEIGHTS: (load_classifier,),
    runs.PREDICTIONS: (lambda folder: load_predictions(folder / runs.PREDICTIONS),),
}


def damages(folder: Path, name: str, count: int) -> Iterator[int]:
    """Damage the file in one way after the other, yielding the seed of each."""
    data = (folder / name).read_bytes()
    for seed in range(count):
        (folder / name).write_bytes(damaged(name, data, random.Random(f"{name} {seed}")))
        yield seed


def try_all(folder: Path, name: str, count: int) -> None:
    for seed in damages(folder, name, count):
        for reader in READERS[name]:
            try:
                reader(folder)
            except GlasshouseError as error:
                assert str(error), f"seed {seed}"
            except Exception as error:
                pytest.fail(f"{name}, seed {seed}: {type(error).__name__}: {error}")


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_a_named_error(run: Path, name: str) -> None:
    try_all(run, name, 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_a_named_error_in_2500_ways(run: Path, name: str) -> None:
    try_all(run, name, 2500)


def test_damaged_metrics_stop_only_who_reads_them(run: Path) -> None:
    (run / runs.METRICS).write_bytes(b"\xff")
    found = runs.require_trained(run)
    assert found.evaluation is not None
    with pytest.raises(GlasshouseError, match=r"metrics\.jsonl is damaged"):
        assert found.epochs


def test_sizes_that_the_weights_do_not_have_take_no_memory(run: Path) -> None:
    text = (run / runs.MODEL).read_text()
    assert '"units": 128' in text
    for units, problem in ((4_000, "of another shape"), (400_000_000, "more than 1 GiB")):
        (run / runs.MODEL).write_text(text.replace('"units": 128', f'"units": {units}'))
        with pytest.raises(GlasshouseError, match=problem):
            load_classifier(run)


def test_a_damaged_run_hides_no_other_from_the_list(
    run: Path, sound_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sound_run, run.parent / "other")
    (run / runs.RECIPE).write_bytes(b"\xff")
    print_runs(run.parent)
    printed = capsys.readouterr()
    assert "other" in printed.out
    assert f"{run}" in printed.out
    assert f"{run / runs.RECIPE} is damaged" in printed.err
