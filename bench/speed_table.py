"""README's table of speed for the machine at hand, as Markdown: `make speed`, about half an hour.

Runs the scripts whose figures it holds, one after the other, and prints a row for each claim.
Needs the extra `bench`, GLASSHOUSE_DATA, and wrk for the rows about serving; a row whose script
cannot run here is left out, and why is said. Nothing else should run on the machine meanwhile.

    python bench/speed_table.py [SCRIPT ...]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from contest import machine

HERE = Path(__file__).parent


class Row(NamedTuple):
    """A row of the table: what is compared with what, and the claim that the script judges."""

    what: str
    claim: str
    is_share: bool = False


SCRIPTS: dict[str, list[Row]] = {
    "train_speed": [
        row
        for net in ("tutorial-basic", "tutorial-wide")
        for row in (
            Row(f"training `{net}`, batch 32: Keras 3 with ImageDataGenerator",
                f"{net}: ours / Keras"),
            Row("the same: PyTorch's DataLoader with PIL transforms",
                f"{net}: ours / DataLoader"),
            Row("the same: plain PyTorch steps without loading and augmenting",
                f"{net}: ours / steps on ready batches", is_share=True),
        )
    ],
    "explain_page": [
        Row("the tutorial's explanations, ResNet50, batch 8: Captum",
            "batch 8: Captum as documented / ours"),
    ],
    "explain_cam": [
        Row("Grad-CAM, ResNet50, one image: pytorch-grad-cam",
            "batch 1: pytorch-grad-cam / ours"),
        Row("the same, batch 8", "batch 8: pytorch-grad-cam / ours"),
        Row("Eigen-CAM's component at 49x2048: the whole SVD", "Eigen-CAM at 49x2048: SVD / ours"),
    ],
    "feature_speed": [
        Row("features of ResNet50 at 224: eager PyTorch",
            "ResNet50 at 224, times plain eager float32"),
    ],
    "finetune_step": [
        Row("full fine-tuning of MobileNetV2: timm's script",
            "full fine-tuning, times timm's script"),
    ],
    "serving small": [
        row
        for who in ("1 client", "8 clients", "64 clients")
        for row in (
            Row(f"serving a small CNN to {who}: plain FastAPI",
                f"{who}, x the better plain handler"),
            Row("the same: LitServe", f"{who}, x LitServe"),
        )
    ],
}  # fmt: skip


def main() -> None:
    chosen = [name for name in SCRIPTS if not sys.argv[1:] or name.split()[0] in sys.argv[1:]]
    lines = [f"{machine()}:", "", "| what: compared with | measured | script |", "|--|--|--|"]
    for name in chosen:
        figures = run(name)
        rows = [row for row in SCRIPTS[name] if row.claim in figures]
        lines += [f"| {row.what} | {words(row, figures[row.claim])} | `{name}` |" for row in rows]
    print("\n" + "\n".join(lines))


def run(name: str) -> dict[str, dict[str, Any]]:
    """The verdicts that a script prints, by their claims."""
    script, *arguments = name.split()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures")
        command = [sys.executable, str(HERE / f"{script}.py"), *arguments]
        environment = {**os.environ, "GLASSHOUSE_FIGURES": str(file)}
        print(f"== {name}", flush=True)
        done = subprocess.run(command, check=False, env=environment, stderr=subprocess.PIPE)
        if not file.is_file():
            print(f"{name} found nothing:\n{done.stderr.decode(errors='replace')[-1000:]}")
            return {}
        found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {each["claim"]: each for each in found}


def words(row: Row, found: dict[str, Any]) -> str:
    """The figure and its interval, or that there is none."""
    if found["median"] is None:
        return "no figure: the rounds disagree"
    if row.is_share:
        share, low, high = (round(100 * found[name]) for name in ("median", "low", "high"))
        return f"{share} % ({low} to {high})"
    median, low, high = (f"{found[name]:.3g}" for name in ("median", "low", "high"))
    return f"{median} times as fast ({low} to {high})"


if __name__ == "__main__":
    main()
