import torch

from glasshouse.models.nearest_network import describe_nearest
from glasshouse.models.pretrained import build_net


def test_a_network_with_a_similar_name_is_found() -> None:
    weights = build_net("squeezenet1_1", None, {}).state_dict()
    words = describe_nearest("squeezenet1_0", "weights.pt", weights)
    assert words == "All its tensors fit squeezenet1_1: use that name."


def test_a_network_that_the_file_is_named_after_is_found() -> None:
    # torchvision has no such family, and the other name is of no use.
    weights = build_net("timm/test_vit", None, {}).state_dict()
    words = describe_nearest("squeezenet1_0", "test-vit.r160_in1k.pt", weights)
    assert words == "All its tensors fit test_vit: use that name."


def test_names_of_no_network_have_no_nearest_one() -> None:
    assert describe_nearest("squeezenet1_0", "w.pt", {"my.own.weight": torch.zeros(3)}) == ""
