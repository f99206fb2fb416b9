from pathlib import Path

import pytest

from glasshouse.errors import UsageError
from glasshouse.recipe import load_recipe, to_toml
from glasshouse.runs.resuming import recipe_to_resume


def write_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(to_toml(load_recipe("small-cnn")))


def message_of(folder: Path) -> str:
    with pytest.raises(UsageError) as refused:
        recipe_to_resume(folder)
    return str(refused.value)


def test_the_recipe_of_a_run_and_of_its_first_seed_is_found(tmp_path: Path) -> None:
    write_run(tmp_path / "one")
    for seed in (10, 9):
        write_run(tmp_path / "several" / f"seed-{seed}")
    assert recipe_to_resume(tmp_path / "one") == tmp_path / "one" / "recipe.toml"
    first = tmp_path / "several" / "seed-9" / "recipe.toml"
    assert recipe_to_resume(tmp_path / "several") == first


def test_a_mistyped_folder_is_refused_with_the_runs_it_may_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs/my photos-1"))
    write_run(Path("runs/flowers/seed-0"))
    assert message_of(Path("runs/my photo-1")) == (
        "--resume: runs/my photo-1 does not exist, so there is no run to resume. Did you mean "
        "--out 'runs/my photos-1'? To start a new run, leave --resume out."
    )
    # Without the folder in front, and one folder too high.
    assert "Did you mean --out 'runs/my photos-1'?" in message_of(Path("my photos-1"))
    assert "Did you mean --out runs/flowers?" in message_of(Path("runs/flower"))
    assert "`glasshouse runs runs` lists the runs there" in message_of(Path("runs/x"))


def test_an_empty_folder_and_another_folder_are_not_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / ".recipe.toml.12-3").write_text("half a rec")
    assert "is empty, so there is no run to resume" in message_of(tmp_path)
    (tmp_path / "letter.txt").write_text("dear")
    assert "is not a run folder: it has no recipe.toml" in message_of(tmp_path)
