from collections import Counter

import pytest

from glasshouse.models.pretrained import WeightNames, network_names, weight_names
from glasshouse.models.structures import (
    TABLE,
    Structure,
    count_shapes,
    known_structures,
    nearest_structures,
)

# One of each library, without a head of one layer, with a hybrid stem, and with equals.
SAMPLE = (
    "resnet18", "squeezenet1_0", "vit_tiny_patch16_224", "legacy_seresnet18", "convnext_atto",
    "timm/mobilenetv3_small_050", "levit_128s", "efficientnet_b0", "mixer_s32_224", "googlenet",
)  # fmt: skip


def _body(known: WeightNames) -> Counter[tuple[int, ...]]:
    return count_shapes(shape for key, shape in known.shapes.items() if key not in known.head)


@pytest.mark.parametrize("name", SAMPLE)
def test_the_table_has_the_shapes_of_the_library(name: str) -> None:
    bare = name if name in network_names() else name.removeprefix("timm/")
    if bare not in network_names():
        pytest.skip(f"{bare} is not in the installed version")
    (row,) = (each for each in known_structures() if bare in each.names)
    assert row.shapes == _body(weight_names(bare, {}))


def test_the_table_has_each_network_once_and_is_small() -> None:
    names = [name for each in known_structures() for name in each.names]
    assert len(set(names)) == len(names) > 1300
    assert len(network_names() - set(names)) < 0.2 * len(names)
    assert TABLE.stat().st_size < 200_000


def test_networks_of_equal_structure_are_in_one_row_the_shortest_name_first() -> None:
    (row,) = (each for each in known_structures() if "resnet18" in each.names)
    assert row.names[0] == "resnet18" and "timm/resnet18" in row.names
    assert [len(name) for name in row.names] == sorted(len(name) for name in row.names)


def test_the_nearest_structure_has_neither_fewer_tensors_nor_more() -> None:
    given = _body(weight_names("resnet26", {}))
    # All of them are in larger networks, too; a head of another size is not in the table.
    found, share = nearest_structures(given + Counter([(7, 2048), (7,)]), network_names())
    assert [each.names[0] for each in found] == ["resnet26"]
    assert share == pytest.approx(2 * given.total() / (2 * given.total() + 2))


def test_a_network_that_is_not_installed_is_not_named() -> None:
    given = _body(weight_names("resnet18", {}))
    found, _ = nearest_structures(given, {"timm/resnet18", "resnet34"})
    assert [each.names for each in found] == [("timm/resnet18",)]
    assert isinstance(found[0], Structure)
