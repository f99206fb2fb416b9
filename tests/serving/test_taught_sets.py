"""Data sets that are put together in the browser: names, limits, and files that are refused."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glasshouse.data.sources import load_splits
from glasshouse.errors import UsageError
from glasshouse.serving import taught_sets
from glasshouse.serving.taught_sets import (
    Added,
    add_class,
    add_images,
    classes_of,
    file_of,
    free_set_name,
    remove_class,
    remove_image,
    rename_class,
    safe_class_name,
    set_folder,
    set_names,
    what_is_missing,
)
from glasshouse.serving.workbench import Workbench
from glasshouse.settings import DataSettings


def png(seed: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def folder(workbench: Workbench) -> Path:
    place = set_folder(workbench, "pets")
    add_class(place, "cat")
    add_class(place, "dog")
    return place


def test_loose_files_and_hidden_folders_are_no_classes(folder: Path) -> None:
    (folder / "notes.txt").write_text("about the photos")
    (folder / ".thumbnails").mkdir()
    assert classes_of(folder) == {"cat": [], "dog": []}


def images_of(folder: Path, name: str) -> list[str]:
    return [path.name for path in classes_of(folder)[name]]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("  my   cat ", "my cat"),
        ("../../etc/passwd", "etc-passwd"),
        ("a/b\\c:d", "a-b-c-d"),
        (".hidden", "hidden"),
        ("<img src=x onerror=alert(1)>", "img src=x onerror=alert(1)"),
        ("caf\u0065\u0301", "café"),
        ("line\nbreak\x00", "line-break"),
        ("right\u202eleft", "rightleft"),
        ("x" * 300, "x" * 60),
        ("猫", "猫"),
        ("com10", "com10"),
    ],
)
def test_the_name_of_a_class_is_safe_on_any_file_system(words: str, name: str) -> None:
    assert safe_class_name(words) == name


@pytest.mark.parametrize(
    "words", ["", "  ", "..", "/", "con", "NUL.txt", "com1", "LPT9", "train", "Test", "\x00"]
)
def test_a_name_without_a_safe_form_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        safe_class_name(words)


@pytest.mark.parametrize("name", ["..", "a/b", "", ".x", "a b", "x" * 61, "a\n", "ä"])
def test_the_name_of_a_set_is_never_a_path(workbench: Workbench, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a data set"):
        set_folder(workbench, name)


def test_sets_are_listed_and_new_names_are_free(workbench: Workbench, folder: Path) -> None:
    assert set_names(workbench) == ["pets"]
    assert free_set_name(workbench) == "set-1"
    assert free_set_name(workbench, "set-1") == "set-2"


def test_images_are_added_once_and_under_safe_names(folder: Path) -> None:
    assert add_images(folder, "cat", [("../../evil name.exe", png(0))]) == Added(1, ())
    (name,) = images_of(folder, "cat")
    assert name.startswith("evil-name-") and name.endswith(".png")
    again = add_images(folder, "dog", [("other.png", png(0)), ("new.jpg", png(1, "JPEG"))])
    assert again == Added(1, ("other.png: it is in 'cat' already",))
    assert images_of(folder, "dog")[0].endswith(".jpg")


def test_what_is_no_image_is_refused_by_name_and_the_rest_is_added(folder: Path) -> None:
    files = [
        ("page.png", b"<svg onload=alert(1)>"),
        ("half.png", png(2)[:300]),
        ("empty.jpg", b""),
        ("good.png", png(3)),
    ]
    added = add_images(folder, "cat", files)
    assert added.count == 1
    assert [line.partition(":")[0] for line in added.refused] == [
        "page.png",
        "half.png",
        "empty.jpg",
    ]
    assert "the file is empty" in added.refused[2]


def test_sizes_and_numbers_are_limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taught_sets, "MOST_FILE_BYTES", 900)
    assert add_images(folder, "cat", [("large.png", png(0))]).count == 0
    monkeypatch.undo()
    monkeypatch.setattr(taught_sets, "MOST_IMAGES", 2)
    added = add_images(folder, "cat", [(f"{k}.png", png(k)) for k in range(3)])
    assert added == Added(2, ("2.png: a data set made here has at most 2 images",))
    monkeypatch.undo()
    monkeypatch.setattr(taught_sets, "MOST_SET_BYTES", 1000)
    assert add_images(folder, "cat", [("9.png", png(9))]).count == 0
    monkeypatch.setattr(taught_sets, "MOST_CLASSES", 2)
    with pytest.raises(UsageError, match="at most 2 classes"):
        add_class(folder, "bird")


def test_a_set_that_is_full_says_how_much_it_may_have(folder: Path) -> None:
    with (folder / "cat" / "large.png").open("wb") as file:
        file.truncate(taught_sets.MOST_SET_BYTES - len(png(0)))  # takes no room on the disk
    assert taught_sets._write(folder, "cat", "0.png", png(0)) == ""
    refused = taught_sets._write(folder, "cat", "1.png", png(1))
    assert refused == "a data set made here has at most 1 GB"


def test_classes_are_renamed_and_removed_with_their_images(folder: Path) -> None:
    add_images(folder, "cat", [("a.png", png(0)), ("b.png", png(1))])
    before = images_of(folder, "cat")
    assert rename_class(folder, "cat", "big cat") == "big cat"
    assert images_of(folder, "big cat") == before
    with pytest.raises(UsageError, match="There is a class 'DOG' already"):
        rename_class(folder, "big cat", "DOG")
    remove_image(folder, "big cat", before[0])
    assert images_of(folder, "big cat") == before[1:]
    remove_class(folder, "big cat")
    assert list(classes_of(folder)) == ["dog"]


def test_no_name_from_a_browser_leads_out_of_the_set(folder: Path) -> None:
    outside = folder.parent / "outside.png"
    outside.write_bytes(png(0))
    for class_name, file in (("..", "outside.png"), ("cat", "../../outside.png"), (".", "cat")):
        assert file_of(folder, class_name, file) is None
        remove_image(folder, class_name, file)
    remove_class(folder, "..")
    with pytest.raises(UsageError, match="no class"):
        rename_class(folder, "../pets", "x")
    assert add_images(folder, "..", [("a.png", png(1))]).count == 0
    assert outside.is_file() and list(classes_of(folder)) == ["cat", "dog"]


def test_a_set_says_what_it_lacks_and_is_an_ordinary_source(folder: Path) -> None:
    assert what_is_missing(folder.parent / "none") == "Two classes or more are needed."
    add_images(folder, "cat", [(f"{k}.png", png(k)) for k in range(5)])
    assert what_is_missing(folder) == "'dog' needs at least 3 images."
    add_images(folder, "dog", [(f"{k}.png", png(k)) for k in range(5, 10)])
    assert what_is_missing(folder) == ""
    splits = load_splits(str(folder), DataSettings())
    assert splits.class_names == ("cat", "dog")
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 10
