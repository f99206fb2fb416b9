"""What the campaign trains, and what it looks for in the folders afterwards."""

from pathlib import Path

from PIL import Image

from tests.conftest import make_images
from tests.journeys.test_train import epochs, result_bytes

FAST = ["--set", "train.precision=fp32", "--set", "train.device=cpu"]
TRAIN = ["train", "digits", "--recipe", "small-cnn", "--epochs", "4", *FAST]
FEATURES = ["--recipe", "transfer-features", "--backbone", "resnet10t:weights=none,input_size=32"]


def make_photos(folder: Path, count: int = 120) -> None:
    images = make_images(count, size=24)
    for row, label in enumerate(images.labels):
        path = folder / images.class_names[label] / f"{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[row].transpose(1, 2, 0)).save(path)


def run_bytes(folder: Path) -> object:
    metrics = epochs(folder) if (folder / "metrics.jsonl").is_file() else None
    return result_bytes(folder), metrics


def stray_files(folder: Path) -> list[str]:
    """Temporary files that a killed process left behind."""
    # Names that begin with a dot are those of files before they are complete.
    return [
        str(path) for path in folder.rglob(".*") if path.is_file() and path.name != ".gitignore"
    ]
