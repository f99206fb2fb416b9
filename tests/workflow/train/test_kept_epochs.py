"""Weights of epochs that are kept to look back at, which must not change a byte of training."""

from pathlib import Path

import pytest
import torch

from glasshouse.errors import StorageError
from glasshouse.recipe import load_recipe
from glasshouse.training.state import Epoch
from glasshouse.workflow.train import experiment
from glasshouse.workflow.train.experiment import TrainRequest, fit_experiment, open_experiment
from glasshouse.workflow.train.kept_epochs import kept_epochs, weights_of_epoch
from tests.workflow.train.test_snapshots import SMALL, weights_of


def train(out: Path, every: int, *, epochs: int = 4, until: int = 4, resume: bool = False) -> None:
    overrides = [*SMALL, f"train.epochs={epochs}", f"train.keep_every={every}"]
    opened = open_experiment(
        TrainRequest("digits", load_recipe("small-cnn", overrides), out, resume=resume)
    )
    for record in fit_experiment(opened):
        if isinstance(record, Epoch) and record.epoch == until:
            break


def files_of(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "epochs").iterdir()}


def test_kept_epochs_do_not_change_the_bytes_of_training_or_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "plain", 0)
    train(tmp_path / "kept", 1)
    train(tmp_path / "stopped", 1, until=1)
    with monkeypatch.context() as patch:  # a kill between the kept weights and the checkpoint
        patch.setattr(experiment, "save_checkpoint", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(tmp_path / "stopped", 1, resume=True)
    train(tmp_path / "stopped", 1, resume=True)
    assert weights_of(tmp_path / "kept") == weights_of(tmp_path / "plain")
    assert weights_of(tmp_path / "stopped") == weights_of(tmp_path / "plain")
    assert len(files_of(tmp_path / "kept")) == 4
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "kept")
    assert not (tmp_path / "plain" / "epochs").exists()
    assert kept_epochs(tmp_path / "plain") == [3, 4]


def test_kept_weights_are_those_that_the_epoch_was_validated_with(tmp_path: Path) -> None:
    train(tmp_path / "long", 1)
    train(tmp_path / "short", 0, until=2)
    kept, whole = (weights_of_epoch(tmp_path / run, 2) for run in ("long", "short"))
    assert kept.keys() == whole.keys()
    for name, values in whole.items():
        is_large = values.dim() > 1
        assert kept[name].dtype == (torch.float16 if is_large else values.dtype)
        torch.testing.assert_close(kept[name].float(), values.float(), rtol=5e-4, atol=1e-6)
    again = weights_of_epoch(tmp_path / "long", 4)  # of the checkpoint, where there is one
    assert all(values.dtype != torch.float16 for values in again.values())


def test_every_nth_epoch_is_kept(tmp_path: Path) -> None:
    train(tmp_path, 2, epochs=5, until=5)
    assert sorted(files_of(tmp_path)) == ["00002.safetensors", "00004.safetensors"]
    assert kept_epochs(tmp_path) == [2, 4, 5]
    with pytest.raises(StorageError):
        weights_of_epoch(tmp_path, 1)
