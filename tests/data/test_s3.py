"""A folder in an S3 bucket, with the real client and moto's server on this machine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glasshouse.data import remote_store
from glasshouse.data.sources import fingerprint, load_splits
from glasshouse.errors import DataError
from glasshouse.settings import DataSettings
from glasshouse.storage import cache_folder
from tests.data.image_files import write_folder
from tests.data.s3_server import Flaky, s3_server
from tests.data.shard_files import images_below
from tests.journeys.command import glasshouse_here

pytest.importorskip("moto", reason="needs moto")
s3fs = pytest.importorskip("s3fs", reason="needs the extra remote")
# The client and the server leave connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore")

SECRET, NAME = "hush-hush-hush-hush", "AKIAHUSHHUSHHUSH"
SETTINGS = DataSettings(image_size=8)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", NAME)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setattr(remote_store, "_FIRST_DELAY_S", 0.01)
    s3fs.S3FileSystem.clear_instance_cache()
    with s3_server() as (url, app):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield app
    s3fs.S3FileSystem.clear_instance_cache()


def upload(folder: Path, bucket: str) -> None:
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    for name, data in images_below(folder).items():
        client.put_object(Bucket=bucket, Key=f"v1/{name}", Body=data)


def test_a_bucket_gives_the_bytes_of_the_folder_although_requests_fail(
    server: Flaky, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "folder", {"ant": 30, "bee": 25})
    upload(folder, "flowers")
    server.share = 0.1
    found = load_splits("s3://flowers/v1", SETTINGS)
    assert fingerprint(found) == fingerprint(load_splits(folder, SETTINGS))
    assert server.failed > 0
    assert set(server.served.values()) == {1}
    load_splits("s3://flowers/v1", SETTINGS)
    assert set(server.served.values()) == {1}
    for path in cache_folder().rglob("*"):
        assert path.is_dir() or b"hush" not in path.read_bytes().lower()


def test_an_object_that_changed_is_read_again(server: Flaky, tmp_path: Path) -> None:
    import boto3

    # The server keeps its buckets for as long as the process runs, so each test has its own.
    folder = write_folder(tmp_path / "folder", {"ant": 5, "bee": 5})
    upload(folder, "changing")
    before = fingerprint(load_splits("s3://changing/v1", SETTINGS))
    other = min((folder / "ant").iterdir())
    other.write_bytes(min((folder / "bee").iterdir()).read_bytes())
    key = f"v1/ant/{other.name}"
    boto3.client("s3").put_object(Bucket="changing", Key=key, Body=other.read_bytes())
    after = fingerprint(load_splits("s3://changing/v1", SETTINGS))
    assert after != before
    assert after == fingerprint(load_splits(folder, SETTINGS))
    assert server.served[f"/changing/{key}"] == 2
    assert sum(server.served.values()) == 11


def test_what_is_wrong_with_a_bucket_is_said(
    server: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"s3://nowhere/x does not exist.*bucket"):
        load_splits("s3://nowhere/x", SETTINGS)
    server.refuses = True
    with pytest.raises(DataError, match=r"access was refused"):
        load_splits("s3://nowhere/x", SETTINGS)
    server.refuses = False
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(DataError, match=r"no usable credentials.*AWS_PROFILE"):
        load_splits("s3://nowhere/x", SETTINGS)


SHORT = ["--recipe", "small-cnn", "--epochs", "1", "--image-size", "8", "--device", "cpu"]


def test_no_file_of_a_training_from_a_bucket_holds_its_keys(
    server: Flaky, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(write_folder(tmp_path / "folder", {"ant": 12, "bee": 12}), "trained")
    run = tmp_path / "run"
    code, output, errors = glasshouse_here(
        ["train", "s3://trained/v1", *SHORT, "--snapshots", "1", "--out", str(run)], capsys
    )
    assert code == 0, errors
    written = [path for place in (run, cache_folder()) for path in place.rglob("*")]
    contents = {path: path.read_bytes() for path in written if path.is_file()}
    # What says where the images are from says so without keys.
    assert b"s3://trained/v1" in contents[run / "environment.json"]
    assert run / "report.html" in contents and run / "model.safetensors" in contents
    assert sum(path.suffix == ".png" and path.is_relative_to(cache_folder()) for path in contents)
    for key in (SECRET, NAME):
        assert key not in output + errors
        assert not [path for path, data in contents.items() if key.encode() in data]


def without_credentials(server: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


def without_bucket(server: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    pass


def with_one_hidden(server: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    server.hidden = "bee/002.png"


@pytest.mark.parametrize(
    ("address", "prepare", "words"),
    [
        ("s3://closed/v1", without_credentials, "no usable credentials were found. Set AWS_ACCESS"),
        ("s3://no-such-bucket/v1", without_bucket, "s3://no-such-bucket/v1 does not exist: "),
        ("s3://closed/v1", with_one_hidden, "s3://closed/v1: access was refused: "),
    ],
)
def test_a_training_that_cannot_read_its_bucket_says_why_and_leaves_no_run(
    address: str,
    prepare: Callable[[Flaky, pytest.MonkeyPatch], None],
    words: str,
    server: Flaky,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    upload(write_folder(tmp_path / "folder", {"ant": 3, "bee": 3}), "closed")
    prepare(server, monkeypatch)
    monkeypatch.chdir(tmp_path)
    for place in (["--out", "named"], []):
        code, output, errors = glasshouse_here(["train", address, *SHORT, *place], capsys)
        assert (code, output) == (3, ""), errors
        assert words in errors
        assert SECRET not in errors and NAME not in errors
    assert not Path("named").exists()
    assert not list(Path("runs").glob("*"))
