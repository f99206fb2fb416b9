"""Commands that messages advise are run: from another folder, with names that need quoting."""

import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from glasshouse.errors import GlasshouseError, Interrupted
from glasshouse.recipe import load_recipe, to_toml
from glasshouse.runs.folder import read_run
from glasshouse.workflow.compare.seeds import train_seeds
from glasshouse.workflow.train import feature_run
from glasshouse.workflow.train.experiment import TrainRequest, fit_experiment, open_experiment
from tests.data.image_files import write_folder
from tests.journeys.command import glasshouse_here

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("no_reports")
SMALL = ("train.epochs=2", "train.batch_size=8", "train.precision=fp32", "data.image_size=12",
         "data.on_finding=ignore")  # fmt: skip
SOURCE, RUN = '-it\'s "my photos"', '-runs/the cat\'s "first" $run'


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with images of two classes in it."""
    folder = tmp_path / "a folder"
    write_folder(folder / SOURCE, {"cat": 16, "dog": 16})
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def request(**other: object) -> TrainRequest:
    asked = TrainRequest(f"./{SOURCE}", load_recipe("small-cnn", SMALL), Path(RUN))
    return replace(asked, **other)  # type: ignore[arg-type]


def stop_after_a_step(request: TrainRequest) -> None:
    """Train and be interrupted."""
    seen: list[object] = []
    for record in fit_experiment(open_experiment(request), lambda: 15 if seen else None):
        seen.append(record)


def advised(message: str) -> list[str]:
    """The arguments of the one command in a message, as a shell would read them."""
    (command,) = re.findall(r"(?:^|: |`)(glasshouse .*?)(?:`|$)", message, re.MULTILINE)
    return shlex.split(command)[1:]


def run_elsewhere(arguments: Sequence[str], capsys: Capture) -> str:
    code, output, errors = glasshouse_here(list(arguments), capsys)
    assert code == 0, errors
    return output + errors


def test_an_interrupted_run_is_resumed_as_advised(
    base: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    data_dir = base / "-my data"
    with pytest.raises(Interrupted) as stopped:
        options = {"offline": True, "logs": ("tensorboard",), "snapshots": 2}
        stop_after_a_step(request(data_dir=Path("-my data"), **options))
    command = advised(str(stopped.value))
    assert command[command.index("--data-dir") + 1] == str(data_dir)
    assert command[-5:] == ["--log", "tensorboard", "--snapshots", "2", "--offline"]
    monkeypatch.chdir(elsewhere)
    # Commands that need a finished run give the same advice, also from here.
    for arguments in (["evaluate", str(base / RUN)], ["predict", str(base / RUN), "x.png"]):
        code, _, errors = glasshouse_here(arguments, capsys)
        assert (code, advised(errors)) == (2, command)
    run_elsewhere(command, capsys)
    run = read_run(base / RUN)
    assert (run.is_finished, len(run.epochs), run.data_dir) == (True, 2, data_dir)
    assert len(list((base / RUN / "snapshots").glob("epoch-*"))) == 3
    assert list((base / RUN).rglob("*tfevents*"))
    assert list(elsewhere.iterdir()) == []


def test_interrupted_seeds_are_resumed_as_advised(
    base: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with pytest.raises(Interrupted) as stopped:
        train_seeds(request(), 2, stop_after_a_step)
    monkeypatch.chdir(elsewhere)
    run_elsewhere(advised(str(stopped.value)), capsys)
    assert all(read_run(base / RUN / f"seed-{seed}").is_finished for seed in (0, 1))


def test_an_interrupted_extraction_is_resumed_as_advised(
    base: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    arguments = ["train", f"./{SOURCE}", f"--out={RUN}", "--backbone", "resnet10t:weights=none"]
    arguments += ["--set", "model.pretrained.input_size=32", "--set", "data.on_finding=ignore"]

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(feature_run, "split_features", interrupted)
        code, _, errors = glasshouse_here(arguments, capsys)
    assert code == 130
    monkeypatch.chdir(elsewhere)
    run_elsewhere(advised(errors), capsys)
    assert read_run(base / RUN).is_finished


def test_the_recipe_of_a_search_is_trained_as_advised(
    base: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def found(*_: object, **__: object) -> None:
        Path(RUN).mkdir(parents=True)
        (Path(RUN) / "best.toml").write_text(to_toml(load_recipe("small-cnn", SMALL)))

    monkeypatch.setattr("glasshouse.workflow.tune.tune.search_with", found)
    monkeypatch.setattr("glasshouse.cli.tune.format_search", lambda _: "")
    arguments = ["tune", f"./{SOURCE}", f"--out={RUN}", "--search", "train.lr=0.1,0.2"]
    code, _, errors = glasshouse_here([*arguments, "--data-dir", "-data"], capsys)
    assert code == 0, errors
    assert [each.name for each in Path(RUN).iterdir()] == ["best.toml"], "a real search has run"
    command = advised(errors)
    assert command[-2:] == ["--data-dir", str(base / "-data")]
    monkeypatch.chdir(elsewhere)
    run_elsewhere(command, capsys)
    assert len(list((elsewhere / "runs").glob("*/report.html"))) == 1


@pytest.mark.slow
def test_a_run_finds_its_images_from_another_folder_and_after_a_move(
    base: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    arguments = ["train", f"./{SOURCE}", f"--out={RUN}", "--recipe", "small-cnn"]
    run_elsewhere([*arguments, *(part for each in SMALL for part in ("--set", each))], capsys)
    monkeypatch.chdir(elsewhere)
    moved = elsewhere / "moved"
    for folder in (base, moved):
        if folder == moved:
            shutil.move(base, moved)
        assert read_run(folder / RUN).source == str(folder / SOURCE)
        assert "every file agrees" in run_elsewhere(["reproduce", str(folder / RUN)], capsys)
        run_elsewhere(["explain", str(folder / RUN), "--errors"], capsys)
        assert (folder / RUN / "mistakes.html").is_file()


def test_a_run_that_is_moved_away_from_its_images_names_their_old_place(
    base: Path, elsewhere: Path
) -> None:
    with pytest.raises(Interrupted):
        stop_after_a_step(request())
    shutil.move(base / RUN, elsewhere / "run")
    assert read_run(elsewhere / "run").source == str(base / SOURCE)
    shutil.rmtree(base / SOURCE)
    run = read_run(elsewhere / "run")
    with pytest.raises(GlasshouseError, match=re.escape(str(base / SOURCE))):
        open_experiment(TrainRequest(run.source, run.recipe, run.folder, resume=True))


def test_weights_of_a_recipe_are_recorded_with_their_whole_path(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (base / "my weights.pth").write_bytes(b"no weights")
    arguments = ["train", f"./{SOURCE}", "--backbone", "resnet10t"]
    arguments += ["--set", "model.pretrained.weights='my weights.pth'"]
    code, _, errors = glasshouse_here(arguments, capsys)
    assert code == 2 and str(base / "my weights.pth") in errors
