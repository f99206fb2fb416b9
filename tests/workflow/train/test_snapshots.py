"""Explanations of fixed images during training, which must not change a byte of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glasshouse.errors import DataError
from glasshouse.explanation.store import load_explanation
from glasshouse.recipe import load_recipe
from glasshouse.storage import read_tensors
from glasshouse.training.state import Epoch
from glasshouse.workflow.train import snapshots
from glasshouse.workflow.train.experiment import TrainRequest, fit_experiment, open_experiment
from tests.conftest import make_images

SMALL = ["train.epochs=2", "data.train_limit=120", "train.precision=fp32", "train.ema_decay=0.9"]


def train(out: Path, count: int, *, until: int = 2, resume: bool = False) -> None:
    recipe = load_recipe("small-cnn", SMALL)
    experiment = open_experiment(
        TrainRequest("digits", recipe, out, resume=resume, snapshots=count)
    )
    for record in fit_experiment(experiment):
        if isinstance(record, Epoch) and record.epoch == until:
            break


def weights_of(run: Path) -> list[dict[str, bytes]]:
    """Every tensor of each checkpoint: weights, averages, the optimizer's state."""
    checkpoints = [read_tensors(path)[0] for path in sorted((run / "checkpoint").iterdir())]
    return [{name: value.numpy().tobytes() for name, value in c.items()} for c in checkpoints]


def test_snapshots_do_not_change_the_bytes_of_training_or_resuming(tmp_path: Path) -> None:
    train(tmp_path / "plain", 0)
    train(tmp_path / "watched", 3)
    train(tmp_path / "stopped", 3, until=1)
    train(tmp_path / "stopped", 0, resume=True)
    expected = weights_of(tmp_path / "plain")
    assert len(expected) == 2 and any("averaged" in name for name in expected[1])
    for run in (tmp_path / "watched", tmp_path / "stopped"):
        assert weights_of(run) == expected
        assert len(list((run / "snapshots").glob("epoch-*"))) == 3
    assert not (tmp_path / "plain" / "snapshots").exists()


def test_snapshots_show_the_same_images_with_the_weights_of_their_epoch(tmp_path: Path) -> None:
    train(tmp_path, 3, until=1)
    before, after = (
        load_explanation(page.parent, "grad-cam")
        for page in sorted(tmp_path.glob("snapshots/*/page.json"))
    )
    np.testing.assert_array_equal(before.images, after.images)
    assert len(set(before.targets.tolist())) == 3
    assert np.abs(before.maps - after.maps).max() > 0
    with Image.open(tmp_path / "snapshots" / "strip.png") as strip:
        assert strip.width > strip.height / 2
    assert "same 3 validation images" in snapshots.describe_snapshots(tmp_path)


@pytest.mark.parametrize(("count", "labels"), [(2, [0, 1]), (6, [0, 1, 2, 3, 0, 1])])
def test_the_fixed_images_cover_every_class(count: int, labels: list[int]) -> None:
    chosen = snapshots.fixed_images(make_images(16), count)
    assert chosen.labels.tolist() == labels
    assert len(set(chosen.ids.tolist())) == count


def test_of_several_labels_each_image_shows_one_and_none_shows_another() -> None:
    images = make_images(6)
    matrix = np.zeros((6, len(images.class_names)), dtype=np.bool_)
    # The first image has all labels; two have the last one; the others have none.
    matrix[0], matrix[[3, 4], -1] = True, True
    chosen = snapshots.fixed_images(replace(images, targets=matrix), 4)
    last = len(images.class_names) - 1
    assert chosen.labels.tolist() == [0, last, last]
    assert chosen.ids.tolist() == images.ids[[0, 3, 4]].tolist()
    with pytest.raises(DataError, match="none of the validation images has a label"):
        snapshots.fixed_images(replace(images, targets=matrix & False), 4)
