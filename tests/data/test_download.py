import hashlib
from pathlib import Path

import numpy as np
import pytest

from glasshouse.data.download import download
from glasshouse.errors import DataError
from tests.data.servers import Files, serving

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


def test_a_file_arrives_whole(tmp_path: Path) -> None:
    with serving(Files({"/file": CONTENT})) as address:
        download(f"{address}/file", tmp_path / "deep" / "file", md5=MD5)
    assert (tmp_path / "deep" / "file").read_bytes() == CONTENT
    assert not (tmp_path / "deep" / "file.part").exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_what_breaks_off_is_gone_on_with(tmp_path: Path, ranges: bool) -> None:
    files = Files({"/file": CONTENT}, breaks=2, ranges=ranges)
    with serving(files) as address:
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert files.asked[:2] == ["", "bytes=150000-"]


def test_what_an_earlier_try_left_is_completed(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:200_000])
    files = Files({"/file": CONTENT})
    with serving(files) as address:
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert files.asked == ["bytes=200000-"]


def test_a_part_that_is_whole_already_is_only_checked(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    with serving(Files({"/file": CONTENT})) as address:
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_the_wrong_file_is_refused_and_not_kept(tmp_path: Path) -> None:
    with (
        serving(Files({"/file": CONTENT[::-1]})) as address,
        pytest.raises(DataError, match="is not the expected file: md5"),
    ):
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_keeps_failing_keeps_the_part(tmp_path: Path) -> None:
    files = Files({"/file": CONTENT}, breaks=99)
    with (
        serving(files) as address,
        pytest.raises(DataError, match=r"broke off.*file\.part.*next try"),
    ):
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert len(files.asked) == 5
    kept = (tmp_path / "file.part").read_bytes()
    assert 0 < len(kept) < len(CONTENT)
    assert CONTENT.startswith(kept)


def test_a_file_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    files = Files({})
    with serving(files) as address, pytest.raises(DataError, match="answered 404"):
        download(f"{address}/file", tmp_path / "file", md5=MD5)
    assert len(files.asked) == 1
