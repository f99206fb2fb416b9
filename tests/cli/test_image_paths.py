"""What IMAGE arguments stand for, and reading many of them in bounded memory."""

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from glasshouse.cli import image_paths as module
from glasshouse.cli.early_checks import require_images
from glasshouse.cli.image_paths import end_with_bad_files, image_paths, readable_batches
from glasshouse.errors import BadImage, DataError, GlasshouseWarning
from glasshouse.models.bundled import load_bundled
from glasshouse.models.known_names import EXAMPLE_PHOTO, bundled_names
from glasshouse.models.predict import read_images
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.workflow.use.image_files import read_image_files
from tests.explanation.nets import classifier_of, pooled_net


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    random = np.random.default_rng(0)
    for number in range(20):
        noise = random.integers(0, 256, (30 + number, 41, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "deep" / f"{number:02}.png")
    (tmp_path / "deep" / "words.png").write_text("not an image")
    (tmp_path / "deep" / "notes.txt").write_text("x")
    (tmp_path / "a[1].png").write_bytes((tmp_path / "deep" / "00.png").read_bytes())
    return tmp_path


def test_folders_patterns_and_names_stand_for_files_in_order(folder: Path) -> None:
    found = image_paths([Path("a[1].png"), Path("deep/1*.png"), Path("nowhere.png")])
    assert found[0] == Path("a[1].png") and found[-1] == Path("nowhere.png")
    assert found[1:-1] == [Path(f"deep/{number}.png") for number in range(10, 20)]
    assert len(image_paths([Path("deep")])) == 21
    assert image_paths([folder / "*.png"]) == [folder / "a[1].png"]
    # A pattern stands for files: the folder that it matches as well is no bad image.
    assert image_paths([Path("*")]) == [Path("a[1].png")]


def test_names_on_standard_input_may_contain_spaces_and_blank_lines_are_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"my photo.png\n\n b.png\n")))
    assert image_paths([Path("-")]) == [Path("my photo.png"), Path(" b.png")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\nb.png\0c.png\0", ["a\nb.png", "c.png"]),
        (b"caf\xe9.png\r\nd.png", [os.fsdecode(b"caf\xe9.png"), "d.png"]),
    ],
)
def test_names_on_standard_input_are_bytes_and_may_end_with_zero_bytes(
    data: bytes, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    assert image_paths([Path("-")]) == [Path(name) for name in expected]


def test_an_image_on_standard_input_is_told_apart_from_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = EXAMPLE_PHOTO.read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(image), encoding="utf-8"))
    with pytest.raises(DataError, match="expected the names of image files, one per line"):
        image_paths([Path("-")])


def test_what_is_left_out_of_a_folder_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_paths([Path("deep")])
    assert capsys.readouterr().err == (
        "glasshouse: deep: 1 file without the extension of an image was ignored: notes.txt.\n"
    )


def test_nothing_left_is_an_error_that_names_the_arguments(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no image file in \*\.gif"):
        image_paths([Path("*.gif")])


def test_batches_hold_a_bounded_number_of_images_and_bad_files_are_collected(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DECODED", 16)
    classifier = load_bundled(bundled_names()[0])
    bad: list[BadImage] = []
    paths = image_paths([Path("deep")])
    batches = list(readable_batches(paths, classifier, bad, most=8))
    assert [len(names) for names, _ in batches] == [8, 8, 4]
    assert [name for names, _ in batches for name in names] == paths[:20]
    for names, pixels in batches:
        assert np.array_equal(pixels, read_images(names, classifier))
    (error,) = bad
    assert str(error).startswith("deep/words.png: not an image")


@pytest.mark.parametrize(
    "cropped",
    [
        Preprocessing(20, 24, "crop", crop_fraction=0.8),
        Preprocessing(21, 21, crop_fraction=0.8, interpolation="bilinear", rounding="torchvision"),
        Preprocessing(20, 24, "letterbox", (0.4, 0.5, 0.6), crop_fraction=0.9, rounding="timm"),
    ],
    ids=["exact", "torchvision", "timm"],
)
def test_files_read_by_several_processes_have_the_pixels_of_those_read_in_this_one(
    folder: Path, cropped: Preprocessing
) -> None:
    classifier = replace(classifier_of(pooled_net()), preprocessing=cropped)
    paths = [*image_paths([Path("deep")]), Path("nowhere.png")]
    found = read_image_files(paths, classifier)
    expected = [read_image_files([path], classifier)[0] for path in paths]
    for one, other in zip(found, expected, strict=True):
        if isinstance(one, BadImage):
            assert str(one) == str(other)
        else:
            assert isinstance(other, np.ndarray) and np.array_equal(one, other)
    assert sum(isinstance(one, BadImage) for one in found) == 2


def test_bad_files_are_named_and_end_the_command_with_the_code_for_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    end_with_bad_files([])
    with pytest.raises(typer.Exit) as caught:
        end_with_bad_files([BadImage("a.png", "not an image"), BadImage("b.png", "empty")])
    assert caught.value.exit_code == 3
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == [
        "a.png:",
        "b.png:",
    ]


def test_a_path_that_is_too_long_is_a_bad_file_like_others(
    folder: Path,
) -> None:
    long = Path("x" * 300 + ".png")
    names = [long, Path("deep")]
    assert image_paths(names)[0] == long
    require_images(names)
    classifier = classifier_of(pooled_net())
    bad: list[BadImage] = []
    batches = list(readable_batches(image_paths([long, folder]), classifier, bad, most=8))
    assert sum(len(paths) for paths, _ in batches) >= 1
    assert any(each.path == str(long) and "name too long" in each.reason for each in bad)


@pytest.mark.parametrize("others", [20, 3], ids=["many", "few"])
def test_files_of_which_only_a_part_is_seen_are_warned_of_at_once(
    folder: Path, others: int
) -> None:
    classifier = replace(classifier_of(pooled_net()), preprocessing=Preprocessing(20, 24))
    for name in ("one.gif", "two.gif"):
        Image.new("L", (9, 9)).save(
            folder / name, save_all=True, append_images=[Image.new("L", (9, 9), 9)]
        )
    paths = [*image_paths([Path("deep")])[:others], Path("one.gif"), Path("two.gif")]
    with pytest.warns(GlasshouseWarning) as caught:
        read_image_files(paths, classifier)
    assert [str(each.message) for each in caught] == [
        "2 files with several frames or pages, of which only the first is used: one.gif, two.gif"
    ]
