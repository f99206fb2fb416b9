"""How a network learns where to look: the same images explained after each epoch of a run."""

import copy
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from glasshouse.data.images import ImageSet, take
from glasshouse.errors import DataError
from glasshouse.explanation.draw.canvas import to_png
from glasshouse.explanation.draw.strip import COLUMNS, draw_strip
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.methods import METHODS, MethodName
from glasshouse.explanation.nouns import Explanation
from glasshouse.explanation.store import PAGE, load_explanation, load_page, save_page
from glasshouse.models.classifier import Classifier
from glasshouse.runs import folder as runs
from glasshouse.storage import write_bytes
from glasshouse.training.state import TrainingState

_METHOD: MethodName = "grad-cam"


def fixed_images(images: ImageSet, count: int) -> ImageSet:
    """The first images of each class in turn: one of every class before a second of any.

    The label of each is the one that is explained, also where an image may have several; no image
    is chosen twice. Raises DataError where no image has a label.
    """
    turns = sorted(
        (turn, label, int(place))
        for label in range(len(images.class_names))
        for turn, place in enumerate(images.rows_with(label)[: 2 * count])
    )
    chosen: dict[int, int] = {}
    for _, label, place in turns:
        if len(chosen) < count:
            chosen.setdefault(place, label)
    if not chosen:
        raise DataError("none of the validation images has a label, so no snapshot shows one")
    few = take(images, list(chosen))
    return replace(few, targets=np.asarray(list(chosen.values()), dtype=np.int64), masks=None)


def snapshot_count(run: Path, wanted: int) -> int:
    """How many images to explain: in a resumed run as many as before."""
    before = _folders(run)
    return len(_loaded(before[0])) if before else wanted


def take_snapshot(
    run: Path, state: TrainingState, classifier: Classifier, images: ImageSet
) -> None:
    """Explain the labels of the images with the present weights, and redraw the strip.

    Works on a copy of the network, so that training is unaffected. Raises UsageError for
    a network without a layer that a map could be drawn at.
    """
    _snapshot(run, state.epoch, replace(classifier, net=_current_net(state)), images)


def snapshot_seconds(classifier: Classifier, images: ImageSet) -> float:
    """Seconds of a snapshot of these images here, once the strip has reached its full width."""
    with tempfile.TemporaryDirectory(prefix="glasshouse-snapshots-") as folder:
        run = Path(folder)
        _snapshot(run, 0, classifier, images)  # imports, kernels, fonts
        for number in range(1, COLUMNS):
            shutil.copytree(_folder(run, 0), _folder(run, number))
        started = time.perf_counter()
        _snapshot(run, COLUMNS, classifier, images)
        return time.perf_counter() - started


def draw_snapshots(run: Path) -> Path:
    """Draw the strip of all snapshots in a run folder; returns its path."""
    folders = _folders(run)
    found = [(_title(folder), _loaded(folder)) for folder in folders]
    path = run / runs.SNAPSHOT_STRIP
    strip = draw_strip(found, thresholds=load_page(folders[-1]).thresholds)
    write_bytes(path, to_png(strip))
    return path


def describe_snapshots(run: Path) -> str:
    """A caption for the strip, with the number of images classified correctly at the end."""
    page = load_page(_folders(run)[-1])
    (last,) = page.explanations
    what = "the true class"
    right = last.logits.argmax(1) == last.targets
    end = "are classified correctly"
    if page.thresholds is not None:
        what, end = "a label that each has", "have that label with a probability of 50 % or more"
        right = last.logits[np.arange(len(last)), last.targets] >= 0
    return (
        f"The same {len(last)} validation images after each epoch: evidence for {what} "
        f"({METHODS[_METHOD].title} at {last.layer}), with its probability. Each row has one "
        f"colour scale. "
        f"At the end {int(right.sum())} of {len(last)} {end}."
    )


def _snapshot(run: Path, epoch: int, now: Classifier, images: ImageSet) -> None:
    page = explain_page(now, images.pixels, methods=[_METHOD], target_class=images.labels)
    save_page(page, _folder(run, epoch), now)
    draw_snapshots(run)


def _folder(run: Path, epoch: int) -> Path:
    return run / runs.SNAPSHOTS / f"epoch-{epoch:04}"


def _current_net(state: TrainingState) -> nn.Module:
    net = copy.deepcopy(state.net)
    if state.averaged is not None:
        net.load_state_dict(state.averaged)
    return net.eval()


def _folders(run: Path) -> list[Path]:
    return sorted(page.parent for page in (run / runs.SNAPSHOTS).glob(f"epoch-*/{PAGE}"))


def _loaded(folder: Path) -> Explanation:
    return load_explanation(folder, _METHOD)


def _title(folder: Path) -> str:
    number = int(folder.name.removeprefix("epoch-"))
    return f"epoch {number}" if number else "untrained"
