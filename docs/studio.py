"""Where images of the documentation are made: a folder with runs, and a headless Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By

import glasshouse as gh

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
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
WIDEST = 1400  # pixels of a stored image; a column of the site has about 700
# Decibels from which on nobody tells two images apart: of flat colours, and of photos.
ALIKE, ALIKE_PHOTO = 45, 38
WINDOW = 1100  # of the page, which the browser draws at that size: scaling would blur its letters


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
    """Store an image as WebP, in the smallest form that looks the same."""
    image = image.convert("RGB")
    if image.width > WIDEST:
        height = round(image.height * WIDEST / image.width)
        image = image.resize((WIDEST, height), Image.Resampling.LANCZOS)
    best = smallest(image)
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / f"{name}.webp").write_bytes(best)
    print(f"{name}.webp: {image.width}x{image.height}, {len(best) / 1024:.0f} KiB")


def smallest(image: Image.Image) -> bytes:
    """The image as WebP: lossy, lossless, or lossless in few colours, whatever is smallest.

    Pages of text and flat colours lose nothing that one sees with a palette, which has as few
    colours as come close enough; photos and maps lose their gradients, where 256 are too few.
    """
    forms = [as_webp(image, lossless=True)]
    for colours in (64, 128, 256):
        few = image.quantize(colours, dither=Image.Dither.NONE).convert("RGB")
        if likeness(image, few) >= ALIKE:
            forms.append(as_webp(few, lossless=True))
            break
    for quality in (70, 80):
        lossy = as_webp(image, quality=quality)
        if likeness(image, Image.open(BytesIO(lossy)).convert("RGB")) >= ALIKE_PHOTO:
            break
    return min(*forms, lossy, key=len)


def likeness(one: Image.Image, other: Image.Image) -> float:
    """The ratio of the largest signal to the noise, in decibels; infinite for equal images."""
    error = np.mean((np.asarray(one, np.float64) - np.asarray(other, np.float64)) ** 2)
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def as_webp(image: Image.Image, **how: object) -> bytes:
    """The bytes of an image in that format."""
    stored = BytesIO()
    image.save(stored, "WEBP", method=6, **how)
    return stored.getvalue()


def save_page(
    studio: Studio, name: str, address: str, height: int = 900, *, until: str = "body"
) -> None:
    """Open a page and store what its window shows, once it shows ``until``."""
    show(studio, address, height)
    shoot(studio, name, until=until)


def show(studio: Studio, address: str, height: int = 900) -> None:
    """Open a page in a light window."""
    browser = studio.browser
    scale = WIDEST / WINDOW
    screen = {"width": WINDOW, "height": height, "deviceScaleFactor": scale, "mobile": False}
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
        raise LookupError(f"{studio.browser.current_url} has no heading with {words!r}")


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
    raise LookupError(f"{browser.current_url} has no button {words!r}")


def upload(browser: WebDriver, path: Path) -> None:
    """Give a file to the page's first field for files, as soon as there is one."""
    for _ in range(300):
        found = browser.find_elements(By.CSS_SELECTOR, "input[type=file]")
        if found:
            found[0].send_keys(str(path))
            return
        time.sleep(0.2)
    raise LookupError(f"{browser.current_url} has no field for files")
