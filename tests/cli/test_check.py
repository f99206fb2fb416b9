"""What `check` prints, and when it fails a pipeline."""

import json
from pathlib import Path

import pytest

from glasshouse.data.findings import Finding, Level
from glasshouse.workflow.use import source_check
from tests.data.image_files import write_folder
from tests.journeys.command import glasshouse_here


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sound images that are few, which is a warning."""
    return write_folder(tmp_path / "photos", {"cat": 20, "dog": 20}, size=24)


def levels(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, set[str]]:
    code, output, _ = glasshouse_here(["check", *arguments, "--json"], capsys)
    return code, {finding["level"] for finding in json.loads(output)}


def test_warnings_fail_only_a_strict_check(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert levels([str(folder)], capsys) == (0, {"warning", "info"})
    assert levels([str(folder), "--strict"], capsys) == (3, {"warning", "info"})


def test_errors_fail_every_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # All images of one class are also in the other.
    for path in sorted((folder / "cat").iterdir()):
        (folder / "dog" / path.name).write_bytes(path.read_bytes())
    for options in ([], ["--strict"]):
        code, found = levels([str(folder), *options], capsys)
        assert code == 3 and "error" in found


@pytest.mark.parametrize(
    ("level", "codes"), [("info", (0, 0)), ("warning", (0, 3)), ("error", (3, 3))]
)
def test_the_exit_code_follows_from_the_most_serious_finding(
    level: Level, codes: tuple[int, int], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    findings = (Finding("counts", "info", "40 images", ""), Finding("other", level, "Title", "x"))
    made = source_check.Examination("digits", findings, None)
    monkeypatch.setattr(source_check, "examine", lambda *parts, **more: made)
    for options, code in zip(([], ["--strict"]), codes, strict=True):
        found, output, _ = glasshouse_here(["check", "digits", *options], capsys)
        assert found == code
        assert f"{level:>7}  Title: x" in output
