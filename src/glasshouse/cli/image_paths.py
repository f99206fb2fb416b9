"""Image files named by paths, folders, quoted patterns, or a list on standard input."""

import glob
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glasshouse.errors import BadImage, DataError

if TYPE_CHECKING:
    from glasshouse.data.decode import Pixels
    from glasshouse.models.classifier import Classifier

# Images in memory at the same time.
_DECODED = 256


def image_paths(names: Sequence[Path]) -> list[Path]:
    """The files that arguments stand for, in order.

    A folder stands for the image files below it, a pattern such as ``photos/*.jpg`` for the files
    that match, and ``-`` for the names on standard input, one per line or each ended by a zero
    byte. Other names stay, also those of files that do not exist. Raises DataError when nothing is
    left, or when standard input is an image instead of names.
    """
    found = [path for name in names for path in _paths_of(name)]
    if not found:
        raise DataError(f"no image file in {', '.join(map(str, names))}")
    return found


def readable_batches(
    paths: Sequence[Path], classifier: "Classifier", bad: list[BadImage], *, most: int
) -> "Iterator[tuple[list[Path], Pixels]]":
    """Batches of files that could be read, with their images; the others are added to bad.

    most: files of a batch.
    """
    import numpy as np

    from glasshouse.workflow.use.image_files import batches_of, read_image_files

    batches = batches_of(paths, most)
    while together := list(itertools.islice(batches, max(1, _DECODED // most))):
        # Many at once, as decoding processes have to be started.
        decoded = iter(read_image_files([*itertools.chain(*together)], classifier))
        for batch in together:
            # Pairs, not a dict: a file may be named twice.
            pairs = list(zip(batch, itertools.islice(decoded, len(batch)), strict=True))
            bad += [found for _, found in pairs if isinstance(found, BadImage)]
            read = [(path, found) for path, found in pairs if not isinstance(found, BadImage)]
            if read:
                yield [path for path, _ in read], np.stack([pixels for _, pixels in read])


def end_with_bad_files(bad: Sequence[BadImage]) -> None:
    """Name the files that could not be read, and end with their exit code if there are any."""
    import typer

    from glasshouse.cli.progress_bars import say

    for error in bad:
        say(f"glasshouse: {error}")
    if bad:
        raise typer.Exit(bad[0].exit_code)


def _paths_of(name: Path) -> list[Path]:
    if str(name) == "-":
        return _paths_on_standard_input()
    from glasshouse.cli.early_checks import is_found

    if is_found(name.is_dir):
        from glasshouse.cli.progress_bars import say
        from glasshouse.data.class_folders import image_files

        images, notes = image_files(name)
        for note in notes:
            say(f"glasshouse: {name}: {note}")
        return list(images)
    # A file may have brackets in its name, so a pattern is what no file is called.
    if not is_found(name.exists) and glob.has_magic(str(name)):
        # Not Path.glob, which takes no absolute pattern.
        found = map(Path, sorted(glob.glob(str(name), recursive=True)))  # noqa: PTH207
        return [path for path in found if not is_found(path.is_dir)]
    return [name]


def _paths_on_standard_input() -> list[Path]:
    data = sys.stdin.buffer.read()  # not text: names are bytes, and an image is not UTF-8
    # What `find -print0` writes, since a name may contain the end of a line.
    lines = data.split(b"\0") if data.endswith(b"\0") else data.splitlines()
    if any(b"\0" in line for line in lines):
        raise DataError(
            "standard input has bytes that no file name has: expected the names of image files, "
            "one per line, not an image itself"
        )
    return [Path(os.fsdecode(line)) for line in lines if line.strip()]
