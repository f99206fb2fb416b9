"""The workbench behind a real notebook server with the real jupyter-server-proxy."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from websockets.sync.client import connect

from tests.browser.conftest import (
    click,
    console_errors,
    find,
    free_port,
    read_text,
    wait_for,
)
from tests.browser.test_hosted import failed_requests, is_loaded, tour
from tests.serving.runs import trained_run

pytestmark = pytest.mark.browser
PASSWORD = "a-token-of-the-notebook-server"


@contextlib.contextmanager
def notebook_server(folder: Path) -> Iterator[str]:
    """The address of a notebook server that was started in a folder."""
    port = free_port()
    root = f"http://127.0.0.1:{port}/base/"
    process = subprocess.Popen(
        [
            sys.executable, "-m", "jupyter_server", "--no-browser", f"--port={port}",
            "--ip=127.0.0.1", "--allow-root", "--ServerApp.base_url=/base/",
            f"--IdentityProvider.token={PASSWORD}", "--ServerApp.jpserver_extensions="
            "{'jupyter_server_proxy': True}",
        ],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(folder)},
    )  # fmt: skip
    try:
        wait_for(lambda: is_up(root), "the notebook server", 120)
        yield root
    finally:
        process.terminate()
        process.wait(60)


def is_up(root: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{root}api").status_code == 200
    return False


def test_it_trains_and_explains_behind_a_notebook_server(
    chromium: WebDriver, tmp_path: Path
) -> None:
    trained_run(tmp_path / "runs" / "sub" / "earlier")
    with notebook_server(tmp_path) as root:
        tiles = httpx.get(f"{root}server-proxy/servers-info?token={PASSWORD}", timeout=60).json()
        (tile,) = (each for each in tiles["server_processes"] if each["name"] == "glasshouse")
        assert tile["launcher_entry"]["title"] == "Glasshouse"
        icon = httpx.get(f"{root}server-proxy/icon/glasshouse?token={PASSWORD}")
        assert icon.text.startswith("<svg")
        # Who has no business there is asked for a password, and sees nothing of the workbench.
        stranger = httpx.get(f"{root}glasshouse/", follow_redirects=True)
        assert "Glasshouse" not in stranger.text
        chromium.get(f"{root}api/status?token={PASSWORD}")
        failed_requests(chromium)
        chromium.get(f"{root}glasshouse/")
        tour(chromium, f"{root}glasshouse/")
        assert failed_requests(chromium) == []
        chromium.get("about:blank")


def run_cell(root: str, code: str) -> tuple[str, str]:
    """Run code in a new kernel of the notebook server: its id, and the HTML that it shows."""
    headers = {"Authorization": f"token {PASSWORD}"}
    kernel = httpx.post(f"{root}api/kernels", headers=headers, timeout=120).json()["id"]
    message = {
        "header": {"msg_id": "1", "msg_type": "execute_request", "username": "", "session": "s",
                   "version": "5.3"},
        "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
        "content": {"code": code, "silent": False, "store_history": False,
                    "user_expressions": {}, "allow_stdin": False, "stop_on_error": True},
    }  # fmt: skip
    address = root.replace("http", "ws", 1) + f"api/kernels/{kernel}/channels"
    with connect(address, additional_headers=headers, max_size=None) as channel:
        channel.send(json.dumps(message))
        while True:
            found = json.loads(channel.recv(300))
            content = found["content"]
            assert found["msg_type"] != "error", content
            if "text/html" in content.get("data", {}):
                return kernel, content["data"]["text/html"]


@pytest.mark.slow
def test_a_cell_shows_the_workbench_until_its_kernel_ends(
    chromium: WebDriver, tmp_path: Path
) -> None:
    trained_run(tmp_path / "runs" / "sub" / "earlier")
    with notebook_server(tmp_path) as root:
        code = "import glasshouse as gh; gh.ui('runs')"
        kernel, shown = run_cell(root, code)
        assert f"/base/proxy/{port_of(shown)}/?token=" in shown
        # Any page of the notebook server stands for the notebook.
        chromium.get(f"{root}no-such-page?token={PASSWORD}")
        failed_requests(chromium)
        console_errors(chromium)
        chromium.execute_script("document.body.innerHTML = arguments[0]", shown)
        chromium.switch_to.frame(0)
        assert read_text(chromium, "a.gh-run") == "sub/earlier"
        click(lambda: find(chromium, "a.gh-run"))
        wait_for(lambda: is_loaded(chromium, ".gh-mistakes img"), "images of mistakes")
        assert failed_requests(chromium) == []
        chromium.switch_to.default_content()
        chromium.get("about:blank")
        with socket.create_connection(("127.0.0.1", port_of(shown)), timeout=60):
            pass
        headers = {"Authorization": f"token {PASSWORD}"}
        httpx.delete(f"{root}api/kernels/{kernel}", headers=headers, timeout=120)
        wait_for(lambda: is_closed(port_of(shown)), "the end of the workbench")


def port_of(shown: str) -> int:
    found = re.search(r"/proxy/(\d+)/", shown)
    assert found is not None, shown
    return int(found[1])


def is_closed(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) != 0
