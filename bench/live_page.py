"""What it costs a training to be watched: its speed with 20 viewers, and the memory of the page.

    python live_page.py speed     one training, in turn unwatched and watched by 20 viewers
    python live_page.py cost      what 20 viewers of a run that grows cost the workbench's processor
    python live_page.py memory    a run that grows as in training, watched for 20 minutes
    python live_page.py start     from the command to the page, and 500 runs listed

Viewers hold what a browser holds open (the page and its socket) and read all that is sent; they
share the machine with the training, so what they cost is counted as well.
"""

import argparse
import asyncio
import json
import math
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import socketio
from contest import judge, judge_rounds, machine, require_browser

from glasshouse.runs.processes import this_process


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


PORT = free_port()
ADDRESS = f"http://127.0.0.1:{PORT}"
VIEWERS = 20


def start_workbench(runs: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "glasshouse", "ui", str(runs), "--no-browser"]
    process = subprocess.Popen([*command, "--port", str(PORT), "--offline"])
    while not answers():
        time.sleep(0.02)
    return process


def answers() -> bool:
    try:
        with urllib.request.urlopen(ADDRESS, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def train(run: Path, epochs: int, source: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "glasshouse", "train", source, "--recipe", "small-cnn"]
    command += ["--set", f"train.epochs={epochs}", "--set", "train.keep=last", "--out", str(run)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def watch(
    page: str, count: int, until: asyncio.Event, ready: asyncio.Event | None = None
) -> int:
    """So many viewers of a page until the event; gives how many messages they got."""
    got = 0

    def took(name: str, *_: object) -> None:
        nonlocal got
        got += 1

    clients = []
    for _ in range(count):
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(page).read().decode())
        found = re.search(r"'client_id': '([0-9a-f-]+)'", text)
        assert found is not None
        query = {
            "client_id": found[1],
            "tab_id": os.urandom(8).hex(),
            "document_id": os.urandom(8).hex(),
            "next_message_id": 0,
            "implicit_handshake": "true",
        }  # fmt: skip
        client = socketio.AsyncClient()
        client.on("*", took)
        await client.connect(
            f"{ADDRESS}/?{urlencode(query)}",
            socketio_path="/_nicegui_ws/socket.io",
            transports=["websocket"],
        )
        clients.append(client)
    if ready is not None:
        await asyncio.sleep(3)  # all have got what comes first
        ready.set()
    await until.wait()
    for client in clients:
        await client.disconnect()
    return got


def epoch_seconds(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["seconds"] for line in lines]


def processor_seconds(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def span(run: Path, seconds: float) -> float:
    """Mean time of the epochs that begin and end within so many seconds from now."""
    first = len(epoch_seconds(run)) + 1  # that of now is not counted
    await asyncio.sleep(seconds)
    return statistics.mean(epoch_seconds(run)[first:])


async def speed(rounds: int, seconds: float, source: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        runs, run = Path(folder), Path(folder) / "watched"
        workbench = start_workbench(runs)
        training = train(run, 1_000_000, source)
        try:
            while not (run / "metrics.jsonl").is_file():
                assert training.poll() is None, "the training did not begin"
                await asyncio.sleep(0.1)
            pairs, opened, spent, messages = [], [], [], 0
            for i in range(rounds):
                taken = {}
                # In turn, and each first as often, so that a drift of the machine cancels.
                for viewers in (0, VIEWERS) if i % 2 == 0 else (VIEWERS, 0):
                    before = processor_seconds(workbench)
                    until, ready = asyncio.Event(), asyncio.Event()
                    page = f"{ADDRESS}/run/{run.name}"
                    watching = asyncio.create_task(watch(page, viewers, until, ready))
                    await ready.wait()
                    there = processor_seconds(workbench)
                    taken[viewers] = await span(run, seconds)
                    until.set()
                    messages += await watching
                    if viewers:
                        opened.append(there - before)
                        spent.append(processor_seconds(workbench) - there)
                pairs.append(taken[VIEWERS] / taken[0])
                print(f"  an epoch takes {1000 * taken[0]:.1f} ms alone, "
                      f"{1000 * taken[VIEWERS]:.1f} ms watched", flush=True)  # fmt: skip
        finally:
            for process in (training, workbench):
                process.send_signal(signal.SIGTERM)
                process.wait()
    assert messages > rounds * VIEWERS * 5, "the viewers were sent too little"
    print(f"pairs, % slower: {', '.join(f'{100 * (p - 1):+.1f}' for p in sorted(pairs))}\n"
          f"the workbench takes {statistics.median(opened):.2f} s of a processor to open "
          f"{VIEWERS} pages, and {statistics.median(spent) / seconds:.2%} of one to keep them up "
          f"to date; {messages:,} messages")  # fmt: skip
    claim = f"times as long an epoch with {VIEWERS} viewers"
    return judge_rounds(claim, pairs, 1.03, at_least=False)


def resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"Pss:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


class StandIn:
    """Writes what a training writes, a line per second and an epoch each ten, without training."""

    def __init__(self, run: Path) -> None:
        command = [sys.executable, "-m", "glasshouse", "train", "digits", "--out", str(run)]
        subprocess.run([*command, "--set", "train.epochs=1"], check=True, capture_output=True)
        (run / "evaluation.json").unlink()
        self.mark = json.loads((run / "steps.jsonl").read_text().splitlines()[0])
        self.mark |= this_process() | {"epochs": 100_000, "steps": 10}
        self.epoch = json.loads((run / "metrics.jsonl").read_text())
        self.run, self.count = run, 0
        (run / "steps.jsonl").unlink()

    def go_on(self) -> None:
        epoch, step = divmod(self.count, 10)
        self.count += 1
        loss = 2.3 / (1 + self.count / 50) + 0.1 * math.sin(self.count)
        mark = {"time": time.time(), "epoch": epoch + 1, "step": step + 1, "loss": loss}
        with (self.run / "steps.jsonl").open("a") as file:
            file.write(json.dumps(self.mark | mark) + "\n")
        if step == 9:
            with (self.run / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(self.epoch | {"epoch": epoch + 1, "train_loss": loss}) + "\n")


async def memory(minutes: float) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        training = StandIn(runs / "long")
        workbench = start_workbench(runs)
        browser = None
        try:
            for _ in range(30):
                training.go_on()
            browser = open_browser(f"{ADDRESS}/run/long")
            before = None
            for second in range(round(minutes * 60) + 31):
                training.go_on()
                await asyncio.sleep(1)
                if second % 60 != 30:
                    continue
                now = resident_mb(workbench.pid), heap_mb(browser)
                before = before or now
                print(f"{second // 60:>3} min: server {now[0]:.1f} MB ({now[0] - before[0]:+.1f}), "
                      f"page {now[1]:.1f} MB ({now[1] - before[1]:+.1f})", flush=True)  # fmt: skip
            assert before is not None, "the training ended within half a minute"
            shown = browser.find_element("css selector", ".gh-live dd").text
            assert int(shown.split(" / ")[0]) >= training.count // 10 - 6, shown
            held = [
                judge(f"growth of the {name} in MB", new - old, 20, at_least=False)
                for name, new, old in zip(("server", "page"), now, before, strict=True)
            ]
            return all(held)
        finally:
            if browser is not None:
                browser.quit()
            workbench.send_signal(signal.SIGTERM)
            workbench.wait()


async def cost(minutes: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        training = StandIn(runs / "long")
        for _ in range(600):  # ten minutes of training have passed already
            training.go_on()
        workbench = start_workbench(runs)
        try:
            for viewers in (0, 1, VIEWERS):
                until = asyncio.Event()
                page = f"{ADDRESS}/run/long"
                watching = asyncio.create_task(watch(page, viewers, until))
                await asyncio.sleep(5)  # until all are there
                began, before = time.monotonic(), processor_seconds(workbench)
                while time.monotonic() - began < 60 * minutes:
                    training.go_on()
                    await asyncio.sleep(1)
                taken = time.monotonic() - began
                spent = processor_seconds(workbench) - before
                until.set()
                messages = await watching
                print(f"{viewers:>2} viewers: {60 * spent / taken:.2f} s of a processor a minute "
                      f"({spent / taken:.2%}), {messages} messages", flush=True)  # fmt: skip
        finally:
            workbench.send_signal(signal.SIGTERM)
            workbench.wait()


def open_browser(page: str):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--js-flags=--expose-gc"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    browser.get(page)
    return browser


def heap_mb(browser) -> float:
    """What the page's own objects take, after its garbage is collected."""
    browser.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    return browser.execute_cdp_cmd("Runtime.getHeapUsage", {})["usedSize"] / 1e6


def start(rounds: int) -> bool:
    from glasshouse.runs.listing import RunListing

    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        pattern = Path(folder) / "pattern"
        command = [sys.executable, "-m", "glasshouse", "train", "digits", "--out", str(pattern)]
        subprocess.run([*command, "--set", "train.epochs=10"], check=True, capture_output=True)
        for i in range(500):
            (runs / f"run-{i:03}").mkdir(parents=True)
            for name in ("recipe.toml", "environment.json", "metrics.jsonl", "evaluation.json"):
                (runs / f"run-{i:03}" / name).write_bytes((pattern / name).read_bytes())
        listed, ready = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            assert len(RunListing(runs).read()) == 500
            listed.append(time.perf_counter() - began)
            began = time.perf_counter()
            workbench = start_workbench(runs)
            ready.append(time.perf_counter() - began)
            workbench.send_signal(signal.SIGTERM)
            workbench.wait()
    held = [
        judge(
            "s to list 500 runs for the first time", statistics.median(listed), 1, at_least=False
        ),
        judge("s from the command to the page", statistics.median(ready), 3, at_least=False),
    ]
    return all(held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = ["speed", "cost", "memory", "start"]
    parser.add_argument("what", choices=kinds, nargs="?", default="start")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--source", default="shapes")
    parser.add_argument("--minutes", type=float, default=20)
    given = parser.parse_args()
    print(machine())
    held = True
    if given.what == "speed":
        held = asyncio.run(speed(given.rounds, given.seconds, given.source))
    elif given.what == "cost":
        asyncio.run(cost(given.minutes))
    elif given.what == "memory":
        require_browser()
        held = asyncio.run(memory(given.minutes))
    else:
        held = start(given.rounds)
    raise SystemExit(not held)


if __name__ == "__main__":
    main()
