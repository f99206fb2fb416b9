"""Many image files for a classifier, decoded on all processors."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from glasshouse.data.decode import Pixels, decode, read_file
from glasshouse.data.headers import FileLosses, losses_of, warn_of_losses
from glasshouse.data.workers import decode_files
from glasshouse.errors import BadImage
from glasshouse.models.classifier import Classifier
from glasshouse.models.preprocessing import Preprocessing, preprocess

# Of the files of a batch.
_MOST_BYTES = 32 << 20
# Starting the decoding processes takes longer than decoding fewer files than this.
_WORTH_PROCESSES = 16


def batches_of(paths: Sequence[Path], most: int) -> Iterator[list[Path]]:
    """Consecutive files, at most this many and about 32 MB at a time.

    Answers of other batches may differ in their last digit, so that all who predict files take
    these.
    """
    batch: list[Path] = []
    size = 0
    for path in paths:
        batch.append(path)
        with contextlib.suppress(OSError):
            size += path.stat().st_size
        if len(batch) == most or size >= _MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def read_image_files(paths: Sequence[Path], classifier: Classifier) -> list[Pixels | BadImage]:
    """Each file as the classifier takes it, uint8 ``(3, h, w)``, or why it cannot be read.

    In the order of the paths, with the pixels of `read_images`. Warns of what
    predictions of these files do not see.
    """
    read = _read_here if len(paths) < _WORTH_PROCESSES else _read_in_processes
    found = read(paths, classifier.preprocessing)
    warn_of_losses([(str(path), losses) for path, (_, losses) in zip(paths, found, strict=True)])
    return [result for result, _ in found]


# The pixels of a file, or why it cannot be read, and what they leave out.
_Read = tuple[Pixels | BadImage, FileLosses]


def _read_here(paths: Sequence[Path], wanted: Preprocessing) -> list[_Read]:
    def read(path: Path) -> _Read:
        name = str(path)
        try:
            data = read_file(path)
            return preprocess(decode(data, name=name), wanted), losses_of(data, name)
        except BadImage as error:
            return error, FileLosses()

    return list(map(read, paths))


def _read_in_processes(paths: Sequence[Path], wanted: Preprocessing) -> list[_Read]:
    found: dict[int, _Read] = {}
    for result in decode_files(paths, wanted.fitting):
        losses = result.header.losses if result.header else FileLosses()
        if result.pixels:
            pixels = np.frombuffer(result.pixels, np.uint8)
            shape = 3, wanted.height, wanted.width
            found[result.position] = pixels.reshape(shape), losses
        else:
            found[result.position] = BadImage(paths[result.position], result.reason), losses
    return [found[number] for number in range(len(paths))]
