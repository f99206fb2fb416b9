"""The test of whether an output has the rows and columns of the image, on maps that are known."""

import pytest
import torch

from glasshouse.explanation.graph.region_test import _ACROSS, RegionTest, _regions


@pytest.mark.parametrize(("side", "wrong_allowed"), [(2, 0), (_ACROSS, _ACROSS**2 // 4)])
def test_three_quarters_of_the_regions_have_to_agree_and_four_of_four(
    side: int, wrong_allowed: int
) -> None:
    rows = _regions(side)
    maps = torch.zeros(1 + _ACROSS**2, 1, side, side)
    shown = []
    for region in range(_ACROSS**2):
        row, column = divmod(region, _ACROSS)
        cells = (rows == row)[:, None] & (rows == column)
        maps[1 + region, 0] = cells.float()
        if cells.any():
            shown.append(1 + region)
    test = RegionTest(torch.zeros(1, 3, 18, 18))
    assert test.score(test.changes(maps, maps[:1]), (side, side)) == 1.0
    # In a circle, each shows the change of another region.
    for count, is_enough in ((wrong_allowed, True), (wrong_allowed + 2, False)):
        wrong = maps.clone()
        if count > 1:
            wrong[shown[:count]] = maps[[*shown[1:count], shown[0]]]
        changes = torch.cat([test.changes(part, wrong[:1]) for part in torch.split(wrong, 5)])
        assert (test.score(changes, (side, side)) > 0) == is_enough


@pytest.mark.parametrize(("side", "length"), [(224, 10), (480, 5), (768, 2), (2000, 2)])
def test_large_images_are_tried_in_batches_of_one_length(side: int, length: int) -> None:
    test = RegionTest(torch.zeros(1, 3, side, side))
    parts = list(test.parts())
    assert {len(part) for part in parts} == {length}
    assert torch.equal(torch.cat(parts), test.images)
