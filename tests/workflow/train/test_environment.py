"""What a run says it was made with."""

import timm
import torch
import torchvision

from glasshouse.workflow.train.environment import describe_environment


def test_libraries_that_pretrained_networks_come_from_are_named_with_their_versions() -> None:
    found = describe_environment(torch.device("cpu"), torch.float32)["versions"]
    for library in (timm, torch, torchvision):
        # The build, such as +cpu, may be left out.
        assert library.__version__.startswith(found[library.__name__].partition("+")[0])
