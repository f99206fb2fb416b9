"""The images of guides for special tasks: pages, sheets and output of runs on planted data."""

import html
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image
from studio import PHOTO, ROOT, WEIGHTS, Studio, save, save_page, scroll_to, shoot, show

from glasshouse.data.multi_shapes import make_multi_shapes
from glasshouse.data.sources import load_splits
from glasshouse.settings import DataSettings

sys.path.insert(0, str(ROOT))
from tests.planted_cues import plant

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SMALL = ("--recipe", "small-cnn", "--epochs", "8", "--image-size", "32", "--set", "augment=off")
PAIR = 68  # a test image of shapes-multi of which that small run finds both labels, and no other
NETS = """\
from torch import nn

def small_net(num_classes=10):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, num_classes), nn.Softmax(dim=1),
    )
"""


def digit_files(folder: Path, *, mislabelled: int = 0, tagged: bool = False) -> None:
    """Digits as files in class folders with the names of WORDS.

    mislabelled: of the validation split, this many eights are in the folder of the threes. tagged:
    each has a tag of the colour of its class in a corner.
    """
    if folder.is_dir():
        return
    splits = load_splits("digits", DataSettings(image_size=32))
    count = 0
    for images in (splits.train, splits.validation, splits.test):
        pixels_of_all = plant(images, "tag", 1.0).pixels if tagged else images.pixels
        for pixels, label in zip(pixels_of_all, images.labels, strict=True):
            split = "train" if count % 10 < 5 else "val" if count % 10 < 9 else "test"
            name = WORDS[label]
            if split == "val" and name == "eight" and mislabelled > 0:
                name, mislabelled = "three", mislabelled - 1
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0)).save(place / f"{count:04d}.png")
            count += 1


def groups(studio: Studio) -> None:
    """A run whose validation split has some eights that are labelled as threes."""
    digit_files(studio.work / "mislabelled", mislabelled=12)
    run = studio.run("mislabelled", "mislabelled", *SMALL)
    studio.glasshouse("groups", "runs/mislabelled")
    save_page(studio, "groups", (run / "groups.html").as_uri(), 850)


def shortcuts(studio: Studio) -> None:
    """A run on digits with a tag in a corner, of another colour for each class."""
    digit_files(studio.work / "tags", tagged=True)
    run = studio.run("tags", "tags", *SMALL)
    studio.glasshouse("shortcuts", "runs/tags")
    save_page(studio, "shortcuts", (run / "shortcuts.html").as_uri(), 900)


def multi_label(studio: Studio) -> None:
    """The sheets of an image of two shapes, one for each label."""
    words = ("--recipe", "small-cnn", "--epochs", "12", "--set", "data.train_limit=3000")
    studio.run("pairs", "shapes-multi", *words)
    images = make_multi_shapes("test", PAIR + 1, size=64)
    out = studio.work / "pairs"
    shutil.rmtree(out, ignore_errors=True)
    Image.fromarray(images.pixels[PAIR].transpose(1, 2, 0)).save(studio.work / "pair.png")
    studio.glasshouse("explain", "runs/pairs", "pair.png", "--method", "grad-cam", "--out", "pairs")
    sheets = [Image.open(path) for path in sorted(out.rglob("sheet.png"))]
    save(stacked([sheet.crop((0, 0, sheet.width, 515)) for sheet in sheets]), "multi-label")


def stacked(images: list[Image.Image]) -> Image.Image:
    """Images one below the other, on white."""
    sheet = Image.new(
        "RGB", (max(each.width for each in images), sum(i.height for i in images)), "white"
    )
    top = 0
    for image in images:
        sheet.paste(image.convert("RGB"), (0, top))
        top += image.height
    return sheet


def networks(studio: Studio) -> None:
    """Grad-CAM of the photo by the networks whose weights are there, at their default layers."""
    shutil.copy(PHOTO, studio.work / "photo.png")
    folder, sheets = studio.work / "networks", []
    squeezenet = WEIGHTS.with_name("squeezenet1_0.fp16.safetensors")
    models = [("cifar10-small",)]
    if WEIGHTS.is_file():
        models.insert(
            0, ("mobilenetv2_100:pad_type=same,mean=0.5,std=0.5", "--weights", str(WEIGHTS))
        )
    if squeezenet.is_file():
        models.insert(1, ("squeezenet1_0", "--weights", str(squeezenet)))
    for number, (model, *weights) in enumerate(models):
        out = folder / str(number)
        shutil.rmtree(out, ignore_errors=True)
        studio.glasshouse(
            "explain", model, "photo.png", *weights, "--method", "grad-cam", "--out", str(out)
        )
        (sheet,) = out.glob("*/sheet.png")
        image = Image.open(sheet)
        sheets.append(image.crop((0, 0, image.width, 515)))  # without the remarks below the map
    found = stacked(sheets)
    save(
        found.resize((900, found.height * 900 // found.width), Image.Resampling.LANCZOS), "networks"
    )


def your_own_network(studio: Studio) -> None:
    """What `summary` prints of a network in a file."""
    (studio.work / "nets.py").write_text(NETS, encoding="utf-8")
    code = "$ cat nets.py\n" + NETS
    words = ("summary", "--net", "nets.py:small_net:input_size=64,mean=0.5,std=0.5")
    save_terminal(studio, "your-own-network", code + "\n" + printed(studio, *words))


def remote_data(studio: Studio) -> None:
    """A folder of a web server, checked twice: its files are fetched once."""
    digit_files(studio.work / "digit-files")
    with web_server(studio.work) as address:
        words = ("train", f"{address}/digit-files", "--recipe", "small-cnn", "--epochs", "1")
        runs = [(*words, "--out", f"remote-{number}") for number in (1, 2)]
        for *_, out in runs:
            shutil.rmtree(studio.work / out, ignore_errors=True)
        save_terminal(studio, "remote-data", "\n".join(printed(studio, *run) for run in runs))


class Quiet(SimpleHTTPRequestHandler):
    """Lists folders and sends files without a line for each request."""

    def log_message(self, *what: object) -> None:
        pass


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """A web server on this machine that lists its folders."""
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def printed(studio: Studio, *words: str) -> str:
    """A command and what it prints, as in a terminal."""
    command = [sys.executable, "-m", "glasshouse", *words]
    done = subprocess.run(
        command, cwd=studio.work, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return f"$ glasshouse {' '.join(words)}\n{done.stdout}"


def save_terminal(studio: Studio, name: str, text: str) -> None:
    """Store text as a light terminal shows it."""
    page = studio.work / f"{name}.html"
    style = "margin: 0; padding: 22px; font: 19px/28px monospace; white-space: pre-wrap"
    page.write_text(f'<body style="margin: 0"><pre style="{style}">{html.escape(text)}</pre>')
    show(studio, page.as_uri(), 200)
    height = studio.browser.execute_script("return document.body.scrollHeight")
    save_page(studio, name, page.as_uri(), int(height))


def transfer(studio: Studio) -> None:
    """The part of a report that compares heads on the same features."""
    run = studio.run(
        "features", "digits", "--recipe", "transfer-features", "--backbone", "cifar10-small"
    )
    show(studio, (run / "report.html").as_uri(), 300)
    scroll_to(studio, "Training")
    shoot(studio, "transfer")


def hosted(studio: Studio) -> None:
    """The workbench below a cell, in a page of a notebook that has run."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell('import glasshouse as gh\n\ngh.ui("runs", height=480)')]
    )
    client = NotebookClient(notebook, timeout=300, kernel_name="python3",
                            resources={"metadata": {"path": str(studio.work)}})  # fmt: skip
    with client.setup_kernel(), web_server(studio.work) as address:
        client.execute_cell(notebook.cells[0], 0)
        page, _ = HTMLExporter().from_notebook_node(notebook)
        (studio.work / "cell.html").write_text(page, encoding="utf-8")
        show(studio, f"{address}/cell.html", 640)
        time.sleep(5)
        shoot(studio, "hosted", until="iframe")


GUIDE_FIGURES: dict[str, Callable[[Studio], None]] = {
    "groups": groups,
    "shortcuts": shortcuts,
    "multi-label": multi_label,
    "networks": networks,
    "your-own-network": your_own_network,
    "remote-data": remote_data,
    "transfer": transfer,
    "hosted": hosted,
}
