"""A workbench in its own process, and a headless Chromium that can reach nothing else."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1440,900",
    # Every other host name is unknown.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
# A moving picture in place of a camera, which pages may use without asking.
FAKE_WEBCAM = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
WIDTHS = (390, 768, 1440)


class StartWorkbench(Protocol):
    """Starts a workbench with these options; returns its address, without a slash at the end."""

    def __call__(self, runs: Path, *options: str) -> str: ...


Answer = TypeVar("Answer")


@pytest.fixture
def start_workbench() -> Iterator[StartWorkbench]:
    """Start `glasshouse ui` on a folder of runs; returns the address, stops it after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(runs: Path, *options: str) -> str:
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "glasshouse",
            "ui",
            str(runs),
            "--no-browser",
            "--offline",
            *options,
        ]
        started.append(subprocess.Popen([*command, "--port", str(port)], env={**os.environ}))
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: _answers(address), "the workbench to respond")
        return address

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)


@pytest.fixture
def chromium(
    request: pytest.FixtureRequest, tmp_path: Path, start_workbench: StartWorkbench
) -> Iterator[WebDriver]:
    """A fresh browser; afterwards its console must have no errors and its log no other host.

    An indirect parameter adds flags of the command line, such as FAKE_WEBCAM.
    Asks for start_workbench only to end before it does: a page whose workbench has stopped reports
    lost connections.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, *getattr(request, "param", ()), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
        # Only after a passed test: the failure of the test itself says more.
        assert console_errors(browser) == []
        assert hosts_contacted(browser) <= {"127.0.0.1"}
    finally:
        browser.quit()


def wait_for(happens: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    """Poll until the result is true, and return it."""
    end = time.monotonic() + seconds
    while True:
        answer = None
        # The page may put another element in the place of one just found, and a dialog that is
        # still opening moves what is in it.
        with contextlib.suppress(StaleElementReferenceException, ElementClickInterceptedException):
            answer = happens()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)


def find(browser: WebDriver, css: str, seconds: float = 120.0) -> WebElement:
    """The first visible element of a CSS selector, as soon as there is one."""
    found = wait_for(
        lambda: [e for e in browser.find_elements(By.CSS_SELECTOR, css) if e.is_displayed()],
        css,
        seconds,
    )
    element: WebElement = found[0]
    return element


def find_words(browser: WebDriver, words: str, seconds: float = 120.0) -> WebElement:
    """The innermost visible element that holds these words."""
    path = f"//*[text()[contains(normalize-space(), {json.dumps(words)})]]"
    found = wait_for(
        lambda: [e for e in browser.find_elements(By.XPATH, path) if e.is_displayed()],
        f"the words {words!r}",
        seconds,
    )
    element: WebElement = found[-1]
    return element


def act(look: Callable[[], WebElement], action: Callable[[WebElement], Answer]) -> Answer:
    """Find an element and act on it; repeat both if the page was redrawn in between."""
    done: list[Answer] = wait_for(lambda: [action(look())], "an element that stays")
    return done[0]


def type_into(browser: WebDriver, css: str, *keys: str) -> None:
    """Send keys to a visible element."""
    act(lambda: find(browser, css), lambda found: found.send_keys(*keys))


def read_text(browser: WebDriver, css: str) -> str:
    """The text of a visible element."""
    return act(lambda: find(browser, css), lambda found: found.text)


def read_attribute(browser: WebDriver, css: str, name: str) -> str:
    """An attribute of a visible element."""
    return act(lambda: find(browser, css), lambda found: found.get_attribute(name) or "")


def click(look: Callable[[], WebElement]) -> None:
    """Click an element, brought to the middle of the window first.

    A driver clicks where the element is, even if a bar lies over that place.
    """

    def clicked(found: WebElement) -> None:
        found.parent.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        found.click()

    act(look, clicked)


def set_width(browser: WebDriver, width: int, height: int = 900) -> None:
    """Emulate a window of this width in pixels; below 500, a phone."""
    settings = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", settings)


def prefer(browser: WebDriver, theme: str) -> None:
    """Emulate a system that prefers light or dark, and colours that change at once."""
    wanted = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wanted.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def count(browser: WebDriver, css: str) -> int:
    """How many elements there are."""
    return len(browser.find_elements(By.CSS_SELECTOR, css))


def require_fits(browser: WebDriver, width: int) -> None:
    """At this width, the page is not wider than the window, once charts are drawn anew."""
    set_width(browser, width)
    deadline = time.monotonic() + 20
    while (wide := browser.execute_script("return document.documentElement.scrollWidth")) > width:
        assert time.monotonic() < deadline, f"{browser.current_url} is {wide} wide at {width}"
        time.sleep(0.1)


def console_errors(browser: WebDriver) -> list[str]:
    """Errors in the console since the last call."""
    log: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [str(entry["message"]) for entry in log if entry["level"] == "SEVERE"]


def hosts_contacted(browser: WebDriver) -> set[str]:
    """The hosts of every request since the last call."""
    log: list[dict[str, Any]] = browser.get_log("performance")  # type: ignore[no-untyped-call]
    messages = [json.loads(entry["message"])["message"] for entry in log]
    addresses = [
        message["params"].get("request", message["params"]).get("url", "")
        for message in messages
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")
    ]
    return {
        urlsplit(address).hostname or ""
        for address in addresses
        if urlsplit(address).scheme in ("http", "https", "ws", "wss")
    }


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=120) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as refusal:
        return refusal.code == 401  # it needs its token
    except OSError:
        return False
