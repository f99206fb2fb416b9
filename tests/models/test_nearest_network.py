import torch

from glasshouse.models.nearest_network import describe_nearest
from glasshouse.models.pretrained import build_net


def test_a_network_with_a_similar_name_is_found() -> None:
    weights = build_net("squeezenet1_1", None, {}).state_dict()
    words = describe_nearest("squeezenet1_0", "weights.pt", weights)
    assert words == "All its tensors fit squeezenet1_1: use that name."


def test_names_of_no_network_have_no_nearest_one() -> None:
    assert describe_nearest("squeezenet1_0", "w.pt", {"my.own.weight": torch.zeros(3)}) == ""
