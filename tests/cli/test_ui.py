"""What the options of `ui` and the variables of hosts become; no server is started."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from glasshouse.cli import ui
from glasshouse.serving.reach import Reach
from glasshouse.serving.workbench import Workbench
from tests.journeys.command import glasshouse_here

SECRET = "a+secret&of#some%length"


@dataclass(frozen=True)
class Started:
    """What the command would have run, and what it printed."""

    workbench: Workbench
    reach: Reach
    host: str
    port: int
    printed: str


@pytest.fixture
def start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """A function that runs the command up to the point where it would listen."""
    for name in ("CDSW_APP_PORT", "CDSW_READONLY_PORT", "CDSW_DOMAIN", "DATABRICKS_APP_PORT",
                 "JUPYTERHUB_SERVICE_PREFIX", "GLASSHOUSE_TOKEN"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    started: list[tuple[Workbench, Reach, str, int]] = []
    monkeypatch.setattr(ui, "_run", lambda *given: started.append(given))
    monkeypatch.setattr(ui, "_require_free", lambda host, port: None)

    def run(*options: str, **environment: str) -> Started:
        with monkeypatch.context() as context:
            for name, value in environment.items():
                context.setenv(name, value)
            command = ["ui", str(tmp_path), "--no-browser", *options]
            code, printed, errors = glasshouse_here(command, capsys)
        assert code == 0, errors
        return Started(*started.pop(), printed)

    return run


def test_only_this_machine_can_connect_by_default(start: Any) -> None:
    found = start()
    assert (found.host, found.reach) == ("127.0.0.1", Reach())
    assert not found.workbench.offline and not found.workbench.read_only


def test_other_machines_need_a_token_unless_it_is_waived(start: Any) -> None:
    asked, given = start("--host", "0.0.0.0"), start("--host", "0.0.0.0", "--token", SECRET)
    assert asked.reach.token and asked.reach.token != start("--host", "0.0.0.0").reach.token
    assert given.reach.token == SECRET
    assert start("--host", "0.0.0.0", "--no-token").reach.token is None
    assert start(GLASSHOUSE_TOKEN=SECRET).reach.token == SECRET


def test_the_printed_link_holds_the_token_whatever_is_in_it(start: Any) -> None:
    link = start("--token", SECRET).printed.split()[0]
    assert parse_qs(urlsplit(link).query) == {"token": [SECRET]}


def test_a_hub_has_a_token_and_may_show_it_in_a_frame(start: Any) -> None:
    found = start(JUPYTERHUB_SERVICE_PREFIX="/user/me/")
    assert found.reach.token and "*" in found.reach.hosts and found.reach.frames == ("'self'",)
    assert f"/user/me/proxy/{found.port}/?token=" in found.printed
    named = start("--no-token", "--allow-host", "hub.example", JUPYTERHUB_SERVICE_PREFIX="/user/me")
    assert named.reach.token is None
    assert "*" not in named.reach.hosts and "hub.example" in named.reach.hosts


def test_databricks_gets_its_port_and_a_token(start: Any) -> None:
    found = start(DATABRICKS_APP_PORT="8123")
    assert (found.host, found.port) == ("0.0.0.0", 8123)
    assert found.reach.token and "*.databricksapps.com" in found.reach.hosts


def test_the_port_for_viewers_is_read_only(start: Any) -> None:
    both = {"CDSW_APP_PORT": "8090", "CDSW_READONLY_PORT": "8100", "CDSW_DOMAIN": "ml.example"}
    owner, viewer = start(**both), start("--read-only", **both)
    assert (owner.port, owner.workbench.read_only) == (8090, False)
    assert (viewer.port, viewer.workbench.read_only) == (8100, True)
    assert start(CDSW_READONLY_PORT="8100").workbench.read_only
    assert "*.ml.example" in owner.reach.hosts and owner.reach.token is None


def test_a_read_only_workbench_downloads_nothing(start: Any) -> None:
    assert start("--read-only").workbench.offline


def test_frames_prefix_and_websockets_are_passed_on(start: Any) -> None:
    found = start("--frame-host", "page.example", "--root-path", "apps/x/", "--no-websockets")
    assert found.reach.frames == ("page.example:*",)
    assert found.reach.root_paths == ("/apps/x",)
    assert found.reach.websockets is False


def test_a_folder_that_is_not_there_is_named(
    start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ["ui", str(tmp_path / "rns"), "--no-browser"]
    code, _, errors = glasshouse_here(missing, capsys)
    assert code == 0 and "rns does not exist yet: the first training makes it" in errors
    monkeypatch.chdir(tmp_path)
    assert glasshouse_here(["ui", "--no-browser"], capsys)[2] == ""
