"""What a map of the data costs, how well it keeps neighbours, and how fast its page draws 50,000.

    python data_map.py layouts [COUNT...]   seconds of PCA and t-SNE of so many images of CIFAR-10,
                                            by the features of cifar10-small, and trustworthiness
    python data_map.py page                 seconds until Chromium without a window, drawing WebGL
                                            by the processor, has drawn 50,000 points; bytes sent

Layouts are computed in one thread. Needs GLASSHOUSE_DATA for CIFAR-10, Chromium and its driver for
the page.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
from contest import machine, require_browser

import glasshouse as gh
from glasshouse.data.sources import load_splits
from glasshouse.evaluation.data_map import load_map, save_map
from glasshouse.evaluation.layouts import kept_neighbours, main_components, tsne_plane
from glasshouse.models.backbone import backbone_of
from glasshouse.settings import DataSettings
from glasshouse.workflow.use.known_images import features_of

COUNTS, POINTS = (1_000, 10_000, 45_000), 50_000


def layouts(counts: list[int]) -> None:
    classifier = gh.classifier_by_name("cifar10-small")
    pixels = load_splits("cifar10", DataSettings()).train.pixels
    body = backbone_of(classifier.net)
    for count in counts:
        started = time.perf_counter()
        features = features_of(body, classifier.preprocessing, pixels[:count])
        seen = time.perf_counter()
        components = main_components(features, 0)
        laid = time.perf_counter()
        pca = kept_neighbours(components, components[:, :2], 0)
        again = time.perf_counter()
        plane = tsne_plane(components, 0)
        done = time.perf_counter()
        tsne = kept_neighbours(components, plane, 0)
        print(
            f"{count:,} images, {features.shape[1]} features in {seen - started:.1f} s: PCA "
            f"{laid - seen:.2f} s, trustworthiness {pca:.3f}; t-SNE {done - again:.0f} s, "
            f"trustworthiness {tsne:.3f}",
            flush=True,
        )


def page() -> None:
    require_browser()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as folder:
        run, port = Path(folder) / "run", free_port()
        command = [sys.executable, "-m", "glasshouse"]
        short = ["--recipe", "small-cnn", "--epochs", "1", "--out", str(run)]
        subprocess.run([*command, "train", "digits", *short], check=True, capture_output=True)
        subprocess.run([*command, "map", str(run)], check=True, capture_output=True)
        widen(run / "map.safetensors")
        server = subprocess.Popen([*command, "ui", folder, "--no-browser", "--port", str(port)])
        address = f"http://127.0.0.1:{port}/data-map/run"
        wait_for(address)
        with urllib.request.urlopen(address.replace("data-map", "map-points")) as answer:
            print(f"points: {len(answer.read()):,} bytes")
        options = webdriver.ChromeOptions()
        for each in ("--headless=new", "--no-sandbox", "--use-angle=swiftshader",
                     "--enable-unsafe-swiftshader", "--window-size=1440,1200"):  # fmt: skip
            options.add_argument(each)
        options.binary_location = shutil.which("chromium") or ""
        browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        try:
            for visit in ("first visit of all", "second", "third"):
                browser.get(address)
                print(f"{visit}: drawn after {drawn(browser):.1f} s")
            sizes = "performance.getEntriesByType('resource').map(e => e.encodedBodySize)"
            sent = sum(browser.execute_script(f"return {sizes}"))
            print(f"everything that the page loads, as sent: {sent:,} bytes")
        finally:
            browser.quit()
            server.terminate()


def drawn(browser) -> float:
    """Seconds from the start of the page to its points, by the browser's clock."""
    mark = "return document.querySelector('.gh-map-chart')?.dataset.drawn"
    for _ in range(1200):
        found = browser.execute_script(mark)
        if found:
            return int(found) / 1000
        time.sleep(0.1)
    raise SystemExit("the map was not drawn within two minutes")


def widen(path: Path) -> None:
    """Repeat the points of a map up to 50,000, each a little beside its place."""
    found = load_map(path)
    random = np.random.default_rng(0)
    rows = random.integers(0, len(found), POINTS)

    def moved(plane):
        beside = random.normal(scale=plane.std() / 20, size=(POINTS, 2))
        return (plane[rows] + beside).astype(np.float32)

    names = ("split", "labels", "predicted", "confidence", "unusual")
    rest = {name: getattr(found, name)[rows] for name in names}
    ids = np.array([f"image/{number:05d}" for number in range(POINTS)])
    wide = {"pca": moved(found.pca), "tsne": moved(found.tsne), "ids": ids, "drawn_from": POINTS}
    save_map(replace(found, **rest, **wide), path)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(address: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=30).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the workbench did not start within a minute")


if __name__ == "__main__":
    print(machine())
    if sys.argv[1:2] == ["page"]:
        page()
    else:
        layouts([int(each) for each in sys.argv[2:]] or list(COUNTS))
