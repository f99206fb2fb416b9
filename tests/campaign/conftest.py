"""A folder with images, and a server that runs commands in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.forked import Server, server
from tests.campaign.inputs import make_photos


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    make_photos(folder / "photos")
    return folder


@pytest.fixture
def preload() -> Path | None:
    """A library that the commands load first; a module may name one."""
    return None


@pytest.fixture
def forks(work: Path, preload: Path | None) -> Iterator[Server]:
    with server(work, preload) as started:
        yield started
