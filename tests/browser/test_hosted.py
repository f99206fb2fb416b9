"""The workbench behind the proxies of hosted notebooks: trained, watched and explained there."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By

from tests.browser.conftest import (
    StartWorkbench,
    act,
    click,
    console_errors,
    find,
    find_words,
    free_port,
    read_text,
    wait_for,
)
from tests.browser.reverse_proxy import Habits, reverse_proxy
from tests.browser.test_training import fill, press
from tests.serving.runs import trained_run

pytestmark = pytest.mark.browser

TOKEN = "a-token-for-the-browser-tests"
HUB = Habits("/user/me/proxy/8080", host="hub.example", says="/user/me/proxy/8080")
CASES: dict[str, tuple[Habits, tuple[str, ...]]] = {
    "own name, as on CDSW": (Habits(host="me.cdsw.example"), ("--allow-host", "*.cdsw.example")),
    "prefix removed and told": (HUB, ("--allow-host", "hub.example", "--token", TOKEN)),
    "prefix removed in silence": (
        Habits("/apps/x", host="hub.example:8443"), ("--allow-host", "https://hub.example"),
    ),
    "prefix told twice and wrongly": (Habits("/a/b", says="/a/b/a/b"), ()),
    "prefix kept": (Habits("/apps/glass", keeps=True), ("--root-path", "/apps/glass")),
    "no websockets": (Habits("/colab", websockets=False), ("--no-websockets",)),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def failed_requests(browser: WebDriver) -> list[str]:
    """Responses of 400 and above, and requests without one, since the last call."""
    log: list[dict[str, Any]] = browser.get_log("performance")  # type: ignore[no-untyped-call]
    found = []
    for entry in log:
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.responseReceived":
            response = message["params"]["response"]
            if response["status"] >= 400:
                found.append(f"{response['status']} {response['url']}")
        elif message["method"] == "Network.loadingFailed" and not message["params"]["canceled"]:
            found.append(str(message["params"]))
    return found


def is_loaded(browser: WebDriver, css: str) -> bool:
    # Images far below the visible part of a page are only loaded when somebody scrolls to them.
    script = """
      const found = [...document.querySelectorAll(arguments[0])];
      found[0]?.scrollIntoView({block: "center"});
      return found.some((each) => each.naturalWidth > 0);
    """
    return bool(browser.execute_script(script, css))


def tour(browser: WebDriver, root: str) -> None:
    """Train, watch, explain, and come back, by links and buttons alone."""
    assert read_text(browser, "a.gh-run") == "sub/earlier"
    click(lambda: find(browser, "a.gh-run"))
    wait_for(lambda: browser.current_url == f"{root}run/sub/earlier", "the run in a subfolder")
    wait_for(lambda: is_loaded(browser, ".gh-mistakes img"), "images of mistakes")
    click(lambda: find(browser, ".gh-nav a[href$='/train']"))
    wait_for(lambda: browser.current_url == f"{root}train", "the page Train")
    fill(browser, "Epochs", "2")
    fill(browser, "Run name", "here")
    press(browser, "Start training")
    wait_for(lambda: browser.current_url == f"{root}run/here", "the page of the run")
    wait_for(lambda: read_text(browser, "main .gh-status") == "finished", "the end", 300)
    find(browser, ".gh-curves canvas")
    click(lambda: find(browser, ".gh-run-head a[href*='/explain?']"))
    click(lambda: find(browser, ".gh-thumb"))
    wait_for(lambda: is_loaded(browser, "img[src*='explain/answers']"), "a map")
    assert browser.current_url.startswith(f"{root}explain?")
    browser.refresh()
    wait_for(lambda: is_loaded(browser, "img[src*='explain/answers']"), "the map again")


@pytest.mark.parametrize("case", CASES)
def test_a_training_run_is_started_watched_and_explained_through_a_proxy(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path, case: str
) -> None:
    habits, options = CASES[case]
    trained_run(tmp_path / "runs" / "sub" / "earlier")
    target = start_workbench(tmp_path / "runs", *options)
    with reverse_proxy(free_port(), target, habits) as root:
        failed_requests(chromium)  # those of the browser itself, when it starts
        chromium.get(root + (f"?token={TOKEN}" if TOKEN in options else ""))
        assert chromium.current_url == root
        tour(chromium, root)
        assert failed_requests(chromium) == []
        chromium.get("about:blank")


def test_it_falls_back_to_polling_by_itself(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    target = start_workbench(tmp_path / "runs")
    with reverse_proxy(free_port(), target, Habits("/x", websockets=False)) as root:
        chromium.get(f"{root}data")
        press(chromium, "Check")
        find_words(chromium, "No source selected")
        click(lambda: chromium.find_element(By.LINK_TEXT, "digits"))
        find_words(chromium, "Class balance")
        log: Any = chromium.get_log("browser")  # type: ignore[no-untyped-call]
        # The browser itself reports the attempt.
        assert all("WebSocket connection" in entry["message"] for entry in log), log
        chromium.get("about:blank")


@contextlib.contextmanager
def page_around(address: str) -> Iterator[str]:
    """A page of another origin with a frame of this address."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = '<link rel="icon" href="data:,"><iframe width=1200 height=800 src="%s"></iframe>'
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write((text % address).encode())

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("habits", [Habits(), Habits("/colab", websockets=False)])
def test_a_page_of_a_named_host_shows_it_in_a_frame(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path, habits: Habits
) -> None:
    trained_run(tmp_path / "runs" / "sub" / "earlier")
    options = ("--frame-host", "127.0.0.1", *(() if habits.websockets else ("--no-websockets",)))
    target = start_workbench(tmp_path / "runs", *options)
    with reverse_proxy(free_port(), target, habits) as root, page_around(root) as page:
        failed_requests(chromium)  # those of the browser itself, when it starts
        chromium.get(page)
        chromium.switch_to.frame(0)
        assert read_text(chromium, "a.gh-run") == "sub/earlier"
        click(lambda: find(chromium, "a.gh-run"))
        # The frame is lower than the window, and images load once they are in sight.
        scroll = "arguments[0].scrollIntoView()"
        act(
            lambda: find(chromium, ".gh-mistakes"),
            lambda f: chromium.execute_script(scroll, f) or 1,
        )
        wait_for(lambda: is_loaded(chromium, ".gh-mistakes img"), "images of mistakes")
        click(lambda: find(chromium, ".gh-nav a[href$='/data']"))
        press(chromium, "Check")
        find_words(chromium, "No source selected")
        assert failed_requests(chromium) == []
        chromium.switch_to.default_content()
        chromium.get("about:blank")


def test_no_page_shows_it_in_a_frame_unless_its_host_is_named(
    chromium: WebDriver, start_workbench: StartWorkbench, tmp_path: Path
) -> None:
    # Neither without the option, nor where it names another host.
    for options in ((), ("--frame-host", "colab.example"), ("--frame-host", "self")):
        target = start_workbench(tmp_path / "runs", *options)
        with page_around(f"{target}/") as page:
            chromium.get(page)
            refused = wait_for(lambda: console_errors(chromium), "the refusal")
            # The guard refuses frames where no host is named; else the browser compares the policy.
            words = "frame-ancestors" if options else "403"
            assert any(words in each for each in refused), refused
            chromium.switch_to.frame(0)
            assert chromium.find_elements(By.CSS_SELECTOR, ".gh-nav") == []
            chromium.switch_to.default_content()
            chromium.get("about:blank")
