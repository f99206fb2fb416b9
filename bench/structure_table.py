"""Write the table of the structures of all networks, ``assets/structures.json.xz``, anew.

Run it after a new version of timm or torchvision; it takes two to five minutes. Networks are built
without memory, all but some of torchvision's (3 GB), and with a number of classes that equals no
other size, which tells the head from the rest.
"""

import warnings
from collections import defaultdict
from collections.abc import Mapping

import timm
import torchvision

from glasshouse.models import pretrained
from glasshouse.models.structures import TABLE, Structure, count_shapes, table_content

_CLASSES = 7919


def main() -> None:
    warnings.simplefilter("ignore")
    alike = defaultdict[frozenset[tuple[str, tuple[int, ...]]], list[str]](list)
    for name in sorted(pretrained.network_names()):
        alike[body_shapes(name)].append(name)
    write(alike)


def write(alike: Mapping[frozenset[tuple[str, tuple[int, ...]]], list[str]]) -> None:
    """alike: the names of the networks with equal tensors."""
    structures = [
        Structure(tuple(sorted(names, key=by_length)), count_shapes(shape for _, shape in shapes))
        for shapes, names in alike.items()
    ]
    versions = {"timm": timm.__version__, "torchvision": torchvision.__version__.partition("+")[0]}
    TABLE.write_bytes(table_content(sorted(structures, key=lambda each: each.names), versions))
    print(f"{len(structures)} structures, {TABLE.stat().st_size / 1e3:.0f} kB in {TABLE}")


def body_shapes(name: str) -> frozenset[tuple[str, tuple[int, ...]]]:
    """The names and shapes of a network's tensors without its head."""
    state = pretrained.bare_net(name, _CLASSES, {}).state_dict()
    shapes = ((key, tuple(value.shape)) for key, value in state.items())
    return frozenset((key, shape) for key, shape in shapes if _CLASSES not in shape)


def by_length(name: str) -> tuple[int, str]:
    return len(name), name


if __name__ == "__main__":
    main()
