"""Many image files for a classifier, decoded on all processors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glasshouse.data.bit_depth import warn_of_narrow
from glasshouse.data.decode import Pixels
from glasshouse.data.headers import decode_file
from glasshouse.data.workers import decode_files
from glasshouse.errors import BadImage
from glasshouse.models.classifier import Classifier
from glasshouse.models.preprocessing import preprocess

# Starting the decoding processes takes longer than decoding fewer files than this.
_WORTH_PROCESSES = 16


def read_image_files(paths: Sequence[Path], classifier: Classifier) -> list[Pixels | BadImage]:
    """Each file as the classifier takes it, uint8 ``(3, h, w)``, or why it cannot be read.

    In the order of the paths, with the pixels of `read_images`. Warns of files that use few of the
    values that their type has.
    """
    if len(paths) < _WORTH_PROCESSES:
        return [_read_or_error(path, classifier) for path in paths]
    wanted = classifier.preprocessing
    found: dict[int, Pixels | BadImage] = {}
    narrow: dict[str, str] = {}
    for result in decode_files(paths, wanted.fitting):
        if result.pixels:
            pixels = np.frombuffer(result.pixels, np.uint8)
            found[result.position] = pixels.reshape(3, wanted.height, wanted.width)
            if result.header and result.header.narrow:
                narrow[str(paths[result.position])] = result.header.narrow
        else:
            found[result.position] = BadImage(paths[result.position], result.reason)
    warn_of_narrow(sorted(narrow.items()))
    return [found[number] for number in range(len(paths))]


def _read_or_error(path: Path, classifier: Classifier) -> Pixels | BadImage:
    try:
        return preprocess(decode_file(path), classifier.preprocessing)
    except BadImage as error:
        return error
