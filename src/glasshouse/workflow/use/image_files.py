"""Many image files for a classifier, decoded on all processors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glasshouse.data.decode import Pixels
from glasshouse.data.headers import FileLosses, decode_file, warn_of_losses
from glasshouse.data.workers import decode_files
from glasshouse.errors import BadImage
from glasshouse.models.classifier import Classifier
from glasshouse.models.preprocessing import preprocess

# Starting the decoding processes takes longer than decoding fewer files than this.
_WORTH_PROCESSES = 16


def read_image_files(paths: Sequence[Path], classifier: Classifier) -> list[Pixels | BadImage]:
    """Each file as the classifier takes it, uint8 ``(3, h, w)``, or why it cannot be read.

    In the order of the paths, with the pixels of `read_images`. Warns of what
    predictions of these files do not see.
    """
    if len(paths) < _WORTH_PROCESSES:
        return [_read_or_error(path, classifier) for path in paths]
    wanted = classifier.preprocessing
    found: dict[int, Pixels | BadImage] = {}
    losses: dict[str, FileLosses] = {}
    for result in decode_files(paths, wanted.fitting):
        if result.pixels:
            pixels = np.frombuffer(result.pixels, np.uint8)
            found[result.position] = pixels.reshape(3, wanted.height, wanted.width)
            if result.header:
                losses[str(paths[result.position])] = result.header.losses
        else:
            found[result.position] = BadImage(paths[result.position], result.reason)
    warn_of_losses(sorted(losses.items()))
    return [found[number] for number in range(len(paths))]


def _read_or_error(path: Path, classifier: Classifier) -> Pixels | BadImage:
    try:
        return preprocess(decode_file(path), classifier.preprocessing)
    except BadImage as error:
        return error
