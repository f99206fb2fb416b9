"""What a run says it was made with."""

from typing import Any

import pytest
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


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", "cpu"), ("mps", "mps"), ("cuda:1", "H100 as cuda:1")]
)
def test_the_device_is_the_one_that_trains(
    device: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda given: f"H100 as {given}")
    found = describe_environment(torch.device(device), torch.float32, ThreadChoice(1))
    assert found["device"] == expected


def test_what_was_measured_of_the_threads_is_named_where_it_was() -> None:
    measured = described(ThreadChoice(1, {2: 26.44, 1: 880.25}))
    assert measured["threads"] == 1
    assert measured["thread_rates"] == {"1": 880.2, "2": 26.4}
    assert "thread_rates" not in described(ThreadChoice(2))
