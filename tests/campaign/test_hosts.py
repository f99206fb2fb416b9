"""No command contacts another host unless it was asked for something that is on one.

An audit hook in every Python process of a command, its children included, records each address
that is looked up or connected to.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.campaign.inputs import FAST, FEATURES, TRAIN, make_photos
from tests.journeys.command import COMMAND, own_environment

HOOK = """
import os, sys

def _record(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else ""
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host and host not in ("127.0.0.1", "localhost", "::1", "0.0.0.0"):
        line = f"{event} {host} {' '.join(sys.argv)}\\n"
        with open(os.environ["CONTACTS"], "a") as file:
            file.write(line)

sys.addaudithook(_record)
"""

# In this order, since later ones use the results of earlier ones. SHORT: as short as it gets.
SHORT = [*TRAIN[2:4], "--epochs", "1", *FAST]
COMMANDS: dict[str, list[str]] = {
    "train": ["train", "digits", *SHORT, "--out", "run"],
    "train again": ["train", "digits", *SHORT, "--set", "train.seed=1", "--out", "other"],
    "features": ["train", "photos", *FEATURES, *FAST, "--out", "features"],
    "seeds": ["train", "photos", *SHORT, "--seeds", "2", "--out", "seeds"],
    "check": ["check", "photos"],
    "evaluate": ["evaluate", "features", "--on", "photos"],
    "predict": ["predict", "cifar10-small", "photos/north-west"],
    "explain": ["explain", "cifar10-small", "photos/north-west/000.png", "--out", "why"],
    "mistakes": ["explain", "run", "--errors"],
    "compare": ["compare", "run", "other"],
    "reproduce": ["reproduce", "run"],
    "shortcuts": ["shortcuts", "features", "--images", "20"],
    "groups": ["groups", "features"],
    "map": ["map", "features"],
    "lr-find": ["lr-find", "digits", *TRAIN[2:4]],
    "ladder": ["ladder", "digits", "--image-size", "12", "--epochs", "1", "--seeds", "1", *FAST],
    "tune": ["tune", "digits", *SHORT, "--search", "train.lr=1e-3..1e-2:log", "--trials", "2"],
    "folds": ["folds", "photos", *FEATURES, "--folds", "2"],
    "label-errors": ["label-errors", "photos", *FEATURES, "--folds", "2"],
    "compare-backbones": [
        "compare-backbones", "photos", "--backbones",
        "resnet10t:weights=none,input_size=32,cifar10-small", *FAST,
    ],
    "models": ["models", "resnet18*"],
    "recipes": ["recipes"],
    "summary": ["summary", "run"],
    "runs": ["runs", "."],
    "export": ["export", "run", "--out", "run.onnx"],
}  # fmt: skip
SERVERS = {"ui": ["ui", ".", "--no-browser"], "serve": ["serve", "cifar10-small"]}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hosts")
    make_photos(folder / "photos")
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(HOOK)
    return folder


def watched(work: Path) -> dict[str, str]:
    """An environment with the hook, and a proxy that a library would have to look up."""
    contacts = str(work / "contacts")
    return {**own_environment(work), "PYTHONPATH": str(work / "hook"), "CONTACTS": contacts}


def contacts(work: Path) -> str:
    found = work / "contacts"
    words = found.read_text() if found.exists() else ""
    found.unlink(missing_ok=True)
    return words


def test_the_hook_notices_a_lookup_and_a_connection(work: Path) -> None:
    code = "import socket, contextlib\nwith contextlib.suppress(OSError): "
    for call, host in (
        ("socket.getaddrinfo('files.invalid', 443)", "files.invalid"),
        ("socket.create_connection(('192.0.2.1', 443), timeout=0.01)", "192.0.2.1"),
    ):
        command = [COMMAND[0], "-c", code + call]
        subprocess.run(command, env=watched(work), check=True, timeout=60)
        assert host in contacts(work)


@pytest.mark.slow
def test_what_is_downloaded_is_noticed_and_refused_offline(work: Path) -> None:
    for more, noticed in ([], True), (["--offline"], False):
        arguments = ["predict", "resnet18d", "photos/north-west/000.png", *more]
        environment = {**watched(work), "HF_HOME": str(work / "empty")}
        # A proxy that is not there, so that nothing leaves this machine in a test.
        environment |= {
            "https_proxy": "http://proxy.invalid:9",
            "HTTPS_PROXY": "http://proxy.invalid:9",
        }
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=work, env=environment, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode != 0 and "Traceback" not in done.stderr
        assert ("proxy.invalid" in contacts(work)) == noticed, done.stderr


def run_watched(work: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=work, env=watched(work), capture_output=True, text=True,
        check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert contacts(work) == ""


def test_a_prediction_contacts_nobody(work: Path) -> None:
    run_watched(work, COMMANDS["predict"])


@pytest.mark.slow
def test_no_command_contacts_anybody(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in COMMANDS.values():
        run_watched(work, arguments)
    for arguments in SERVERS.values():
        serve_watched(work, arguments)
    with capsys.disabled():
        print(f"\n  {len(COMMANDS) + len(SERVERS)} commands, no host contacted")


def serve_watched(work: Path, arguments: list[str]) -> None:
    port = "18765"
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--port", port], cwd=work, env=watched(work),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert "127.0.0.1" in process.stdout.readline()
    deadline = time.monotonic() + 60
    code = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/', timeout=60).read()"
    while subprocess.run([COMMAND[0], "-c", code], capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert contacts(work) == ""


def test_every_command_is_in_the_table() -> None:
    from typer.main import get_command

    from glasshouse.cli.main import app

    names = set(get_command(app).commands)  # type: ignore[attr-defined]
    used = {arguments[0] for arguments in (*COMMANDS.values(), *SERVERS.values())}
    # The tour has a test of its own, which takes a minute; the cache has no need of a network.
    assert names - used <= {"tour", "cache"}
