"""Files and folders with every kind of name that a file system allows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.journeys.command import COMMAND, LONGEST_S, own_environment

NAMES = {
    "not UTF-8": b"caf\xe9.png",
    "255 bytes": b"x" * 251 + b".png",
    "a newline": b"two\nlines.png",
    "right to left": "\u202ecod.png".encode(),
    "a leading dash": b"--help.png",
    "an escape sequence": b"\x1b[31mred.png",
    "quotes and brackets": b"'\"[*]{}$HOME`.png",
    "spaces around": b"  a .png",
    "emoji": "\U0001f9d1\u200d\U0001f680.png".encode(),
    "a backslash": b"C:\\cat.png",
    "a comma and an equals sign": b"a,b=c;d.png",
    "markup": b"<b>&amp;.png",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, one of them with a name that is not UTF-8, each with every name."""
    root = tmp_path_factory.mktemp("names")
    random = np.random.default_rng(0)
    for number, label in enumerate((b"cat", b"d\xf6g")):
        inside = root / "photos" / os.fsdecode(label)
        inside.mkdir(parents=True)
        for name in NAMES.values():
            pixels = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            pixels[..., number] = 255
            Image.fromarray(pixels).save(root / "made.png")
            (root / "made.png").rename(inside / os.fsdecode(name))
    return root


def run_in(
    encoding: str, folder: Path, *arguments: str | Path
) -> "subprocess.CompletedProcess[str]":
    """Run the command with an output of this encoding."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder, env={**own_environment(folder), "PYTHONIOENCODING": encoding},
        capture_output=True, check=False, encoding="utf-8", errors="replace", timeout=LONGEST_S,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have fewer names")
@pytest.mark.parametrize("encoding", ["ascii", pytest.param("cp1252", marks=pytest.mark.slow)])
def test_every_name_is_read_and_printed_in_any_encoding(folder: Path, encoding: str) -> None:
    found = run_in(encoding, folder, "check", "photos", "--json")
    assert "Traceback" not in found.stderr, found.stderr
    assert json.loads(found.stdout)
    files = [path.relative_to(folder) for path in folder.glob("photos/*/*")]
    answered = run_in(encoding, folder, "predict", "cifar10-small", "--json", "--", *files)
    assert answered.returncode == 0, answered.stderr
    assert len(json.loads(answered.stdout)) == 2 * len(NAMES)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have fewer names")
@pytest.mark.slow
def test_a_network_is_trained_on_files_and_classes_of_every_name(folder: Path) -> None:
    done = run_in(
        "ascii", folder, "train", "photos", "--recipe", "small-cnn", "--epochs", "1",
        "--image-size", "24", "--out", "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    names = json.loads((folder / "run" / "model.json").read_text())["class_names"]
    assert names == ["cat", "d\\xf6g"]
