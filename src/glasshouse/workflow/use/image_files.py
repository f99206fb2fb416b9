"""Many image files for a classifier, decoded on all processors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glasshouse.data.decode import Pixels, decode, read_file
from glasshouse.data.headers import FileLosses, losses_of, warn_of_losses
from glasshouse.data.workers import decode_files
from glasshouse.errors import BadImage
from glasshouse.models.classifier import Classifier
from glasshouse.models.preprocessing import Preprocessing, preprocess

# Starting the decoding processes takes longer than decoding fewer files than this.
_WORTH_PROCESSES = 16


def read_image_files(paths: Sequence[Path], classifier: Classifier) -> list[Pixels | BadImage]:
    """Each file as the classifier takes it, uint8 ``(3, h, w)``, or why it cannot be read.

    In the order of the paths, with the pixels of `read_images`. Warns of what
    predictions of these files do not see.
    """
    read = _read_here if len(paths) < _WORTH_PROCESSES else _read_in_processes
    losses: dict[str, FileLosses] = {}
    found = read(paths, classifier.preprocessing, losses)
    warn_of_losses(sorted(losses.items()))
    return found


def _read_here(
    paths: Sequence[Path], wanted: Preprocessing, losses: dict[str, FileLosses]
) -> list[Pixels | BadImage]:
    def pixels_of(path: Path) -> Pixels | BadImage:
        name = str(path)
        try:
            data = read_file(path)
            pixels = preprocess(decode(data, name=name), wanted)
        except BadImage as error:
            return error
        losses[name] = losses_of(data, name)
        return pixels

    return list(map(pixels_of, paths))


def _read_in_processes(
    paths: Sequence[Path], wanted: Preprocessing, losses: dict[str, FileLosses]
) -> list[Pixels | BadImage]:
    found: dict[int, Pixels | BadImage] = {}
    for result in decode_files(paths, wanted.fitting):
        if result.pixels:
            pixels = np.frombuffer(result.pixels, np.uint8)
            found[result.position] = pixels.reshape(3, wanted.height, wanted.width)
            if result.header:
                losses[str(paths[result.position])] = result.header.losses
        else:
            found[result.position] = BadImage(paths[result.position], result.reason)
    return [found[number] for number in range(len(paths))]
