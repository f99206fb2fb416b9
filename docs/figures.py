"""Make the images of the documentation: ``make figures``, or ``python docs/figures.py NAME ...``.

Every image is what a command of Glasshouse wrote or printed, a page of it in a headless Chromium,
or drawn by ``drawn_figures.py``. The images in them are `digits`, `shapes` and the photo in the
package, so that all may be published. The notebook takes CIFAR-10 from GLASSHOUSE_DATA. With the
weights of a MobileNetV2 there, the photo is explained by that network, otherwise by the bundled
one. Runs are kept in the folder ``--work`` and reused.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import nbformat
from drawn_figures import DRAWN_FIGURES
from guide_figures import GUIDE_FIGURES
from nbclient import NotebookClient
from PIL import Image
from studio import (
    IMAGES,
    PHOTO,
    ROOT,
    WEIGHTS,
    Studio,
    press,
    save,
    save_page,
    scroll_to,
    shoot,
    show,
    upload,
    use_theme,
)

import glasshouse as gh
from glasshouse.data.shapes import make_shapes

NOTEBOOK = ROOT / "examples" / "tutorial.ipynb"
WORK = Path(tempfile.gettempdir()) / "glasshouse-figures"
SHAPES = ("shapes", "--recipe", "fast", "--epochs", "6", "--batch-size", "128", "--snapshots", "6")


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


def taught(studio: Studio) -> None:
    """Two classes of the page Teach, as it saves them."""
    for name in ("heart", "star"):
        place = studio.work / "runs" / "taught" / "shapes" / name
        shutil.copytree(photos(studio) / "train" / name, place, dirs_exist_ok=True)


def workbench(studio: Studio) -> None:
    """Every page of the workbench."""
    taught(studio)
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
        save_page(studio, "workbench-teach", f"{address}/teach?set=shapes")
        save_page(studio, "workbench-data", f"{address}/data?source=photos")
        show(studio, f"{address}/explain?model=cifar10-small", 1000)
        upload(browser, PHOTO)
        shoot(studio, "workbench-explain", until=".gh-tile")


def data_map(studio: Studio) -> None:
    """The map of a run in the workbench."""
    run = shapes_run(studio)
    if not (run / "map.html").is_file():
        studio.glasshouse("map", "runs/shapes")
    with studio.server("ui", "runs", "--no-browser") as address:
        show(studio, f"{address}/data-map/shapes", 900)
        shoot(studio, "workbench-map", until=".gh-map-plot canvas")


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
    """The outputs of the notebook: images as files; texts, and what was trained, in one.

    With CIFAR-10 in GLASSHOUSE_DATA it tells the tutorial's own story, in half an hour; otherwise
    it is run on `digits`, with little training.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    is_cifar = bool(os.environ.get("GLASSHOUSE_DATA"))
    budget = "10 epochs on all images of CIFAR-10"
    if not is_cifar:
        budget = "4 epochs on 800 images of `digits`"
        os.environ.update(GLASSHOUSE_EPOCHS="4", GLASSHOUSE_IMAGES="800")
    NotebookClient(notebook, timeout=3600, kernel_name="python3").execute()
    texts = {"budget": budget}
    for old in IMAGES.glob("tutorial-*.webp"):
        old.unlink()
    for cell in notebook.cells:
        # The images of CIFAR-10 may not be published.
        is_withheld = is_cifar and "data-images" in cell.metadata.get("tags", [])
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data and not is_withheld:
                save(Image.open(BytesIO(b64decode(data["image/png"]))), f"tutorial-{cell.id}")
            elif output.output_type == "stream" and output.name == "stdout":
                texts[cell.id] = texts.get(cell.id, "") + output.text
            elif output.output_type == "execute_result" and "image/png" not in data:
                # A page does not show where the package lies on this machine.
                texts[cell.id] = data["text/plain"].replace(f"{PHOTO.parent}/", "")
    (IMAGES / "tutorial.json").write_text(json.dumps(texts, indent=1) + "\n", encoding="utf-8")


FIGURES: dict[str, Callable[[Studio], None]] = {
    "first-look": first_look,
    "sheets": sheets,
    "reports": reports,
    "checks": checks,
    "tuning": tuning,
    "workbench": workbench,
    "data-map": data_map,
    "service": service,
    "augmentation": augmentation,
    "tutorial": tutorial,
    **DRAWN_FIGURES,
    **GUIDE_FIGURES,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(FIGURES)}; default: all")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for runs")
    chosen = parser.parse_args()
    names = chosen.names or list(FIGURES)
    studio = Studio(chosen.work.resolve())
    studio.work.mkdir(parents=True, exist_ok=True)
    failed = []
    try:
        for number, name in enumerate(names, 1):
            print(f"{number} of {len(names)}: {name}", flush=True)
            try:
                FIGURES[name](studio)
            except Exception:  # the others do not depend on it
                traceback.print_exc()
                failed.append(name)
    finally:
        studio.close()
    if failed:
        raise SystemExit(f"not made: {', '.join(failed)}")


if __name__ == "__main__":
    main()
