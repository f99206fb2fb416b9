"""Every write, open, fsync, rename, mkdir and unlink fails once: a named error, and nothing lost.

The errors are those of a full disk and of a broken one. Afterwards the run is resumed, and has the
bytes of one that was never disturbed.
"""

import errno
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.campaign.forked import Job, Outcome, Server
from tests.campaign.inputs import FAST, TRAIN, make_photos, run_bytes, stray_files

SOURCE = Path(__file__).with_name("faulty_disk.c")
COMPILER = shutil.which("cc")
# As small as it gets, since each of them is run thousands of times. Every operation of two epochs:
# the later ones would repeat those of the second.
SHORT = [*TRAIN[2:], "--epochs", "2"]
SMALL = ["--image-size", "8"]
WAYS = {
    "run": [
        "train", "digits", *SHORT, "--snapshots", "2", "--set", "train.keep=best", "--set",
        "data.train_limit=64",
    ],
    "images' cache": ["train", "photos", *SHORT, *SMALL],
    "features' cache": [
        "train", "photos", "--recipe", "transfer-features", "--backbone",
        "test_efficientnet:weights=none,input_size=32", *FAST, "--set", "transfer.strengths=[0.1]",
    ],
}  # fmt: skip
ERRORS = {"full": (errno.ENOSPC, False), "broken": (errno.EIO, True)}

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler, as cc")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    make_photos(folder / "photos", count=60)
    return folder


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("disk") / "faulty_disk.so"
    command = [str(COMPILER), "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


def clean(work: Path) -> None:
    for folder in ("run", "cache"):
        shutil.rmtree(work / folder, ignore_errors=True)


def attempt(forks: Server, work: Path, way: str, fail_at: int = 0, error: str = "full") -> Outcome:
    number, reads = ERRORS[error]
    arguments = [*WAYS[way], "--out", "run"]
    if (work / "run" / "recipe.toml").is_file():
        arguments.append("--resume")
    return forks.run(Job(arguments, str(work), fail_at=fail_at, error_number=number, reads=reads))


def require_named(done: Outcome) -> None:
    """A named error with its exit code, or a success with at most a warning."""
    case = f"{done.failed}: exit code {done.code}\n{done.errors}"
    assert "Traceback" not in done.errors, case
    assert done.code in (0, 3), case
    assert done.code == 0 or "glasshouse: " in done.errors, case


def fail_once(forks: Server, work: Path, way: str, error: str, nth: int, expected: object) -> int:
    """Let one operation fail, then resume; returns the exit code of the disturbed run."""
    clean(work)
    done = attempt(forks, work, way, nth, error)
    require_named(done)
    again = attempt(forks, work, way)
    assert again.code == 0, f"after {done.failed}: {again.errors}"
    assert run_bytes(work / "run") == expected, f"other bytes after {done.failed}"
    assert stray_files(work / "run") + stray_files(work / "cache") == [], done.failed
    return done.code


def undisturbed(forks: Server, work: Path, way: str, error: str) -> tuple[object, int]:
    """The bytes of a run, and how many operations it takes."""
    clean(work)
    done = attempt(forks, work, way, error=error)
    assert done.code == 0 and done.operations > 20, done.errors
    return run_bytes(work / "run"), done.operations


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", ERRORS)
def test_any_operation_may_fail(
    way: str, error: str, work: Path, forks: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, operations = undisturbed(forks, work, way, error)
    codes = []
    for nth in range(1, operations + 1):
        codes.append(fail_once(forks, work, way, error, nth, expected))
    with capsys.disabled():
        named, harmless = codes.count(3), codes.count(0)
        print(f"\n  {way}, {error} disk: {named} named errors, {harmless} harmless, 0 tracebacks")


@pytest.mark.slow
def test_a_few_operations_may_fail(work: Path, forks: Server) -> None:
    expected, operations = undisturbed(forks, work, "images' cache", "full")
    # From the first two thirds, since evaluation and report take most of the time.
    nth = random.Random(0).randint(1, 2 * operations // 3)
    fail_once(forks, work, "images' cache", "full", nth, expected)
