"""Bad input gets a clear error and the right exit code, and nothing is lost."""

import json
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from tests.data.shard_files import images_below, write_tar
from tests.journeys.command import glasshouse, glasshouse_here


def images(folder: Path, count: int = 3) -> None:
    folder.mkdir(parents=True)
    # The class seeds the noise, so that classes differ while splits hold the same images.
    random = np.random.default_rng(len(folder.name) + ord(folder.name[0]))
    for i in range(count):
        noise = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bad")
    (root / "empty").mkdir()
    images(root / "one" / "cats")
    for split, names in {
        "train": ("cats", "dogs"),
        "val": ("cats",),
        "test": ("cats", "dogs"),
    }.items():
        for name in names:
            images(root / "gap" / split / name)
    images(root / "broken" / "cats", 12)
    images(root / "broken" / "dogs", 12)
    (root / "broken" / "dogs" / "no-image.jpg").write_text("hello")
    # The same noise in both splits: every test image is also a training image.
    for part, count in {"train": 9, "test": 3}.items():
        for name in ("cats", "dogs"):
            images(root / "leaked" / part / name, count)
    batches = root / "data" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (batches / name).write_bytes(b"\x80\x04cut off")
    (root / "rows").mkdir()
    parquet.write_table(arrow.table({"label": [0, 1]}), root / "rows" / "0.parquet")
    write_tar(root / "cut.tar", images_below(root / "leaked" / "train"))
    (root / "cut.tar").write_bytes((root / "cut.tar").read_bytes()[:5000])
    (root / "notes").mkdir()
    (root / "notes" / "a.txt").write_text("x")
    return root


CASES = [
    (["train", "empty"], 3, "empty"),
    (["train", "one"], 3, "cats"),
    (["train", "gap"], 3, "dogs"),
    (["train", "gap"], 3, "val"),
    (["train", "nowhere"], 2, "nowhere"),
    (["train", "digit"], 2, "digits"),
    (["train", "broken"], 3, "no-image.jpg"),
    (["train", "broken"], 3, "--on-bad-file skip"),
    (["lr-find", "broken", "--out", "-"], 3, "--set data.on_bad_file=skip"),
    (["train", "leaked"], 3, "train/cats/0.png = test/cats/0.png"),
    (["train", "leaked"], 3, "--set data.on_finding=ignore"),
    (["train", "cifar10", "--data-dir", "data", "--offline"], 3, "batches.meta is truncated"),
    (["train", "cifar10", "--data-dir", "empty", "--offline"], 3, "digits"),
    (["train", "digits", "--recipe", "tutorial-basik"], 2, "'tutorial-basic'"),
    (["train", "digits", "--set", "train.epoch=3"], 2, "'train.epochs'"),
    (
        ["train", "digits", "--set", "model.layers=[{type='conv',filters=2,kernel_size=9}]"],
        2,
        "its window of 9x9 is larger than its input of 8x8",
    ),
    (
        ["train", "rows", "--out", "unborn"],
        3,
        "rows has 1 Parquet file without images: expected a column with their bytes",
    ),
    (
        ["train", "cut.tar", "--out", "unborn"],
        3,
        "cut.tar is truncated or damaged: unexpected end of data. Copy or write it again.",
    ),
    (["train", "digits", "--out", "notes"], 2, "is not empty"),
    (["train", "digits", "--resume"], 2, "--out"),
    (["train", "digits", "--out", "notes", "--resume"], 2, "not a run folder"),
    (["train", "digits", "--out", "runs/mistyped", "--resume"], 2, "no run to resume"),
    (
        ["train", "digits", "--out", "mistyped", "--resume", "--recipe", "small-cnn"],
        2,
        "To start a new run, leave --resume out.",
    ),
    (["evaluate", "notes"], 2, "not a run folder"),
    (["evaluate", "nowhere"], 2, "does not exist"),
    (["predict", "notes", "x.png"], 2, "not a run folder"),
    (["runs", "nowhere"], 2, "not a folder"),
    (["summary", "tutorial-wid"], 2, "'tutorial-wide'"),
    (["train", "digits", "--set", "train.device=warp"], 2, "device 'warp' is not available"),
    (["train", "digits", "--device", "warp"], 2, "device 'warp' is not available"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), CASES)
def test_bad_input_is_named(
    folder: Path,
    arguments: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GLASSHOUSE_DATA", raising=False)
    received, output, errors = glasshouse_here(arguments, capsys)
    assert received == code, errors
    assert message in errors
    assert output == ""
    assert not (folder / "unborn").exists()


def test_skipping_bad_files_names_them_and_trains_on_the_rest(folder: Path) -> None:
    done = glasshouse(
        "train", "broken", "--on-bad-file", "skip", "--out", "skipped",
        "--set", "train.epochs=1", "--set", "data.image_size=16", "--recipe", "small-cnn",
        cwd=folder,
    )  # fmt: skip
    assert "skipped " in done.stderr
    assert "no-image.jpg" in done.stderr
    assert "no-image.jpg" in (folder / "skipped" / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_reports")
def test_leaked_images_are_trained_on_when_findings_are_ignored(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    arguments = ["train", "leaked", "--recipe", "small-cnn", "--out", "wanted"]
    overrides = ("train.epochs=1", "data.image_size=32", "data.on_finding=ignore")
    arguments += [part for override in overrides for part in ("--set", override)]
    assert glasshouse_here(arguments, capsys)[0] == 0
    code, output, _ = glasshouse_here(["check", "leaked", "--out", "checked", "--json"], capsys)
    assert code == 3
    assert "leaked-duplicates" in {finding["kind"] for finding in json.loads(output)}
    assert "side by side" in (folder / "checked" / "check.html").read_text(encoding="utf-8")


def test_predict_names_a_file_that_is_not_an_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (folder / "skipped").exists():
        test_skipping_bad_files_names_them_and_trains_on_the_rest(folder)
    bad = folder / "broken" / "dogs" / "no-image.jpg"
    monkeypatch.chdir(folder)
    code, _, errors = glasshouse_here(["predict", "skipped", str(bad)], capsys)
    assert (code, "no-image.jpg" in errors) == (3, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "{}"], ["check", "{}"], ["check", "digits", "--out", "{}"], ["evaluate", "{}"],
        ["train", "digits", "--out", "{}"], ["train", "digits", "--recipe", "{}.toml"],
        ["predict", "mobilenetv2_100", "{}"], ["tune", "{}"], ["runs", "{}"], ["summary", "{}"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_path_that_the_system_refuses_is_named_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.format("x" * 300) for argument in arguments]
    code, output, errors = glasshouse_here(filled, capsys)
    assert code in (2, 3)
    # `check` reports a source that cannot be loaded as a finding.
    (line,) = (output + errors).splitlines()
    assert "cannot use the path" in line and "name too long" in line


def test_check_shows_why_a_class_has_no_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            images(tmp_path / "set" / split / name)
    images(tmp_path / "set" / "test" / "dog")
    (tmp_path / "set" / "test" / "cat").mkdir()
    (tmp_path / "set" / "test" / "cat" / "only.png").write_bytes(b"")
    code, output, _ = glasshouse_here(["check", str(tmp_path / "set")], capsys)
    assert code == 3
    assert "has no image of class 'cat'" in output
    assert "only.png: the file is empty" in output


def test_check_says_how_a_source_was_read_without_repeating_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("cat", "cat ", "Cat", "dog")):
        images(tmp_path / "set" / name, 4 + number)
    _, output, errors = glasshouse_here(["check", str(tmp_path / "set")], capsys)
    assert "'Cat' and 'cat' differ in case" in output
    assert "look alike" not in errors
    assert (
        "note: Labels that differ in white space or notation only are one class: 'cat' and"
        in errors
    )
    assert "were held out for test" in errors
