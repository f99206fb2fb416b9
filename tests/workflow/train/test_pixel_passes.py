"""How often the pixels of a source are read before the first training step: once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glasshouse.data import cache, cache_entry, pixel_blocks
from glasshouse.data.image_checks import check
from glasshouse.data.images import Splits
from glasshouse.recipe import load_recipe
from glasshouse.training.loop import Step
from glasshouse.workflow.train.experiment import TrainRequest, fit_experiment, open_experiment
from tests.data.image_files import write_folder


class Reads:
    """Counts the bytes of pixels that are read, from files and from arrays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        copy_rows, file_blocks = pixel_blocks._copy_rows, cache_entry.file_blocks

        def counting_rows(images: np.ndarray, positions: np.ndarray) -> np.ndarray:
            rows = copy_rows(images, positions)
            self.bytes += rows.nbytes
            return rows

        def counting_blocks(file: Any, *arguments: Any) -> Iterator[bytes]:
            for block in file_blocks(file, *arguments):
                self.bytes += len(block)
                yield block

        monkeypatch.setattr(pixel_blocks, "_copy_rows", counting_rows)
        for module in (cache, cache_entry):
            monkeypatch.setattr(module, "file_blocks", counting_blocks)

    def taken(self) -> int:
        """The bytes since the last call."""
        count, self.bytes = self.bytes, 0
        return count


def request(source: str, out: Path) -> TrainRequest:
    recipe = load_recipe(
        "small-cnn", ["data.image_size=8", "model.scaling=standardize", "train.epochs=1"]
    )
    return TrainRequest(source=source, recipe=recipe, out=out, command="test")


def pixel_bytes(splits: Splits) -> int:
    return sum(part.pixels.nbytes for part in (splits.train, splits.validation, splits.test))


@pytest.mark.parametrize("source", ["folder", "digits"])
def test_the_pixels_are_read_once_before_the_first_step(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "folder":
        source = str(write_folder(tmp_path / "images", {"ant": 30, "bee": 30, "cat": 30}))
    reads = Reads(monkeypatch)
    # Cold, where the cache is written; then warm, where its checksum is verified.
    for name in ("cold", "warm"):
        experiment = open_experiment(request(source, tmp_path / name))
        assert reads.taken() == pixel_bytes(experiment.splits)
        records = fit_experiment(experiment)
        assert isinstance(next(records), Step)
        # A memory map is read for its batches; an array in memory is indexed by torch.
        is_mapped = isinstance(experiment.splits.train.pixels, np.memmap)
        assert reads.taken() == (experiment.splits.train.pixels.nbytes if is_mapped else 0)
        # The full check needs no pixels of images this small: thumbnails have 16x16.
        check(experiment.splits)
        assert reads.taken() == 0
