"""The workbench behind a real notebook server with the real jupyter-server-proxy."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from tests.browser.conftest import free_port, wait_for
from tests.browser.test_hosted import failed_requests, tour
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
