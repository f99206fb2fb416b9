"""Make the images of the documentation: ``make figures``, or ``python docs/figures.py NAME ...``.

Every image is what a command of Glasshouse wrote, or a page of it in a headless Chromium. The data
are `digits`, `shapes` and the photo in the package, so that every image may be published. With the
weights of a MobileNetV2 in GLASSHOUSE_DATA, the photo is explained by that network, otherwise by
the bundled one. Runs are kept in the folder ``--work`` and reused.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.request import urlopen

import nbformat
import torch
from nbclient import NotebookClient
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By

import glasshouse as gh
from glasshouse.data.shapes import make_shapes
from glasshouse.models.pretrained import build_net, find_model

sys.path.insert(0, str(Path(__file__).parent / "hooks"))
from keras_steps import PAGE, TIMES, read_steps, run_steps

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
NOTEBOOK = ROOT / "examples" / "tutorial.ipynb"
PHOTO = Path(gh.__file__).parent / "assets" / "photos" / "chelsea.png"
WEIGHTS = (
    Path(os.environ.get("GLASSHOUSE_DATA", "."))
    / "weights/imagenet/mobilenetv2_100_tfsame.fp16.safetensors"
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
WORK = Path(tempfile.gettempdir()) / "glasshouse-figures"
WIDEST = 1400  # pixels of a stored image; a column of the site has about 700
SHAPES = ("shapes", "--recipe", "fast", "--epochs", "6", "--batch-size", "128", "--snapshots", "6")


class Studio:
    """A working folder with runs, and a browser that is started when it is first used."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self._browser: WebDriver | None = None

    def glasshouse(self, *words: str) -> None:
        """Run a command in the working folder; what it prints is shown."""
        print("$ glasshouse", *words)
        command = [sys.executable, "-m", "glasshouse", *words]
        subprocess.run(command, cwd=self.work, check=True)

    def run(self, name: str, *words: str) -> Path:
        """The run of a training, trained only if it is not there already."""
        folder = self.work / "runs" / name
        if not (folder / "report.html").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            self.glasshouse("train", *words, "--out", f"runs/{name}")
        return folder

    @property
    def browser(self) -> WebDriver:
        if self._browser is None:
            options = webdriver.ChromeOptions()
            options.binary_location = shutil.which("chromium") or ""
            for flag in FLAGS:
                options.add_argument(flag)
            service = Service(shutil.which("chromedriver"))
            self._browser = webdriver.Chrome(options=options, service=service)
        return self._browser

    @contextmanager
    def server(self, *words: str) -> Iterator[str]:
        """A command that serves pages, while it is in use; yields its address."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        print("$ glasshouse", *words)
        command = [sys.executable, "-m", "glasshouse", *words, "--port", str(port), "--offline"]
        process = subprocess.Popen(command, cwd=self.work)
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                try:
                    urlopen(address, timeout=60).close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield address
        finally:
            process.terminate()
            process.wait()

    def close(self) -> None:
        if self._browser is not None:
            self._browser.quit()


def save(image: Image.Image, name: str) -> None:
    """Store an image as WebP, lossless where that is smaller."""
    image = image.convert("RGB")
    if image.width > WIDEST:
        height = round(image.height * WIDEST / image.width)
        image = image.resize((WIDEST, height), Image.Resampling.LANCZOS)
    lossy, lossless = BytesIO(), BytesIO()
    image.save(lossy, "WEBP", quality=80, method=6)
    image.save(lossless, "WEBP", lossless=True, method=6)
    best = min(lossy.getvalue(), lossless.getvalue(), key=len)
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / f"{name}.webp").write_bytes(best)
    print(f"{name}.webp: {image.width}x{image.height}, {len(best) / 1024:.0f} KiB")


def save_page(
    studio: Studio, name: str, address: str, height: int = 900, *, until: str = "body"
) -> None:
    """Open a page and store what a window of 1100 pixels shows, once it shows ``until``."""
    show(studio, address, height)
    shoot(studio, name, until=until)


def show(studio: Studio, address: str, height: int = 900) -> None:
    """Open a page in a light window of 1100 pixels."""
    browser = studio.browser
    screen = {"width": 1100, "height": height, "deviceScaleFactor": 1.5, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    use_theme(studio, "light")
    browser.get(address)


def use_theme(studio: Studio, theme: str) -> None:
    """Prefer light or dark pages."""
    feature = {"name": "prefers-color-scheme", "value": theme}
    studio.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def shoot(studio: Studio, name: str, *, until: str = "body") -> None:
    """Store what the window shows, once it shows an element and no longer changes."""
    last, same, end = b"", 0, time.monotonic() + 180
    while same < 4 and time.monotonic() < end:
        time.sleep(0.7)
        made = studio.browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        now = b64decode(made["data"])
        is_there = bool(studio.browser.find_elements(By.CSS_SELECTOR, until))
        same = same + 1 if now == last and is_there and not waiting(studio) else 0
        last = now
    save(Image.open(BytesIO(last)), name)


def waiting(studio: Studio) -> bool:
    """Whether the page says that it is at work."""
    busy = ".q-spinner, .q-skeleton, .q-linear-progress--indeterminate, [aria-busy='true']"
    seen = studio.browser.find_elements(By.CSS_SELECTOR, busy)
    return any(each.is_displayed() for each in seen)


def scroll_to(studio: Studio, words: str) -> None:
    """Bring the first heading with these words to the top of the window."""
    script = """
      const all = [...document.querySelectorAll('h1, h2, h3')];
      const found = all.find((each) => each.textContent.includes(arguments[0]));
      if (found) window.scrollTo({top: found.getBoundingClientRect().top + scrollY - 24});
      return Boolean(found);
    """
    if not studio.browser.execute_script(script, words):
        raise SystemExit(f"{studio.browser.current_url} has no heading with {words!r}")


def photos(studio: Studio) -> Path:
    """A folder of shapes as files, with the problems that `check` finds."""
    folder = studio.work / "photos"
    if folder.is_dir():
        return folder
    images = make_shapes("train", 300, size=64)
    for number, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        split = ("train", "train", "train", "val", "test")[number // 10 % 5]
        place = folder / split / images.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels.transpose(1, 2, 0))
        image.save(place / f"{number:03d}.png")
        if number in (30, 60, 90):  # the same image again, compressed, in the test split
            place = folder / "test" / images.class_names[label]
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{number:03d}-web.jpg", quality=60)
        if number in (41, 71):  # and with another label
            place = folder / "train" / images.class_names[(label + 1) % 10]
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{number:03d}.png")
    (folder / "train" / images.class_names[0] / "half.png").write_bytes(b"\x89PNG not an image")
    return folder


def model_of_photo() -> list[str]:
    """The words that name a network for the photo."""
    if WEIGHTS.is_file():
        return ["mobilenetv2_100:pad_type=same,mean=0.5,std=0.5", "--weights", str(WEIGHTS)]
    return ["cifar10-small"]


def sheets(studio: Studio) -> None:
    """What `explain` writes for the photo."""
    out = studio.work / "why"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copy(PHOTO, studio.work / "photo.png")
    model, *weights = model_of_photo()
    studio.glasshouse("explain", model, "photo.png", *weights, "--tiles", "64", "--out", "why")
    (folder,) = out.iterdir()
    save(Image.open(folder / "sheet.png"), "sheet")
    drawn = sorted(folder.glob("activations-*.png"), key=lambda path: path.stat().st_mtime_ns)
    for path, name in zip(drawn, ("one-channel", "early", "late"), strict=True):
        save(Image.open(path), f"activations-{name}")


def first_look(studio: Studio) -> None:
    """A sheet of three maps, for the first page."""
    out = studio.work / "first-look"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copy(PHOTO, studio.work / "photo.png")
    model, *weights = model_of_photo()
    three = [f"--method={name}" for name in ("guided", "grad-cam", "guided-grad-cam")]
    studio.glasshouse("explain", model, "photo.png", *weights, *three, "--out", "first-look")
    (sheet,) = out.glob("*/sheet.png")
    save(Image.open(sheet), "first-look")


def reports(studio: Studio) -> None:
    """The report of a run, also its prediction sets, its mistakes and its snapshots."""
    run = shapes_run(studio)
    save_page(studio, "report", (run / "report.html").as_uri())
    scroll_to(studio, "confused")
    shoot(studio, "report-confusion")
    scroll_to(studio, "Prediction sets")
    shoot(studio, "report-sets")
    if not (run / "mistakes.html").is_file():
        studio.glasshouse("explain", "runs/shapes", "--errors")
    save_page(studio, "mistakes", (run / "mistakes.html").as_uri())
    save(Image.open(run / "snapshots" / "strip.png"), "snapshots")


def shapes_run(studio: Studio) -> Path:
    return studio.run("shapes", *SHAPES, "--set", "data.train_limit=3000")


def checks(studio: Studio) -> None:
    """The page that `check` writes."""
    photos(studio)
    out = studio.work / "check"
    command = [sys.executable, "-m", "glasshouse", "check", "photos", "--out", "check"]
    subprocess.run(command, cwd=studio.work, check=False)  # its exit code reports the problems
    save_page(studio, "check", (out / "check.html").as_uri())


def tuning(studio: Studio) -> None:
    """The range test, a comparison and a search, on digits."""
    studio.glasshouse("lr-find", "digits", "--recipe", "small-cnn", "--out", "lr-find.png")
    save(Image.open(studio.work / "lr-find.png"), "lr-find")
    words = ["digits", "--recipe", "small-cnn", "--trials", "12", "--epochs", "2"]
    search = ["--search", "train.lr=1e-4..1e-1:log", "--search", "train.batch_size=32,64,128"]
    if not (studio.work / "tune").is_dir():
        studio.glasshouse("tune", *words, *search, "--out", "tune")


def workbench(studio: Studio) -> None:
    """Every page of the workbench."""
    photos(studio)
    shapes_run(studio)
    small = ("digits", "--recipe", "small-cnn", "--epochs", "4")
    studio.run("digits-lr-0.001", *small)
    studio.run("digits-lr-0.003", *small, "--lr", "0.003")
    browser = studio.browser
    with studio.server("ui", "runs", "--no-browser") as address:
        save_page(studio, "workbench-runs", address, 560)
        pair = "run=digits-lr-0.001&run=digits-lr-0.003"
        save_page(studio, "workbench-compare", f"{address}/compare?{pair}", until=".gh-verdict")
        save_page(studio, "workbench-run", f"{address}/run/shapes")
        use_theme(studio, "dark")
        shoot(studio, "workbench-run-dark")
        show(studio, f"{address}/train?source=shapes")
        press(browser, "Show images")
        shoot(studio, "workbench-train", until=".gh-preview img")
        save_page(studio, "workbench-teach", f"{address}/teach")
        save_page(studio, "workbench-data", f"{address}/data?source=photos")
        show(studio, f"{address}/explain?model=cifar10-small", 1000)
        upload(browser, PHOTO)
        shoot(studio, "workbench-explain", until=".gh-tile")


def press(browser: WebDriver, words: str) -> None:
    """Press the button with these words, as soon as there is one."""
    for _ in range(300):
        found = browser.find_elements(
            By.XPATH, f"//button[contains(normalize-space(.), '{words}')]"
        )
        if found:
            browser.execute_script("arguments[0].click()", found[0])
            return
        time.sleep(0.2)
    raise SystemExit(f"{browser.current_url} has no button {words!r}")


def upload(browser: WebDriver, path: Path) -> None:
    """Give a file to the page's first field for files, as soon as there is one."""
    for _ in range(300):
        found = browser.find_elements(By.CSS_SELECTOR, "input[type=file]")
        if found:
            found[0].send_keys(str(path))
            return
        time.sleep(0.2)
    raise SystemExit(f"{browser.current_url} has no field for files")


def service(studio: Studio) -> None:
    """The front page of the service, with an answer."""
    with studio.server("serve", "cifar10-small") as address:
        show(studio, address)
        upload(studio.browser, PHOTO)
        press(studio.browser, "Explain")
        shoot(studio, "service", until="figure img")


def augmentation(studio: Studio) -> None:
    """What an augmentation does to images, as the workbench and the tutorial draw it."""
    settings = gh.load_recipe("tutorial-basic").augment
    drawn = BytesIO()
    gh.plot_augmentation(make_shapes("train", 4, size=64), settings, epochs=7).savefig(drawn)
    save(Image.open(drawn), "augmentation")


def tutorial(studio: Studio) -> None:
    """The outputs of the notebook, small and offline: images as files, texts in one file."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # Of the page's images, only those of digits and of the photo may be published.
    os.environ.pop("GLASSHOUSE_DATA", None)
    os.environ.update(GLASSHOUSE_EPOCHS="4", GLASSHOUSE_IMAGES="800")
    NotebookClient(notebook, timeout=1200, kernel_name="python3").execute()
    texts: dict[str, str] = {}
    for old in IMAGES.glob("tutorial-*.webp"):
        old.unlink()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                save(Image.open(BytesIO(b64decode(data["image/png"]))), f"tutorial-{cell.id}")
            elif output.output_type == "stream" and output.name == "stdout":
                texts[cell.id] = texts.get(cell.id, "") + output.text
    (IMAGES / "tutorial.json").write_text(json.dumps(texts, indent=1) + "\n", encoding="utf-8")


def times(studio: Studio) -> None:
    """Processor seconds of the steps on the page "Coming from Keras", with one thread.

    They depend neither on other processes nor on the values of weights: where the published weights
    of ResNet50 are not on this machine, random ones take their place.
    """
    steps = read_steps(PAGE.read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    folder = studio.work / "keras"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    Image.open(PHOTO).convert("RGB").save(folder / "photo.jpg")
    address = Path(find_model("resnet50").weights_url or "")
    if not (Path(torch.hub.get_dir()) / "checkpoints" / address.name).is_file():
        os.environ["TORCH_HOME"] = str(folder)
        (folder / "hub" / "checkpoints").mkdir(parents=True)
        weights = build_net("resnet50", 1000, {}, seed=0).state_dict()
        torch.save(weights, folder / "hub" / "checkpoints" / address.name)
    os.chdir(folder)
    seconds: dict[str, float] = {}
    start = time.process_time()
    for step, what, _ in run_steps(steps, epochs=1, images=2000, chosen=lambda what: True):
        if what == step.shown:
            seconds[str(step.number)] = round(time.process_time() - start, 2)
            TIMES.write_text(json.dumps(seconds, indent=1) + "\n", encoding="utf-8")
        start = time.process_time()


FIGURES: dict[str, Callable[[Studio], None]] = {
    "first-look": first_look,
    "sheets": sheets,
    "reports": reports,
    "checks": checks,
    "tuning": tuning,
    "workbench": workbench,
    "service": service,
    "augmentation": augmentation,
    "tutorial": tutorial,
    "times": times,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", help=f"which: {', '.join(FIGURES)}; default: all but times"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="folder for runs")
    chosen = parser.parse_args()
    studio = Studio(chosen.work.resolve())
    studio.work.mkdir(parents=True, exist_ok=True)
    try:
        for name in chosen.names or [name for name in FIGURES if name != "times"]:
            FIGURES[name](studio)
    finally:
        studio.close()


if __name__ == "__main__":
    main()
