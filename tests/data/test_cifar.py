import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glasshouse.data import cifar
from glasshouse.data.cifar import FOLDER, fetch_cifar, find_cifar, read_cifar
from glasshouse.errors import DataError
from tests.data.servers import Files, serving

NAMES = [b"airplane", b"automobile", b"bird"]


def write_batches(folder: Path, rows: int = 6) -> dict[str, str]:
    """Small batches in the official format; returns their md5 by name."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    contents: dict[str, object] = {"batches.meta": {b"label_names": NAMES}}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = random.integers(0, 256, (rows, 3072), dtype=np.uint8)
        contents[name] = {b"data": data, b"labels": [i % 3 for i in range(rows)]}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return {name: md5(folder / name) for name in sorted(contents)}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_batches_become_images_labels_and_ids(tmp_path: Path) -> None:
    checksums = write_batches(tmp_path / FOLDER)
    train, test = read_cifar(tmp_path / FOLDER, checksums)
    assert train.pixels.shape == (30, 3, 32, 32)
    assert test.pixels.shape == (6, 3, 32, 32)
    assert train.class_names == ("airplane", "automobile", "bird")
    assert train.ids[7] == "train/00007"
    assert test.ids[5] == "test/00005"
    with (tmp_path / FOLDER / "data_batch_2").open("rb") as file:
        second = pickle.load(file)
    # Rows are red, green, blue, each row by row.
    assert train.pixels[6, 1, 0, 3] == second[b"data"][0, 1024 + 3]
    assert train.labels[:6].tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_truncated_batch_is_named(tmp_path: Path, name: str) -> None:
    checksums = write_batches(tmp_path / FOLDER)
    path = tmp_path / FOLDER / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=f"{name} is truncated or changed"):
        read_cifar(tmp_path / FOLDER, checksums)


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    checksums = write_batches(tmp_path / FOLDER)
    (tmp_path / FOLDER / "data_batch_4").unlink()
    with pytest.raises(DataError, match=r"cannot read the CIFAR batch .*data_batch_4"):
        read_cifar(tmp_path / FOLDER, checksums)


class Attack:
    """A pickle that would run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_batch_that_would_run_code_is_refused(tmp_path: Path) -> None:
    checksums = write_batches(tmp_path / FOLDER)
    hostile = tmp_path / FOLDER / "data_batch_1"
    hostile.write_bytes(pickle.dumps({b"data": Attack(tmp_path / "canary")}, protocol=2))
    with pytest.raises(DataError, match="which no batch needs"):
        read_cifar(tmp_path / FOLDER, {**checksums, "data_batch_1": md5(hostile)})
    assert not (tmp_path / "canary").exists()


def test_offline_it_names_the_folders_and_what_needs_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSHOUSE_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"here.*elsewhere.*--data-dir.*digits or shapes"):
        find_cifar(tmp_path / "here", offline=True)


@pytest.mark.parametrize("place", ["", FOLDER])
def test_the_batches_are_found_in_a_folder_or_below_it(tmp_path: Path, place: str) -> None:
    write_batches(tmp_path / FOLDER)
    assert find_cifar(tmp_path / place, offline=True) == tmp_path / FOLDER


def archive_of(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, FOLDER)
    return buffer.getvalue()


def test_the_archive_is_fetched_checked_and_unpacked(tmp_path: Path) -> None:
    checksums = write_batches(tmp_path / "source")
    data = archive_of(tmp_path / "source")
    progress: list[tuple[str, int, int]] = []
    with serving(Files({"/cifar.tar.gz": data})) as address:
        folder = fetch_cifar(
            tmp_path / "data",
            address=f"{address}/cifar.tar.gz",
            md5=hashlib.md5(data).hexdigest(),
            checksums=checksums,
            progress=lambda *news: progress.append(news),
        )
    assert len(read_cifar(folder, checksums)[0]) == 30
    assert progress[-1][1:] == (len(data), len(data))
    assert [path.name for path in (tmp_path / "data").iterdir()] == [FOLDER]


@pytest.mark.realdata
def test_the_real_batches_equal_an_independent_reading(real_data: Path) -> None:
    train, test = read_cifar(find_cifar(real_data, offline=True))
    with (real_data / FOLDER / "data_batch_5").open("rb") as file:
        last = pickle.load(file, encoding="bytes")
    expected = last[b"data"].reshape(-1, 3, 32, 32)
    assert np.array_equal(train.pixels[40_000:], expected)
    assert train.labels[40_000:].tolist() == last[b"labels"]
    assert len(train) == 50_000
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert train.class_names[3] == "cat"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data_batch_1", [1], "is not a CIFAR batch: expected a dict, received a list"),
        ("test_batch", {b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]}, "3,072 bytes"),
        ("test_batch", {b"data": np.zeros((2, 3072), np.int8), b"labels": [0, 1]}, "3,072 bytes"),
        ("test_batch", {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "a label for"),
        ("test_batch", {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 3]}, "a label for"),
        ("test_batch", {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, -1]}, "a label for"),
        ("test_batch", {b"data": np.zeros((2, 3072), np.uint8)}, "a label for each"),
    ],
)
def test_a_file_of_another_content_is_named(
    tmp_path: Path, name: str, content: object, words: str
) -> None:
    checksums = write_batches(tmp_path / FOLDER)
    path = tmp_path / FOLDER / name
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=f"{name} is not a CIFAR batch: .*{words.split(': ')[-1]}"):
        read_cifar(tmp_path / FOLDER, {**checksums, name: md5(path)})


def test_the_batches_are_read_in_order_with_all_labels(tmp_path: Path) -> None:
    checksums = write_batches(tmp_path / FOLDER, rows=2)
    train, test = read_cifar(tmp_path / FOLDER, checksums)
    batches = [
        pickle.loads((tmp_path / FOLDER / f"data_batch_{n}").read_bytes()) for n in range(1, 6)
    ]
    expected = np.concatenate([batch[b"data"] for batch in batches])
    assert np.array_equal(train.pixels.reshape(10, 3072), expected)
    assert train.labels.tolist() == [0, 1] * 5 and train.labels.dtype == np.int64
    assert test.labels.tolist() == [0, 1]
    assert train.ids.tolist() == [f"train/0000{n}" for n in range(10)]
    assert test.ids.tolist() == ["test/00000", "test/00001"]


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        ([[0] * 3072], [0]),
        (np.zeros((1, 3072), np.uint8), (0,)),
        (np.zeros((1, 3072), np.uint8), [0.0]),
        (np.zeros((1, 3, 1024), np.uint8), [0]),
    ],
)
def test_rows_and_labels_of_other_types_are_refused(
    tmp_path: Path, data: object, labels: object
) -> None:
    path = tmp_path / "x"
    path.write_bytes(pickle.dumps({b"data": data, b"labels": labels}, protocol=2))
    with pytest.raises(DataError, match="expected rows of 3,072 bytes and a label for each"):
        cifar._read_batch(path, md5(path), 3)


def test_where_batches_are_looked_for_and_downloaded_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSHOUSE_DATA", str(tmp_path / "data"))
    asked: list[Path] = []

    def fetch(place: Path, progress: Any) -> Path:
        asked.append(place)
        if place.name == "broken":
            raise DataError("no connection")
        return place / FOLDER

    monkeypatch.setattr(cifar, "fetch_cifar", fetch)
    assert find_cifar() == tmp_path / "data" / FOLDER
    assert find_cifar(tmp_path / "mine") == tmp_path / "mine" / FOLDER
    assert asked == [tmp_path / "data", tmp_path / "mine"]
    with pytest.raises(DataError) as found:
        find_cifar(tmp_path / "broken")
    assert str(found.value) == (
        f"no connection\nCIFAR-10 was not found: looked for the python batches in "
        f"{tmp_path / 'broken' / FOLDER} and {tmp_path / 'data' / FOLDER}. Put them there, name "
        "their folder with --data-dir or GLASSHOUSE_DATA, or use a source that needs no download: "
        "digits or shapes."
    )
    write_batches(tmp_path / "data" / FOLDER, rows=1)
    assert find_cifar(tmp_path / "mine") == tmp_path / "data" / FOLDER
    write_batches(tmp_path / "mine" / FOLDER, rows=1)
    assert find_cifar(tmp_path / "mine") == tmp_path / "mine" / FOLDER


def test_an_archive_is_unpacked_up_to_a_size_and_what_is_missing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cifar._MAX_MEMBER_BYTES == 64 * 1024 * 1024
    checksums = write_batches(tmp_path / "source", rows=1)
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(archive_of(tmp_path / "source"))
    cifar._unpack(archive, tmp_path / "out", checksums)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(checksums)
    for data in (archive.read_bytes()[:-500], b"no archive"):
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises(DataError, match=r"(?s)cannot unpack .*bad: .*Delete it and try again"):
            cifar._unpack(tmp_path / "bad", tmp_path / "out", checksums)
    with pytest.raises(DataError, match=r"cannot unpack .*other.* not found"):
        cifar._unpack(archive, tmp_path / "out", {"other": ""})
    monkeypatch.setattr(cifar, "_MAX_MEMBER_BYTES", 10)
    with pytest.raises(DataError, match=r"batches\.meta is truncated or changed \(10 bytes, md5"):
        cifar._unpack(archive, tmp_path / "out", checksums)
    (tmp_path / "source" / "folder").mkdir()
    archive.write_bytes(archive_of(tmp_path / "source"))
    with pytest.raises(DataError, match=r"folder is truncated or changed \(0 bytes, md5"):
        cifar._unpack(archive, tmp_path / "out", {"folder": ""})
