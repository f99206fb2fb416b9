"""The layout of run folders, and who may write into one."""

import json
import shlex
from pathlib import Path

import pytest

from glasshouse.errors import UsageError
from glasshouse.models.classifier import MODEL_FILE, WEIGHTS_FILE
from glasshouse.recipe import load_recipe, to_toml
from glasshouse.runs import folder as runs
from tests.run_files import environment


def write_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / runs.RECIPE).write_text(to_toml(load_recipe("small-residual")), encoding="utf-8")
    (folder / runs.ENVIRONMENT).write_text(json.dumps(environment()), encoding="utf-8")


def test_a_saved_classifier_has_the_same_file_names_in_a_run() -> None:
    assert (runs.MODEL, runs.WEIGHTS) == (MODEL_FILE, WEIGHTS_FILE)


@pytest.mark.parametrize("resume", [False, True])
def test_a_missing_or_empty_folder_starts_a_new_run(tmp_path: Path, resume: bool) -> None:
    assert runs.claim(tmp_path / "none", resume=resume) is None
    assert runs.claim(tmp_path, resume=resume) is None


def test_a_run_is_resumed_on_request_only(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    resumed = runs.claim(tmp_path / "run", resume=True)
    assert resumed is not None and resumed.recipe == load_recipe("small-residual")
    with pytest.raises(UsageError, match=r"not empty\. Add --resume to continue the run in it"):
        runs.claim(tmp_path / "run", resume=False)


def test_runs_over_several_seeds_can_be_resumed_as_well(tmp_path: Path) -> None:
    write_run(tmp_path / runs.SEED_FOLDER.format(3))
    with pytest.raises(UsageError, match=r"Add --resume"):
        runs.claim(tmp_path, resume=False)


def test_one_run_of_several_seeds_is_to_be_named(tmp_path: Path) -> None:
    for seed in (0, 3):
        write_run(tmp_path / runs.SEED_FOLDER.format(seed))
    with pytest.raises(UsageError, match=r"holds the runs of 2 seeds: name one .* \S+seed-0$"):
        runs.read_run(tmp_path)


def test_only_the_name_of_a_model_is_told_that_no_images_belong_to_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not exist\. A model that is no run comes without"):
        runs.read_run(Path("cifar10-small"))
    with pytest.raises(UsageError, match=r"does not exist\. `glasshouse runs FOLDER` lists"):
        runs.read_run(tmp_path / "none")


def test_a_folder_of_something_else_is_refused_without_advice_to_resume(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match=r"not empty\. Name another folder"):
        runs.claim(tmp_path, resume=False)
    with pytest.raises(UsageError, match="not a run folder"):
        runs.claim(tmp_path, resume=True)


@pytest.mark.parametrize(
    "names",
    [
        [".recipe.toml.12"],
        ["recipe.toml"],
        [".environment.json.7"],
        # The disk was full after the first file, and had room again for why that was an error.
        ["recipe.toml", "failure.txt"],
    ],
)
def test_pieces_of_a_start_that_was_killed_do_not_count(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("half a rec")
    assert runs.claim(tmp_path, resume=True) is None


def test_the_command_to_resume_can_be_pasted_into_a_shell() -> None:
    command = runs.resume_command("my photos/it's", Path("runs/a b"))
    assert shlex.split(command) == [
        "glasshouse", "train", "my photos/it's", "--out", str(Path("runs/a b").resolve()),
        "--resume",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [("no/such/run", True), ("timm/resnet18", False), ("resnet18", False), (".", True)],
)
def test_only_paths_are_names_of_folders(name: str, expected: bool) -> None:
    assert runs.names_folder(name) is expected


@pytest.mark.parametrize("hostile", ["/\0", "x" * 5000, "", "/etc/\udce9", "../" * 2000])
def test_a_record_with_impossible_paths_is_no_reason_to_stop(tmp_path: Path, hostile: str) -> None:
    write_run(tmp_path / "run")
    path = tmp_path / "run" / runs.ENVIRONMENT
    record = json.loads(path.read_text())
    for key in ("source", "source_from_run", "data_dir", "data_dir_from_run"):
        record["data"][key] = hostile
    path.write_text(json.dumps(record))
    with pytest.raises(UsageError, match="has not finished training"):
        runs.require_trained(tmp_path / "run")
