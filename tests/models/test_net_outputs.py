import pytest
import torch

from glasshouse.errors import ModelError
from glasshouse.models.net_outputs import logits_at, place_of_logits


def test_the_number_of_classes_decides_where_several_values_have_rows() -> None:
    parts = {"features": torch.ones(2, 9), "out": torch.ones(2, 3)}
    assert place_of_logits(parts, 2, 3) == "out"
    with pytest.raises(ModelError, match=r"features: \(2, 9\), out: \(2, 3\)"):
        place_of_logits(parts, 2, None)
    assert place_of_logits((torch.ones(2, 9), torch.ones(2, 3)), 2, 3) == 1
    assert place_of_logits((torch.ones(2, 9), torch.ones(2, 3)), 2, None) == 0


def test_axes_of_one_value_are_left_out() -> None:
    assert logits_at(torch.ones(2, 3, 1, 1), None, 2).shape == (2, 3)
    assert logits_at(torch.ones(2), None, 2).shape == (2, 1)
    assert logits_at(torch.ones(()), None, 1).shape == (1, 1)
    with pytest.raises(ModelError, match=r"received the shape \(2, 3, 4, 4\)"):
        logits_at(torch.ones(2, 3, 4, 4), None, 2)
