"""`gh.ui()`: where the browser of a notebook finds the workbench, and how it is shown."""

import signal
import subprocess
import sys
import time
import types
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import glasshouse as gh
from glasshouse.errors import UsageError
from glasshouse.serving import notebook_place as places
from glasshouse.serving.inline_workbench import InlineWorkbench
from glasshouse.serving.notebook_place import NotebookPlace, notebook_place
from tests.journeys.command import LONGEST_S, own_environment

SELF = ("--allow-host", "*", "--frame-host", "self")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The packages that this kernel seems to have."""
    found = {"jupyter_server", "jupyter_server_proxy"}
    monkeypatch.setattr(places, "find_spec", lambda name: name if name in found else None)
    return found


def servers(monkeypatch: pytest.MonkeyPatch, *running: Mapping[str, Any]) -> None:
    module = types.SimpleNamespace(list_running_servers=lambda: iter(running))
    monkeypatch.setattr(places, "import_module", lambda name: module)


def test_a_notebook_server_passes_it_on_below_its_own_address(
    installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers(monkeypatch, {"pid": 7, "base_url": "/x/"}, {"pid": 8, "base_url": "/lab/me/"})
    found = notebook_place(5000, {"JPY_PARENT_PID": "8"})
    assert found == NotebookPlace("/lab/me/proxy/5000/", SELF, is_shared=True)
    found = notebook_place(5000, {"JUPYTERHUB_SERVICE_PREFIX": "/user/me/"})
    assert found == NotebookPlace("/user/me/proxy/5000/", SELF, is_shared=True)
    local = ("--frame-host", "127.0.0.1", "--frame-host", "localhost")
    for environment in ({"JPY_PARENT_PID": "9"}, {}):
        found = notebook_place(5000, environment)
        assert found == NotebookPlace("http://127.0.0.1:5000/", local)
    installed.remove("jupyter_server_proxy")
    found = notebook_place(5000, {"JPY_PARENT_PID": "8"})
    assert found == NotebookPlace("http://127.0.0.1:5000/", local)
    with pytest.raises(UsageError, match=r"glasshouse\[jupyter\]"):
        notebook_place(5000, {"JUPYTERHUB_SERVICE_PREFIX": "/user/me/"})


def test_a_server_whose_description_cannot_be_read_is_none(
    installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> Any:
        def list_running_servers() -> Any:
            raise PermissionError(name)

        return types.SimpleNamespace(list_running_servers=list_running_servers)

    monkeypatch.setattr(places, "import_module", refuse)
    assert notebook_place(5000, {"JPY_PARENT_PID": "8"}).address == "http://127.0.0.1:5000/"


def test_colab_and_databricks_have_proxies_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def eval_js(code: str) -> str:
        asked.append(code)
        return "https://5000-m-s-abc.europe-west4-0.prod.colab.dev"

    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(
        places, "import_module", lambda name: types.SimpleNamespace(eval_js=eval_js)
    )
    found = notebook_place(5000, {})
    assert asked == ["google.colab.kernel.proxyPort(5000)"]
    assert found.address == "https://5000-m-s-abc.europe-west4-0.prod.colab.dev/"
    assert "--no-websockets" in found.options and not found.is_shared
    assert found.options.count("--frame-host") == 2
    host = found.options.index("--allow-host") + 1
    assert found.options[host] == "5000-m-s-abc.europe-west4-0.prod.colab.dev"
    monkeypatch.delitem(sys.modules, "google.colab")
    tags = "spark.databricks.clusterUsageTags"
    settings = {
        f"{tags}.clusterOwnerOrgId": "12", f"{tags}.clusterId": "c-3",
        "spark.databricks.workspaceUrl": "adb-12.7.azuredatabricks.net",
    }  # fmt: skip
    session = types.SimpleNamespace(conf=settings)
    spark = types.SimpleNamespace(getActiveSession=lambda: session)
    monkeypatch.setattr(
        places, "import_module", lambda name: types.SimpleNamespace(SparkSession=spark)
    )
    found = notebook_place(5000, {"DATABRICKS_RUNTIME_VERSION": "16.4"})
    assert found.address == "https://adb-12.7.azuredatabricks.net/driver-proxy/o/12/c-3/5000/"
    assert found.is_shared and "adb-12.7.azuredatabricks.net" in found.options


def test_where_no_page_reaches_a_port_there_is_a_link_or_advice() -> None:
    assert not notebook_place(5000, {"VSCODE_PID": "1"}).is_framed
    with pytest.raises(UsageError, match=r"gh\.show"):
        notebook_place(5000, {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"})


def test_a_cell_shows_a_frame_or_a_link() -> None:
    shown = InlineWorkbench("/base/proxy/1/?token=a&b=<", True, 300)._repr_html_()
    assert 'src="/base/proxy/1/?token=a&amp;b=&lt;"' in shown and 'height="300"' in shown
    assert "<iframe" not in InlineWorkbench("http://127.0.0.1:1/", False)._repr_html_()
    assert str(InlineWorkbench("http://127.0.0.1:1/", False)) == "http://127.0.0.1:1/"


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="is a file"):
        gh.ui(tmp_path / "runs")


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_process_that_asked_for_it(tmp_path: Path, end: signal.Signals) -> None:
    code = (
        "import glasshouse as gh, time; found = gh.ui('runs'); assert gh.ui('runs') == found; "
        "print(found, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=own_environment(tmp_path),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert urllib.request.urlopen(address, timeout=LONGEST_S).status == 200
    process.send_signal(end)
    process.communicate(timeout=LONGEST_S)
    with pytest.raises(OSError):
        for _ in range(LONGEST_S * 10):
            urllib.request.urlopen(address, timeout=LONGEST_S)
            time.sleep(0.1)
