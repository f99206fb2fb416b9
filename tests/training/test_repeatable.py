"""Threads and algorithms are set for a computation, and are the caller's after it."""

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from glasshouse.settings import TrainSettings
from glasshouse.training import repeatable as module
from glasshouse.training.repeatable import in_threads_of, repeatable, threads_of

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("given", "inside"),
    [
        ({}, 2),
        ({"threads": 1}, 1),
        ({"threads": 2}, 2),
        ({"threads": 3}, 3),
        # Kernels would sum in another order.
        ({"shards": 2}, 1),
        ({"shards": 2, "threads": 3}, 1),
    ],
)
def test_threads_are_those_of_the_settings_and_one_for_shards(
    given: dict[str, Any], inside: int
) -> None:
    settings = TrainSettings.model_validate(given)
    with pytest.raises(KeyError), threads_of(settings):
        assert torch.get_num_threads() == inside
        raise KeyError
    assert torch.get_num_threads() == 2

    def records() -> Iterator[int]:
        yield torch.get_num_threads()
        yield torch.get_num_threads()

    seen = []
    for record in in_threads_of(settings, CPU, records()):
        assert torch.get_num_threads() == 2
        seen.append(record)
    assert seen == [inside, inside]


class Algorithms:
    """Torch's settings of algorithms, as another machine might have them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, before: bool) -> None:
        self.chosen = (before, not before)
        self.cudnn = SimpleNamespace(benchmark=before, allow_tf32=True)
        self.fills = SimpleNamespace(fill_uninitialized_memory=before)
        monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: self.chosen[0])
        monkeypatch.setattr(
            torch, "is_deterministic_algorithms_warn_only_enabled", lambda: self.chosen[1]
        )
        monkeypatch.setattr(torch, "use_deterministic_algorithms", self.use)
        monkeypatch.setattr(torch.backends, "cudnn", self.cudnn)
        monkeypatch.setattr(torch.utils, "deterministic", self.fills)
        monkeypatch.setattr(module, "_ignore_warning_of_pooling", lambda: None)
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    def use(self, mode: bool, *, warn_only: bool) -> None:
        self.chosen = (mode, warn_only)

    @property
    def all(self) -> tuple[bool, ...]:
        return (*self.chosen, self.cudnn.benchmark, self.fills.fill_uninitialized_memory)


@pytest.mark.parametrize("before", [False, True])
def test_a_gpu_computes_by_algorithms_that_repeat(
    monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    algorithms = Algorithms(monkeypatch, before=before)
    known = algorithms.all
    with pytest.raises(KeyError), repeatable(GPU):
        assert algorithms.all == (True, True, False, False)
        raise KeyError
    assert algorithms.all == known
    with repeatable(CPU):
        assert algorithms.all == known
    seen = [algorithms.all for _ in in_threads_of(TrainSettings(), GPU, iter([1, 2]))]
    assert seen == [known, known]


def test_a_gpu_trains_in_float32_whatever_was_called_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    algorithms = Algorithms(monkeypatch, before=False)
    with repeatable(CPU):
        assert algorithms.cudnn.allow_tf32
    for _ in range(2):
        algorithms.cudnn.allow_tf32 = True
        with repeatable(GPU):
            assert not algorithms.cudnn.allow_tf32
        # For the whole process, since another thread may compute.
        assert not algorithms.cudnn.allow_tf32


def test_the_warning_of_pooling_is_ignored_where_warnings_are_caught_as_well() -> None:
    words = "max_pool2d_with_indices_backward_cuda does not have a deterministic implementation"
    for _ in range(2):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            module._ignore_warning_of_pooling()
            filters = list(warnings.filters)
            module._ignore_warning_of_pooling()
            assert warnings.filters == filters
            warnings.warn(words, stacklevel=1)
            warnings.warn("adaptive_avg_pool2d_backward_cuda does not have one", stacklevel=1)
        assert [str(each.message) for each in seen] == [
            "adaptive_avg_pool2d_backward_cuda does not have one"
        ]
