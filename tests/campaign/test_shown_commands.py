"""Every command that README and documentation show runs, on a few small images.

A command runs as it is shown, but for the changes in STAND_INS and SHORTER: names that a page
leaves open get a value, and what would take hours is shortened. Commands of one page run in its
order, and use the results of those before.
"""

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import glasshouse as gh
from glasshouse.models.pretrained import build_net, find_model
from tests.architecture.test_shown_commands import PAGES, ROOT, shown_commands
from tests.campaign.forked import Job, Server, server
from tests.campaign.inputs import FAST, make_photos
from tests.data.shard_files import images_below, write_parquet, write_tar
from tests.journeys.command import COMMAND, LONGEST_S, own_environment

PHOTO = Path(gh.__file__).parent / "assets" / "photos" / "chelsea.png"
PORT = "18767"
STAND_INS = {
    r"^(\S+) MODEL\b": r"\1 cifar10-small",
    r"^(\S+) RUN\b": r"\1 runs/a",
    r"^(\S+) SOURCE\b": r"\1 photos/",
    r"^serve runs/shapes$": "serve runs/a",
    # CIFAR-10 itself is no part of the tests.
    r"^(train|ladder|lr-find) cifar10\b": r"\1 digits",
    # Nor is a network: tests/data/test_s3.py reads from a server.
    r" (s3://bucket/flowers|hf://datasets/OWNER/NAME)(?= |$)": " photos/",
    # A cluster is started in tests/cluster.
    r" --on (ray|FIRST:6379)$": "",
    r"s3://bucket/shards/train-\{000\.\.099\}": "shards/train-{000..001}",
}
SHORTER = {
    r"--minutes 5\b": "--minutes 1",
    r"--trials \d+": "--trials 2",
    r"--seeds \d+": "--seeds 2",
    r"--epochs \d+": "--epochs 1",
    r"train\.epochs=\d+": "train.epochs=1",
    r"--snapshots \d+": "--snapshots 1",
    r"--set data.train_limit=\d+ ": "",
    r"^(train shapes .*)$": r"\1 --set data.train_limit=100",
    r"^((train|tune|lr-find) photos/(?!.*(image.size|recipe transfer)).*)$": (
        r"\1 --set data.image_size=32"
    ),
    r"^(ladder digits --image-size 32)$": r"\1 --epochs 1 --seeds 1 --set data.train_limit=100",
    r"^(train (?!.*(--epochs|--minutes|--recipe transfer|train\.epochs)).*|tune .*)$": (
        r"\1 --epochs 1"
    ),
}
NETS = """
from torch import nn

def small_net(num_classes=4):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, num_classes),
    )
"""
# Their steps run in tests/journeys/test_keras_page.py.
OTHERS = {"keras.md"}
SHOWN = {
    page.name: shown_commands(page.read_text(encoding="utf-8"))
    for page in PAGES
    if page.name not in OTHERS
}


def small(command: str) -> list[str]:
    """The words of a command as it is shown, with stand-ins, and shorter."""
    for pattern, instead in {**STAND_INS, **SHORTER}.items():
        command = re.sub(pattern, instead, command)
    return shlex.split(command)


def make_own_network(folder: Path) -> None:
    """What the page on own networks names: code, weights of it, and the names of its classes."""
    (folder / "nets.py").write_text(NETS)
    (folder / "classes.txt").write_text("north\neast\nsouth\nwest\n")
    names: dict[str, Any] = {}
    exec(NETS, names)
    torch.save(names["small_net"]().state_dict(), folder / "weights.pth")


def make_table(folder: Path) -> None:
    """A table of the photos with several labels each, as the page on labels shows it."""
    paths = sorted(path.relative_to(folder) for path in (folder / "photos").rglob("*.png"))
    rows = [f"{path},{path.parent.name}{'|odd' * (row % 2)}" for row, path in enumerate(paths)]
    (folder / "photos.csv").write_text("\n".join(["path,labels", *rows, ""]))


def make_shards(folder: Path) -> None:
    """The photos in a Parquet file and in two tars, as the page on remote data names them."""
    images = images_below(folder / "photos")
    labels = [name.partition("/")[0] for name in images]
    write_parquet(folder / "flowers.parquet", images, labels, None)
    for number in range(2):
        part = dict(list(images.items())[number::2])
        write_tar(folder / "shards" / f"train-{number:03d}.tar", part)


def random_weights(name: str) -> dict[str, torch.Tensor]:
    return build_net(name, 1000, {}, seed=0).state_dict()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages take for granted; weights are random."""
    folder = tmp_path_factory.mktemp("shown")
    make_photos(folder / "photos")
    make_table(folder)
    make_shards(folder)
    make_own_network(folder)
    for name in ("new.jpg", "horse.jpg", "photo.jpg", "photo.png", "one.jpg", "two.png"):
        Image.open(PHOTO).convert("RGB").save(folder / name)
    checkpoints = folder / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name in ("resnet18", "resnet50", "mobilenet_v2"):
        url = find_model(name).weights_url
        assert url is not None
        torch.save(random_weights(name), checkpoints / Path(url).name)
    save_file(random_weights("mobilenetv2_100"), folder / "mobilenet.safetensors")
    save_file(random_weights("mobilenet_v2"), folder / "file.safetensors")
    with server(folder) as forks:
        recipe = forks.run(Job(["recipes", "small-cnn"], str(folder))).output
        (folder / "mine.toml").write_text(recipe)
        for name, seed in (("a", "0"), ("b", "1")):
            command = ["train", "photos/", "--recipe", "small-cnn", "--epochs", "1", *FAST]
            more = ["--set", f"train.seed={seed}", "--out", f"runs/{name}"]
            done = forks.run(Job([*command, *more], str(folder)))
            assert done.code == 0, done.errors
    return folder


@pytest.fixture
def work(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "work", symlinks=True))


@pytest.fixture
def forks(work: Path) -> Iterator[Server]:
    with server(work, TORCH_HOME=str(work / "torch")) as started:
        yield started


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", [name for name, found in SHOWN.items() if found])
def test_every_command_shown_runs(
    page: str, work: Path, forks: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    for shown in SHOWN[page]:
        words = small(shown)
        if words[0] in ("ui", "serve"):
            start_and_stop(words, work, curl=page == "serving.md")
            continue
        done = forks.run(Job(words, str(work), kill_after=LONGEST_S))
        assert done.code == 0, f"{shown}\n{shlex.join(words)}\n{done.errors}"
        assert "Traceback" not in done.errors, shown
    with capsys.disabled():
        print(f"\n  {page}: {len(SHOWN[page])} commands")


def start_and_stop(words: list[str], work: Path, *, curl: bool) -> None:
    """Start a server as it is shown, use it with the page's own curl, and stop it."""
    more = ["--port", PORT, *(["--no-browser"] if words[0] == "ui" else [])]
    environment = {**own_environment(work), "TORCH_HOME": str(work / "torch")}
    process = subprocess.Popen(
        [*COMMAND, *words, *more], cwd=work, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.readline()
    assert PORT in said, said + process.stdout.read()
    try:
        calls = [["curl", f"http://127.0.0.1:{PORT}/"]]
        for call in calls + (shown_calls() if curl and shutil.which("curl") else []):
            retry = ["--retry", "60", "--retry-connrefused", "--retry-delay", "1"]
            done = subprocess.run(
                [*call, "--silent", "--fail", *retry], cwd=work, capture_output=True, check=False
            )
            assert done.returncode == 0, f"{call}: {done.returncode}"
            assert done.stdout
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def shown_calls() -> list[list[str]]:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    calls = re.findall(r"^curl .*$", text, re.MULTILINE)
    assert calls
    return [shlex.split(call.replace(":8000", f":{PORT}")) for call in calls]


def test_commands_are_shortened_but_stay_the_same_otherwise() -> None:
    assert small("explain MODEL photo.jpg") == ["explain", "cifar10-small", "photo.jpg"]
    assert small("train cifar10 --minutes 5") == ["train", "digits", "--minutes", "1"]
    short = ["--set", "data.image_size=32", "--epochs", "1"]
    assert small("train photos/ --seeds 5") == ["train", "photos/", "--seeds", "2", *short]
    assert small("check s3://bucket/flowers") == ["check", "photos/"]
    on_cluster = small("train s3://bucket/flowers --seeds 5 --on FIRST:6379")
    assert on_cluster == ["train", "photos/", "--seeds", "2", *short]
    shards = small("train 's3://bucket/shards/train-{000..099}.tar'")
    assert shards == ["train", "shards/train-{000..001}.tar", "--epochs", "1"]
    assert small("check photos/ --out check/") == ["check", "photos/", "--out", "check/"]
