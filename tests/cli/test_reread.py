"""`--reread`: files are decoded again although they look unchanged."""

import json
from pathlib import Path

import pytest

from glasshouse.cli import early_checks
from glasshouse.cli.main import app
from glasshouse.data import cache, file_index
from glasshouse.errors import DataError
from glasshouse.recipe import load_recipe, to_toml
from tests.data.image_files import write_folder
from tests.journeys.command import glasshouse_here
from tests.run_files import environment

BACKBONES = ["--backbones", "resnet18,resnet34"]
ON_SOURCES = [
    ["check"], ["train", "--out", "run-1"], ["lr-find"], ["folds"], ["label-errors"], ["ladder"],
    ["tune", "--search", "train.lr=0.1,0.2"], ["compare-backbones", *BACKBONES],
]  # fmt: skip
ON_RUNS = [
    ["evaluate", "RUN", "--on", "SOURCE"], ["compare", "RUN", "RUN", "--on", "SOURCE"],
    ["compare", "RUN", "RUN", "--out", "page.html"], ["explain", "RUN", "--errors"],
    ["reproduce", "RUN"], ["shortcuts", "RUN"], ["groups", "RUN"], ["map", "RUN"],
]  # fmt: skip


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A source, and a run that was trained on it."""
    source, run = write_folder(tmp_path / "photos", {"cat": 12, "dog": 12}), tmp_path / "run"
    run.mkdir()
    facts = environment()
    facts["data"]["source"] = str(source)
    (run / "environment.json").write_text(json.dumps(facts))
    (run / "recipe.toml").write_text(to_toml(load_recipe("tutorial-basic")))
    (run / "model.json").write_text(json.dumps({"class_names": ["cat", "dog"]}))
    monkeypatch.chdir(tmp_path)
    return {"SOURCE": str(source), "RUN": str(run)}


@pytest.mark.parametrize(
    "arguments",
    [*([name, "SOURCE", *more] for name, *more in ON_SOURCES), *ON_RUNS],
    ids=" ".join,
)
def test_every_command_that_reads_a_source_rereads_it(
    arguments: list[str],
    names: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(source: str) -> None:
        raise DataError(f"reread {source}")

    monkeypatch.setattr(early_checks, "read_again", stop)
    filled = [names.get(argument, argument) for argument in arguments]
    code, _, errors = glasshouse_here([*filled, "--reread"], capsys)
    assert code == 3, errors
    assert errors.endswith(f"reread {names['SOURCE']}\n")


def test_every_command_with_a_source_has_the_option() -> None:
    import typer

    tested = {name for name, *_ in (*ON_SOURCES, *ON_RUNS)}
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        parameters = {parameter.name for parameter in command.params}
        # Elsewhere, --on names a cluster.
        if "source" in parameters or name == "evaluate":
            assert "reread" in parameters, name
        assert ("reread" in parameters) == (name in tested), name


def test_a_file_that_changed_unseen_is_read_again(
    names: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never_changing(path: Path) -> tuple[int, int, int, int]:
        return 1, 2, 3, 4

    monkeypatch.setattr(file_index, "file_stamp", never_changing)
    monkeypatch.setattr(cache, "file_stamp", never_changing)
    command = ["check", names["SOURCE"]]
    _, before, _ = glasshouse_here(command, capsys)
    (Path(names["SOURCE"]) / "cat" / "003.png").write_bytes(b"no image")
    _, unseen, _ = glasshouse_here(command, capsys)
    assert unseen == before
    _, after, _ = glasshouse_here([*command, "--reread"], capsys)
    assert "1 file cannot be read" in after
