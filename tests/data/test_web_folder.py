"""A folder of class folders that a web server lists as pages, as Python's own does."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from glasshouse.data import remote_store
from glasshouse.data.listings import list_source
from glasshouse.data.sources import fingerprint, load_splits
from glasshouse.errors import DataError
from glasshouse.settings import DataSettings
from tests.data.image_files import write_folder
from tests.data.servers import serving_folder

fsspec = pytest.importorskip("fsspec", reason="needs the extra remote")
pytest.importorskip("aiohttp", reason="needs the extra remote")
# The client leaves connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore")

SETTINGS = DataSettings(image_size=8)


@pytest.fixture(autouse=True)
def fresh_client() -> Iterator[None]:
    """No client of another test, which would remember its server."""
    client = fsspec.get_filesystem_class("http")
    client.clear_instance_cache()
    yield
    client.clear_instance_cache()


def test_a_folder_on_a_web_server_has_the_images_of_the_folder_and_each_is_fetched_once(
    tmp_path: Path,
) -> None:
    # Names that an address has to escape.
    folder = write_folder(tmp_path / "folder", {"ant": 10, "red bee": 12, "caf\u00e9": 11})
    asked: Counter[tuple[str, str]] = Counter()

    def fetched() -> Counter[str]:
        """How often each image was sent; all else is lists of folders."""
        sent = {path: count for (method, path), count in asked.items() if method == "GET"}
        return Counter({path: count for path, count in sent.items() if path.endswith(".png")})

    with serving_folder(tmp_path, asked) as server:
        there, here = load_splits(f"{server}/folder", SETTINGS), load_splits(folder, SETTINGS)
        first = fetched()
        again = load_splits(f"{server}/folder/", SETTINGS)
    for found in (there, again):
        assert fingerprint(found) == fingerprint(here)
        for name in ("train", "validation", "test"):
            own, local = getattr(found, name), getattr(here, name)
            assert np.array_equal(own.pixels, local.pixels)
            assert own.ids.tolist() == local.ids.tolist()
        assert found.class_names == here.class_names
    assert len(first) == 33 and set(first.values()) == {1}
    # The second time, it was only asked whether anything has changed.
    assert fetched() == first


def test_only_the_file_that_changed_on_a_web_server_is_fetched_again(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", {"ant": 6, "bee": 6})
    asked: Counter[tuple[str, str]] = Counter()
    with serving_folder(folder, asked) as server:
        before = fingerprint(load_splits(server, SETTINGS))
        other = folder / "ant" / "003.png"
        other.write_bytes((folder / "bee" / "000.png").read_bytes())
        # The server tells times in whole seconds, and both files may have one size.
        os.utime(other, (10**9, 10**9))
        asked.clear()
        after = fingerprint(load_splits(server, SETTINGS))
    assert after != before and after == fingerprint(load_splits(folder, SETTINGS))
    assert [path for method, path in asked if method == "GET" and path.endswith(".png")] == [
        "/ant/003.png"
    ]


def test_a_request_that_a_web_server_refuses_for_a_while_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_store, "_FIRST_DELAY_S", 0.0001)
    folder = write_folder(tmp_path / "folder", {"ant": 4, "bee": 4, "cow": 4})
    # The list of a class, and what is asked of a file, by HEAD and then by GET.
    failing = Counter({"/cow/": 2, "/ant/000.png": 5})
    with serving_folder(folder, Counter(), failing) as server:
        there = load_splits(server, SETTINGS)
    assert fingerprint(there) == fingerprint(load_splits(folder, SETTINGS))


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/cow/", 503, "cannot read .*503"),
        ("/cow/", 403, "access was refused: 403"),
        ("/cow/", 404, "does not exist"),
        ("/ant/000.png", 503, "cannot read .*503"),
        ("/ant/000.png", 401, "access was refused: 401"),
        ("/ant/000.png", 410, "does not exist: 410"),
    ],
)
def test_what_a_web_server_does_not_show_is_an_error_that_costs_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, status: int, words: str
) -> None:
    monkeypatch.setattr(remote_store, "_FIRST_DELAY_S", 0.0001)
    folder = write_folder(tmp_path / "folder", {"ant": 4, "bee": 4, "cow": 4})
    asked, failing = Counter[tuple[str, str]](), Counter[str]()
    with serving_folder(folder, asked, failing, status) as server:
        before = list_source(server).ids.tolist()
        failing[path] = 1000
        with pytest.raises(DataError, match=words):
            list_source(server)
        failing.clear()
        asked.clear()
        assert list_source(server).ids.tolist() == before
    assert not [path for method, path in asked if method == "GET" and path.endswith(".png")]


def test_links_of_a_page_to_itself_are_not_followed(tmp_path: Path) -> None:
    page = "<a href='./'>here</a> <a href='../'>up</a> <a href='?C=N/'>by name</a> <a href='ant/'>"
    folder = write_folder(tmp_path / "folder", {"ant": 4})
    (folder / "index.html").write_text(page, encoding="utf-8")
    with serving_folder(folder, Counter()) as server:
        assert len(list_source(server).paths) == 4
