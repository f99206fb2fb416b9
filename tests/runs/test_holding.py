"""Two processes never train into one folder."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glasshouse.errors import UsageError
from glasshouse.runs.holding import hold, hold_new_folder, release, require_not_held
from glasshouse.workflow.tune.space import parse_search
from glasshouse.workflow.tune.tune import Search, tune
from tests.journeys.command import glasshouse_here

HOLDER = """
import sys, time
from pathlib import Path
from glasshouse.runs.holding import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the folder run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_that_another_process_holds_is_refused_until_that_process_dies(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    for check in (hold, require_not_held):
        with pytest.raises(UsageError, match=r"another process is training into .*run: wait until"):
            check(tmp_path / "run")
    holder.kill()
    holder.wait()
    require_not_held(tmp_path / "run")
    hold(tmp_path / "run")
    release(tmp_path / "run")


TRAINS = {
    "train": ["train", "digits"],
    "resume": ["train", "digits", "--resume"],
    "tune": ["tune", "digits", "--search", "train.lr=0.1,0.2"],
}


@pytest.mark.parametrize("command", TRAINS)
def test_the_command_refuses_to_train_resume_or_tune_where_another_one_trains(
    tmp_path: Path,
    holder: "subprocess.Popen[str]",
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [*TRAINS[command], "--out", str(tmp_path / "run")]
    code, _, errors = glasshouse_here(arguments, capsys)
    assert code == 2 and "another process is training into" in errors


def test_a_search_holds_its_folder_from_its_first_file_on(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    search = Search("digits", "small-cnn", (parse_search("train.lr=0.1,0.2"),), tmp_path / "run")
    with pytest.raises(UsageError, match="another process is training into"):
        tune(search)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_process_may_hold_its_folder_again_and_an_empty_one_is_removed(tmp_path: Path) -> None:
    hold(tmp_path / "run")
    hold(tmp_path / "run")
    require_not_held(tmp_path / "run")
    release(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    release(tmp_path / "run")
    hold(tmp_path / "run")
    (tmp_path / "run" / "recipe.toml").write_text("")
    release(tmp_path / "run")
    assert (tmp_path / "run" / "recipe.toml").is_file()


def test_several_processes_that_choose_a_name_get_different_folders(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from glasshouse.runs.holding import hold_new_folder;"
        "print(hold_new_folder(Path(sys.argv[1]), 'a').name); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    several = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    names = {each.stdout.readline().strip() for each in several if each.stdout}
    for each in several:
        each.communicate("\n")
    assert names == {"a-1", "a-2", "a-3", "a-4"}
    folder = hold_new_folder(tmp_path, "a")
    assert folder.name == "a-5"
    release(folder)


def test_a_run_that_was_being_replaced_is_back_before_it_is_looked_at(tmp_path: Path) -> None:
    run, old = tmp_path / "run", tmp_path / ".run.replaced"
    for look in (require_not_held, hold):
        old.mkdir()
        (old / "recipe.toml").touch()
        look(run)
        assert (run / "recipe.toml").is_file() and not old.exists()
        release(run)
        run.rename(tmp_path / look.__name__)
