"""What a run says it was made with."""

from typing import Any

import timm
import torch
import torchvision

from glasshouse.training.thread_choice import ThreadChoice
from glasshouse.workflow.train.environment import describe_environment


def described(threads: ThreadChoice) -> dict[str, Any]:
    return describe_environment(torch.device("cpu"), torch.float32, threads)


def test_libraries_that_pretrained_networks_come_from_are_named_with_their_versions() -> None:
    found = described(ThreadChoice(2))["versions"]
    for library in (timm, torch, torchvision):
        # The build, such as +cpu, may be left out.
        assert library.__version__.startswith(found[library.__name__].partition("+")[0])


def test_what_was_measured_of_the_threads_is_named_where_it_was() -> None:
    measured = described(ThreadChoice(1, {2: 26.44, 1: 880.25}))
    assert measured["threads"] == 1
    assert measured["thread_rates"] == {"1": 880.2, "2": 26.4}
    assert "thread_rates" not in described(ThreadChoice(2))
