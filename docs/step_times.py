"""Measure the steps of the page "Coming from Keras": ``python docs/step_times.py [NUMBER ...]``.

The seconds go to the file that the page's table is made from. With numbers, only these steps get
new ones; those before them run as well, as steps use the names and runs of earlier ones.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from studio import PHOTO

from glasshouse.models.pretrained import build_net, find_model

sys.path.insert(0, str(Path(__file__).parent / "hooks"))
from keras_steps import PAGE, TIMES, KerasStep, read_steps, run_steps

WORK = Path(tempfile.gettempdir()) / "glasshouse-steps"


def measure(steps: list[KerasStep], wanted: set[int]) -> None:
    """Processor seconds of one thread, which other processes hardly change, for wanted steps."""
    torch.set_num_threads(1)
    needed = [step for step in steps if step.number <= max(wanted)]
    shown = {"python", *(step.shown for step in needed)}
    start = time.process_time()
    for step, what, _ in run_steps(needed, epochs=1, images=2000, chosen=shown.__contains__):
        if what == step.shown and step.number in wanted:
            seconds = json.loads(TIMES.read_text(encoding="utf-8"))
            seconds[str(step.number)] = round(time.process_time() - start, 2)
            TIMES.write_text(json.dumps(seconds, indent=1) + "\n", encoding="utf-8")
        start = time.process_time()


def prepare(folder: Path) -> None:
    """A photo, and random weights where ResNet50's are not here: they take as long as its own."""
    folder.mkdir(exist_ok=True)
    if folder == WORK.resolve():
        shutil.rmtree(folder / "runs", ignore_errors=True)
    Image.open(PHOTO).convert("RGB").save(folder / "photo.jpg")
    name = Path(find_model("resnet50").weights_url or "").name
    if not (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file():
        os.environ["TORCH_HOME"] = str(folder)
        file = folder / "hub" / "checkpoints" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            torch.save(build_net("resnet50", 1000, {}, seed=0).state_dict(), file)
    os.chdir(folder)


def main() -> None:
    steps = read_steps(PAGE.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="default: all")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for the runs")
    chosen = parser.parse_args()
    wanted = set(chosen.numbers) or {step.number for step in steps}
    if not wanted <= {step.number for step in steps}:
        parser.error(f"steps are numbered from 1 to {len(steps)}")
    with tempfile.TemporaryDirectory() as cache:
        # What an earlier measurement left in the cache would take its time from this one.
        os.environ["GLASSHOUSE_CACHE"] = cache
        prepare(chosen.work.resolve())
        measure(steps, wanted)


if __name__ == "__main__":
    main()
