"""The tour tells its whole story offline: a photo, maps that can be trusted, a training, advice."""

import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from glasshouse.cli.main import app
from glasshouse.cli.tour import _sentences, _tell_how_to_activate
from tests.journeys.command import COMMAND, LONGEST_S, own_environment

# Two minutes for the tour after a minute of set-up; processor time, which other work on the machine
# hardly changes, on two cores.
MOST_CPU_S = 2 * 120


@pytest.mark.slow
def test_the_tour_explains_a_photo_trains_and_shows_a_right_and_a_wrong_answer(
    tmp_path: Path,
) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        [*COMMAND, "tour", "--out", "tour"],
        cwd=tmp_path, env=own_environment(tmp_path), capture_output=True, text=True, check=False,
        timeout=LONGEST_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < MOST_CPU_S
    story = done.stdout
    assert re.search(r"^ +9\d\.\d\d %  cat$", story, re.M)
    assert "passed every check:\n        integrated-gradients\n" in story
    share = re.search(r"the eyes and the nose cover 15 % of the image and hold\n(\d+) % of", story)
    assert share and int(share[1]) > 30
    assert re.search(
        r"^Test accuracy \d\d\.\d\d % \(.*\), 95 % confidence interval\.$", story, re.M
    )
    right = re.search(
        r"^Right: shapes/\S+ is of the class (\w+), the network says (\w+) ", story, re.M
    )
    wrong = re.search(
        r"^Wrong: shapes/\S+ is of the class (\w+), the network says (\w+) ", story, re.M
    )
    assert right and right[1] == right[2]
    assert wrong and wrong[1] != wrong[2]
    for name in ("report.html", "right-and-wrong.png", "model.safetensors"):
        assert (tmp_path / "tour" / "run" / name).is_file()
        assert f"tour/run/{name}" in story or name == "model.safetensors"
    assert len(list((tmp_path / "tour" / "photo").glob("chelsea-*/sheet.png"))) == 1
    commands = re.findall(r"^    glasshouse (.*)$", story, re.M)
    assert [shlex.split(command)[0] for command in commands] == [
        "predict", "explain", "train", "check", "train", "explain", "ui",
    ]  # fmt: skip
    for command in commands:
        assert_parses(shlex.split(command))


def assert_parses(words: list[str]) -> None:
    """Raise where the command line would refuse these words; nothing is run."""
    group = typer.main.get_command(app)
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], words[1:])


def test_commands_that_a_shell_would_not_find_come_with_their_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "activate").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    _tell_how_to_activate()
    assert f"    source {tmp_path / 'activate'}" in capsys.readouterr().out
    command = tmp_path / "glasshouse"
    command.touch(mode=0o755)
    _tell_how_to_activate()
    assert capsys.readouterr().out == ""


def test_the_tour_says_so_where_no_answer_was_wrong() -> None:
    assert _sentences(False, None) == "Wrong: no answer on the test images was wrong.\n"
