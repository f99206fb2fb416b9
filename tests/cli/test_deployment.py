"""The systemd unit and the Dockerfile of the guide, as far as they can be tried without root."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glasshouse.models.classifier import save_classifier
from glasshouse.serving.service import server
from glasshouse.serving.service.service import Service, make_service
from tests.journeys.command import glasshouse_here
from tests.serving.service.conftest import running
from tests.serving.service.test_models import pets

GUIDE = Path(__file__).parents[2] / "docs" / "serving.md"


def block(language: str) -> str:
    """The only example in this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def unit(key: str) -> str:
    """A setting of the unit."""
    (found,) = re.findall(rf"^{key}=(.*)$", block("ini"), re.MULTILINE)
    return str(found)


def step(word: str) -> str:
    """The arguments of a step of the Dockerfile."""
    (found,) = re.findall(rf"^{word} (.*)$", block("dockerfile"), re.MULTILINE)
    return str(found)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the model that both examples serve; the server itself is not started."""
    save_classifier(pets(0), tmp_path / "pets")
    monkeypatch.setattr(server, "run", lambda *arguments: None)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("GLASSHOUSE_API_KEY", raising=False)
    return tmp_path


def test_the_command_of_the_unit_starts(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / "api-key").write_text("s3cret")
    program, *arguments = shlex.split(unit("ExecStart"))
    assert Path(program).name == "glasshouse"
    for old, new in {"/srv/models": str(models), "%d": str(models), "8000": "0"}.items():
        assert old in " ".join(arguments)
        arguments = [each.replace(old, new) for each in arguments]
    code, output, errors = glasshouse_here(arguments, capsys)
    assert code == 0 and "pets, 3 classes" in output, errors
    assert "anyone who can reach this address" not in errors
    drain = float(arguments[arguments.index("--drain") + 1])
    assert float(unit("TimeoutStopSec")) > drain + server.ShutdownPolicy().grace


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "glasshouse.service"

    def verify(text: str) -> str:
        path.write_text(text.replace("/opt/glasshouse/bin/glasshouse", sys.executable))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(path)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return "".join(line for line in done.stderr.splitlines() if path.name in line)

    assert verify(block("ini")) == ""
    assert "TimeoutStop" in verify(block("ini").replace("TimeoutStopSec", "TimeoutStop"))


def test_the_command_of_the_container_starts(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command: list[str] = json.loads(step("ENTRYPOINT")) + json.loads(step("CMD"))
    assert command[0] == "glasshouse"
    arguments = command[1:]
    for old, new in {"/models": str(models), "8000": "0"}.items():
        arguments = [each.replace(old, new) for each in arguments]
    code, output, errors = glasshouse_here(arguments, capsys)
    assert code == 0 and "pets, 3 classes" in output, errors
    project = (GUIDE.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    python = step("FROM").removeprefix("python:").removesuffix("-slim")
    assert f'requires-python = ">={python}"' in project


def test_the_health_check_of_the_container_sees_whether_the_service_is_ready() -> None:
    service: Service = make_service(pets(0), "pets")
    program = json.loads(step("HEALTHCHECK").removeprefix("CMD "))
    with running(service) as started:
        asked = [sys.executable, *(each.replace("8000", str(started.port)) for each in program[1:])]
        for is_closing, code in ((False, 0), (True, 1)):
            if is_closing:
                service.is_closing.set()
            done = subprocess.run(asked, check=False, timeout=120, capture_output=True)
            assert done.returncode == code, done.stderr
        started.stop()
