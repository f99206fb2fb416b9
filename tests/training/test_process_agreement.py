"""Processes that do not agree are named, and what they exchange has the same bytes in all."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from glasshouse.data.images import Splits
from glasshouse.errors import ProcessError, UsageError
from glasshouse.training import process_agreement
from glasshouse.training.process_agreement import (
    Member,
    require_alike,
    require_equal,
    require_own_gpus,
    require_same_weights,
    share_state,
)
from glasshouse.training.process_group import ALONE, ProcessGroup, require_processes_fit
from glasshouse.training.state import begin
from tests.training.test_shard_sum import MIXED, settings, setup, state_bytes

CPU = torch.device("cpu")
MEMBER = Member("node1", "2.14", "Xeon, AVX512", "images", "gradients")


@dataclass(frozen=True)
class Recorded(ProcessGroup):
    """A group of two whose other process has sent this."""

    other: Any = None

    def gather(self, value: Any) -> list[Any]:
        return [self.other, value] if self.rank else [value, self.other]

    def told(self, value: Any) -> Any:
        return self.other if self.rank else value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"torch": "2.13"}, r"process 2 on node3 has torch 2.13, and process 0 on node1 has 2.14"),
        ({"images": "others"}, r"the images of process 2 on node3 are not those of process 0"),
        ({"gradients": "others", "processor": "EPYC"}, r"process 2 on node3 \(EPYC\) computes"),
    ],
)
def test_a_node_that_differs_is_named(change: dict[str, str], message: str) -> None:
    require_equal([MEMBER] * 3)
    with pytest.raises(ProcessError, match=message):
        require_equal([MEMBER, MEMBER, replace(MEMBER, node="node3", **change)])


def test_every_process_computes_the_same_gradients_for_it(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    sent: list[Member] = []

    class Listening(ProcessGroup):
        def gather(self, value: Any) -> list[Any]:
            if isinstance(value, Member):
                sent.append(value)
            return [value]

    before = {name: tensor.clone() for name, tensor in tiny_net.state_dict().items()}
    for rank in (0, 1):
        given = replace(setup(tiny_splits, settings(), MIXED), group=Listening(rank, 2))
        require_alike(tiny_net, given, "images")
    assert sent[0] == sent[1]
    assert all(torch.equal(before[name], now) for name, now in tiny_net.state_dict().items())
    with torch.no_grad():
        next(tiny_net.parameters()).add_(1e-3)
    require_alike(tiny_net, given, "images")
    assert sent[2].gradients != sent[0].gradients


def test_weights_that_drift_stop_the_run(tiny_net: nn.Module) -> None:
    state = begin(tiny_net, settings(), CPU)
    require_same_weights(state, ALONE)
    with pytest.raises(ProcessError, match=r"process 1 on node7 are no longer those of process 0"):
        require_same_weights(state, Recorded(0, 2, other=("else", "node7")))


def test_a_process_takes_over_the_state_of_the_first(tiny_net: nn.Module) -> None:
    first, other = (begin(tiny_net, settings(ema_decay=0.9), CPU) for _ in range(2))
    with torch.no_grad():
        for parameter in first.net.parameters():
            parameter.mul_(3)
    first.epoch, first.step = 3, 7
    sent: list[Any] = []

    class Telling(ProcessGroup):
        def told(self, value: Any) -> Any:
            sent.append(value)
            return value

    share_state(first, Telling(0, 2))
    share_state(other, Recorded(1, 2, other=sent[0]))
    assert state_bytes(other) == state_bytes(first)
    assert (other.epoch, other.step) == (3, 7)


@pytest.mark.parametrize(("processes", "shards"), [(1, 1), (1, 8), (2, 8), (8, 8), (4, 16)])
def test_shards_are_shared_out_evenly_and_in_order(processes: int, shards: int) -> None:
    require_processes_fit(processes, shards)
    own = [ProcessGroup(rank, processes).share_of(shards) for rank in range(processes)]
    assert [shard for each in own for shard in each] == list(range(shards))


@pytest.mark.parametrize(
    ("processes", "shards", "message"),
    [
        (3, 8, r"expected a power of two, such as 2 or 4"),
        (6, 8, r"expected a power of two, such as 4 or 8"),
        (2, 1, r"Add --set train\.shards=2"),
        (8, 4, r"Add --set train\.shards=8"),
    ],
)
def test_other_numbers_are_refused(processes: int, shards: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        require_processes_fit(processes, shards)


def test_each_process_needs_a_gpu_of_its_own() -> None:
    # As where a launcher shows each process one GPU, which is the first that it sees.
    require_own_gpus([("node1", "GPU-a"), ("node1", "GPU-b"), ("node2", "0"), ("node3", "0")])
    require_own_gpus([("node1", None)] * 4)
    with pytest.raises(UsageError) as refused:
        require_own_gpus([("node1", "GPU-a"), ("node2", "GPU-b"), ("node2", None)] * 2)
    assert str(refused.value) == (
        "processes 0 and 3 on node1 compute on the same GPU, but each needs one of its own: start "
        "no more processes on a machine than it has GPUs, and use --device cuda without a number; "
        "or use --device cpu"
    )


def test_a_gpu_is_known_whichever_ones_a_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {None: "GPU-a", 0: "GPU-a", 1: "GPU-b"}
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(uuid=known[device.index]),
    )
    found = [process_agreement._gpu_of(torch.device(name)) for name in ("cuda", "cuda:1", "cpu")]
    assert found == ["GPU-a", "GPU-b", None]


def test_a_gpu_without_an_identity_has_its_number_among_those_a_process_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert process_agreement._gpu_of(torch.device("cuda")) == "2 of all"
    assert process_agreement._gpu_of(torch.device("cuda:1")) == "1 of all"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert process_agreement._gpu_of(torch.device("cuda:0")) == "0 of 3"


def test_processes_that_have_one_gpu_are_refused_before_they_compute(
    tiny_net: nn.Module, tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Same(ProcessGroup):
        def gather(self, value: Any) -> list[Any]:
            return [value, value]

    monkeypatch.setattr(process_agreement, "_gpu_of", lambda device: "GPU-a")
    given = replace(setup(tiny_splits, settings(), MIXED), group=Same(0, 2))
    with pytest.raises(UsageError, match=r"processes 0 and 1 on .* compute on the same GPU"):
        require_alike(tiny_net, given, "images")


def test_the_kernels_are_named_by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"H100 as {device}")
    assert process_agreement._kernels(torch.device("cuda:1")) == "H100 as cuda:1"
    assert process_agreement._kernels(CPU) == torch.backends.cpu.get_cpu_capability()


def test_drifted_weights_are_told_with_their_place_and_what_to_do(tiny_net: nn.Module) -> None:
    state = begin(tiny_net, settings(), CPU)
    state.epoch, state.step = 2, 5
    own: list[Any] = []

    class Group(ProcessGroup):
        def gather(self, value: Any) -> list[Any]:
            own[:] = [value, (value[0], "node2"), ("others", "node3"), ("others", "node4")]
            return own

    with pytest.raises(ProcessError) as refused:
        require_same_weights(state, Group(0, 4))
    assert str(refused.value) == (
        f"the weights of process 2 on node3 are no longer those of process 0 on {own[0][1]} after "
        "epoch 2, step 5: nothing more is saved. Check the memory of that node, and resume from "
        "the last checkpoint"
    )


def test_what_differs_is_told_in_order_of_what_explains_it() -> None:
    other = replace(MEMBER, node="n2", torch="2.13", images="x", gradients="y", processor="EPYC")
    words = [
        "process 1 on n2 has torch 2.13, and process 0 on node1 has 2.14, which compute other "
        "bytes: install one version on all nodes",
        "the images of process 1 on n2 are not those of process 0 on node1: copy the same files to "
        "all nodes",
        "process 1 on n2 (EPYC) computes other bytes than process 0 on node1 (Xeon, AVX512): train "
        "on nodes with one kind of processor or GPU",
    ]
    for expected, fixed in zip(words, ("", "torch", "images"), strict=True):
        if fixed:
            other = replace(other, **{fixed: getattr(MEMBER, fixed)})
        with pytest.raises(ProcessError) as refused:
            require_equal([MEMBER, other])
        assert str(refused.value) == expected
    require_equal([MEMBER, replace(other, gradients="gradients")])  # the processor alone is fine


def test_processes_of_a_cluster_do_not_share_the_gpu_of_a_mac_either(
    tiny_net: nn.Module, tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_agreement, "device_of", lambda net: torch.device("mps"))
    with pytest.raises(UsageError, match="MPS, the only GPU of a Mac: add --device cpu"):
        require_alike(tiny_net, setup(tiny_splits, settings(), MIXED), "images")


@pytest.mark.parametrize(
    ("device", "hashes", "expected"),
    [("cuda", ["a", "a"], "a"), ("cuda", ["a", "b"], ""), ("cpu", ["a", "b"], "a")],
)
def test_gradients_that_a_gpu_does_not_repeat_are_not_compared(
    tiny_net: nn.Module,
    tiny_splits: Splits,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    hashes: list[str],
    expected: str,
) -> None:
    found, made = iter(hashes), iter([SimpleNamespace(shards=[None])])
    monkeypatch.setattr(process_agreement, "device_of", lambda net: torch.device(device))
    monkeypatch.setattr(process_agreement, "as_in_training", lambda *_: nullcontext())
    monkeypatch.setattr(process_agreement, "prepare_images", lambda *_: None)
    monkeypatch.setattr(process_agreement, "batches", lambda *_, **__: made)
    monkeypatch.setattr(process_agreement, "_hash_of_pass", lambda *_: next(found))
    given = setup(tiny_splits, settings(), MIXED)
    assert process_agreement._gradients(tiny_net, given) == expected


def test_where_gradients_are_not_repeated_the_processor_has_to_be_the_same() -> None:
    chance = replace(MEMBER, node="n2", gradients="")
    require_equal([MEMBER, chance, replace(MEMBER, gradients="others")])
    with pytest.raises(ProcessError, match=r"process 2 on n3 \(EPYC\) computes other bytes"):
        require_equal([MEMBER, chance, replace(chance, node="n3", processor="EPYC")])
    with pytest.raises(ProcessError, match=r"process 1 on n2 has torch 2\.13"):
        require_equal([MEMBER, replace(chance, torch="2.13")])
