import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from glasshouse.errors import Interrupted, UsageError
from glasshouse.recipe import load_recipe, to_toml
from glasshouse.runs.folder import read_run
from glasshouse.training.state import load_checkpoint
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    claim_run,
    finish_experiment,
    fit_experiment,
    open_experiment,
)
from glasshouse.workflow.train.more_epochs import add_epochs
from tests.journeys.command import glasshouse_here

KINDS = ("json", "html")
SMALL = ("train.batch_size=32", "data.train_limit=96", "train.precision=fp32", "train.device=cpu")
ALLOWED = (
    "train.schedule={type='constant'}",
    "train.schedule={type='step', every=1}",
    "train.schedule={type='per_epoch', rates=[0.001, 0.0003, 0.0001]}",
    "train.schedule={type='triangular', cycle=1.5, halve=true}",
)
REFUSED = {
    "train.schedule={type='cosine'}": "its cosine schedule",
    "train.schedule={type='exponential'}": "its exponential schedule",
    "train.schedule={type='one_cycle'}": "its one_cycle schedule",
    "train.schedule={type='triangular'}": "its triangular schedule",
    "train.schedule={type='triangular', cycle=1, end=0}": "its triangular schedule",
}


def request(out: Path, epochs: int, *overrides: str, resume: bool = False) -> TrainRequest:
    recipe = load_recipe("small-cnn", [*SMALL, f"train.epochs={epochs}", *overrides])
    return TrainRequest("digits", recipe, out, resume=resume)


def fit(asked: TrainRequest, stop_after: int | None = None) -> None:
    """Train, and be interrupted after this many records if it is given."""
    seen: list[object] = []
    experiment = open_experiment(asked)
    for record in fit_experiment(experiment, lambda: 15 if len(seen) == stop_after else None):
        seen.append(record)


def checkpoints(run: Path) -> list[str]:
    """Their names, which contain a hash of all that the next step depends on but times."""
    experiment = open_experiment(replace(request(run, 4), recipe=read_run(run).recipe, resume=True))
    assert load_checkpoint(experiment.state, run / "checkpoint")
    state = experiment.state
    tensors = {**state.net.state_dict(), **(state.best or {}), **(state.averaged or {})}
    return [f"{name} {tensor.double().sum().item().hex()}" for name, tensor in tensors.items()]


def untimed(run: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


def weights(run: Path) -> list[bytes]:
    """The weights after every epoch, in half precision."""
    return [path.read_bytes() for path in sorted((run / "epochs").iterdir())]


@pytest.mark.parametrize("schedule", ALLOWED)
def test_more_epochs_give_the_bytes_of_a_run_that_had_them_from_the_start(
    tmp_path: Path, schedule: str
) -> None:
    more = (schedule, "train.keep_every=1", "train.warmup_epochs=0.5", "train.ema_decay=0.9")
    fit(request(tmp_path / "whole", 4, *more))
    fit(request(tmp_path / "longer", 2, *more))
    fit(request(tmp_path / "longer", 4, *more, resume=True))
    recipes = [(tmp_path / run / "recipe.toml").read_bytes() for run in ("whole", "longer")]
    assert recipes[0] == recipes[1]
    assert len(weights(tmp_path / "whole")) == 4
    assert weights(tmp_path / "longer") == weights(tmp_path / "whole")
    assert untimed(tmp_path / "longer") == untimed(tmp_path / "whole")
    assert checkpoints(tmp_path / "longer") == checkpoints(tmp_path / "whole")


def test_nothing_that_was_found_out_about_the_shorter_run_is_left(tmp_path: Path) -> None:
    findings = [f"{name}.{kind}" for name in ("shortcuts", "groups", "map") for kind in KINDS]
    # The names that a user has given groups of images are no finding.
    for name in (*findings, "map.safetensors", "map-groups.json"):
        (tmp_path / name).write_text("old")
    add_epochs(tmp_path, load_recipe("small-cnn"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map-groups.json", "recipe.toml"]


@pytest.mark.slow
def test_a_finished_run_is_trained_for_longer_and_has_the_results_of_a_longer_one(
    tmp_path: Path,
) -> None:
    def finish(asked: TrainRequest) -> None:
        experiment = open_experiment(asked)
        for _ in fit_experiment(experiment):
            pass
        finish_experiment(experiment)

    whole, longer = tmp_path / "whole", tmp_path / "longer"
    more = ("train.keep='best'", "train.lr='auto'")
    finish(request(whole, 3, *more))
    finish(request(longer, 1, *more))
    with pytest.raises(Interrupted):
        fit(request(longer, 3, *more, resume=True), stop_after=2)
    # Between the two it is an unfinished run, without results that belong to another recipe.
    run = read_run(longer)
    assert (run.recipe.train.epochs, run.is_finished) == (3, False)
    assert not list(longer.glob("model.*")) and not (longer / "report.html").exists()
    finish(request(longer, 3, *more, resume=True))
    same = ("model.safetensors", "model.json", "predictions.safetensors", "evaluation.json",
            "validation-predictions.safetensors", "recipe.toml")  # fmt: skip
    for name in same:
        assert (longer / name).read_bytes() == (whole / name).read_bytes(), name
    assert untimed(longer) == untimed(whole)
    assert {path.name for path in longer.iterdir()} == {path.name for path in whole.iterdir()}


def test_early_stopping_ends_a_longer_run_where_it_would_have_ended(tmp_path: Path) -> None:
    more = ("train.early_stopping=1", "train.lr=0.03")
    fit(request(tmp_path / "whole", 9, *more))
    fit(request(tmp_path / "longer", 8, *more))
    assert len(untimed(tmp_path / "whole")) < 8
    fit(request(tmp_path / "longer", 9, *more, resume=True))
    assert untimed(tmp_path / "longer") == untimed(tmp_path / "whole")


@pytest.mark.parametrize(("schedule", "reason"), REFUSED.items())
def test_a_schedule_that_depends_on_the_number_of_epochs_is_refused(
    tmp_path: Path, schedule: str, reason: str
) -> None:
    open_experiment(request(tmp_path / "run", 2, schedule))
    before = (tmp_path / "run" / "recipe.toml").read_bytes()
    with pytest.raises(UsageError, match=reason):
        open_experiment(request(tmp_path / "run", 4, schedule, resume=True))
    assert (tmp_path / "run" / "recipe.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [(("transfer.way='gradual'",), "unfreezes its layers"),
     (("transfer.way='features'",), "without epochs")],
)  # fmt: skip
def test_a_transfer_that_depends_on_the_number_of_epochs_is_refused(
    tmp_path: Path, overrides: tuple[str, ...], reason: str
) -> None:
    net = ("model.pretrained.name=resnet10t", "model.pretrained.weights=none")
    open_experiment(request(tmp_path / "run", 2))
    first = request(tmp_path / "run", 2, *net, *overrides)
    (tmp_path / "run" / "recipe.toml").write_text(to_toml(first.recipe))
    with pytest.raises(UsageError, match=reason):
        claim_run(request(tmp_path / "run", 4, *net, *overrides, resume=True))


def test_another_change_next_to_more_epochs_is_refused(tmp_path: Path) -> None:
    open_experiment(request(tmp_path / "run", 2))
    with pytest.raises(UsageError, match=r"train\.lr was .* and is now 0\.5.*Leave out the opt"):
        open_experiment(request(tmp_path / "run", 4, "train.lr=0.5", resume=True))
    with pytest.raises(UsageError, match=r"cannot be resumed with fewer epochs"):
        open_experiment(request(tmp_path / "run", 1, resume=True))


@pytest.mark.slow
def test_the_command_line_adds_epochs_or_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cosine = "train.schedule={type='cosine'}"
    fit(request(Path("it's constant"), 1))
    fit(request(Path("it's cosine"), 1, cosine))
    again = ["train", "digits", "--resume", "--out"]
    code, _, errors = glasshouse_here([*again, "it's constant", "--epochs", "2"], capsys)
    assert (code, "resuming after epoch 1" in errors) == (0, True)
    assert len(read_run(tmp_path / "it's constant").epochs) == 2
    refused = [*again, "it's cosine", "--set", "train.epochs=2"]
    code, _, errors = glasshouse_here(refused, capsys)
    assert code == 2
    (command,) = re.findall("Train another run instead: (glasshouse .*)", errors)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, _, errors = glasshouse_here(shlex.split(command)[1:], capsys)
    assert code == 0, errors
    run = read_run(tmp_path / "it's cosine-2-epochs-1")
    assert (len(run.epochs), run.recipe.train.schedule.type) == (2, "cosine")
