"""The shapes of the tensors of every network of torchvision and timm, in a table.

Building a thousand networks takes minutes; comparing a weights file with the table takes
milliseconds. The table is made by ``bench/structure_table.py`` with the versions that it names.
Networks that are newer than it are not in it.
"""

import json
import lzma
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from glasshouse.models.known_names import ASSETS

TABLE = ASSETS / "structures.json.xz"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Structure:
    """Networks whose tensors have the same names and shapes, the shortest name first.

    shapes: how many tensors have each shape; without the head and without counters, which are
    single numbers.
    """

    names: tuple[str, ...]
    shapes: Mapping[Shape, int]


def count_shapes(shapes: Iterable[Shape]) -> Counter[Shape]:
    """How many tensors have each shape; single numbers, such as counters, are left out."""
    return Counter(shape for shape in shapes if shape)


@cache
def known_structures() -> tuple[Structure, ...]:
    """All structures of the table."""
    content = json.loads(lzma.decompress(TABLE.read_bytes()))
    shapes = [tuple(shape) for shape in content["shapes"]]
    return tuple(
        Structure(
            tuple(each["names"]),
            {shapes[number]: count for number, count in each["tensors"]},
        )
        for each in content["structures"]
    )


def table_content(structures: Iterable[Structure], versions: Mapping[str, str]) -> bytes:
    """The content of the table's file, compressed."""
    rows = list(structures)
    shapes = sorted({shape for row in rows for shape in row.shapes})
    numbers = {shape: number for number, shape in enumerate(shapes)}
    content: dict[str, Any] = {
        **versions,
        "shapes": shapes,
        "structures": [
            {
                "names": row.names,
                "tensors": sorted((numbers[shape], count) for shape, count in row.shapes.items()),
            }
            for row in rows
        ],
    }
    return lzma.compress(json.dumps(content, separators=(",", ":")).encode(), preset=9)


def nearest_structures(
    given: Counter[Shape], names: Collection[str]
) -> tuple[list[Structure], float]:
    """The structures that share most shapes with a file, and the share, from 0 to 1.

    The share is Dice's: twice the tensors in common, divided by the tensors of both. names: those
    of the installed versions, since the table may be of others.
    """
    best: list[Structure] = []
    highest = 0.0
    total = given.total()
    for known in known_structures():
        each = Structure(tuple(name for name in known.names if name in names), known.shapes)
        if not each.names:
            continue
        common = sum(min(count, given[shape]) for shape, count in each.shapes.items())
        share = 2 * common / max(total + sum(each.shapes.values()), 1)
        if share > highest:
            best, highest = [], share
        if share == highest and share > 0:
            best.append(each)
    return best, highest
