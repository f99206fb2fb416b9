"""Whether the processes of one training agree: before the first step, and at each checkpoint."""

import copy
import os
import platform
import socket
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import SGD

from glasshouse.data.batches import Batch, Cut, batches, prepare_images
from glasshouse.errors import ProcessError, UsageError
from glasshouse.models.predict import device_of
from glasshouse.storage import sha256_of_bytes, tensors_to_bytes
from glasshouse.training.loop import TrainingSetup, backward
from glasshouse.training.process_group import ProcessGroup, require_shareable_device
from glasshouse.training.repeatable import as_in_training
from glasshouse.training.state import TrainingState, packed_state, unpack_state


@dataclass(frozen=True)
class Member:
    """A process: its node, its software and processor, and hashes of its images and gradients.

    gradients: empty where its GPU computes others each time.
    """

    node: str
    torch: str
    processor: str
    images: str
    gradients: str


def require_alike(net: nn.Module, setup: TrainingSetup, images: str) -> None:
    """Raise ProcessError, naming a process, unless all compute the same from the same images.

    Raises UsageError for devices on which processes cannot train together.

    Every process computes the gradients of the very first shard for it, on a copy of the network.
    images: a hash of them.
    """
    device = device_of(net)
    require_shareable_device(device)
    require_own_gpus(setup.group.gather((socket.gethostname(), _gpu_of(device))))
    processor = f"{platform.processor() or platform.machine()}, {_kernels(device)}"
    own = Member(socket.gethostname(), torch.__version__, processor, images, _gradients(net, setup))
    require_equal(setup.group.gather(own))


def require_own_gpus(found: list[tuple[str, str | None]]) -> None:
    """Raise UsageError, naming two processes, unless each computes on a GPU of its own.

    found: the node of each process and what identifies its GPU; None where it computes on the CPU.
    """
    ranks: dict[tuple[str, str], int] = {}
    for rank, (node, gpu) in enumerate(found):
        first = rank if gpu is None else ranks.setdefault((node, gpu), rank)
        if first != rank:
            raise UsageError(
                f"processes {first} and {rank} on {node} compute on the same GPU, but each needs "
                "one of its own: start no more processes on a machine than it has GPUs, and use "
                "--device cuda without a number; or use --device cpu"
            )


def require_equal(members: list[Member]) -> None:
    """Raise ProcessError, naming the first process that differs from process 0, and in what."""
    first = members[0]
    are_repeated = all(member.gradients for member in members)
    for rank, other in enumerate(members):
        here, there = f"process {rank} on {other.node}", f"process 0 on {first.node}"
        if other.torch != first.torch:
            raise ProcessError(
                f"{here} has torch {other.torch}, and {there} has {first.torch}, which compute "
                "other bytes: install one version on all nodes"
            )
        if other.images != first.images:
            raise ProcessError(
                f"the images of {here} are not those of {there}: copy the same files to all nodes"
            )
        is_alike = other.processor == first.processor
        if are_repeated:
            is_alike = other.gradients == first.gradients
        if not is_alike:
            raise ProcessError(
                f"{here} ({other.processor}) computes other bytes than {there} "
                f"({first.processor}): train on nodes with one kind of processor or GPU"
            )


def require_same_weights(state: TrainingState, group: ProcessGroup) -> None:
    """Raise ProcessError, naming a process, unless all have the same weights and moments."""
    if group.size == 1:
        return
    own = sha256_of_bytes(tensors_to_bytes(packed_state(state)[0], {}))
    found = group.gather((own, socket.gethostname()))
    for rank, (weights, node) in enumerate(found):
        if weights != found[0][0]:
            raise ProcessError(
                f"the weights of process {rank} on {node} are no longer those of process 0 on "
                f"{found[0][1]} after epoch {state.epoch}, step {state.step}: nothing more is "
                "saved. Check the memory of that node, and resume from the last checkpoint"
            )


def share_state(state: TrainingState, group: ProcessGroup) -> None:
    """Give every process the state of the first one, which alone reads checkpoints."""
    if group.size == 1:
        return
    tensors, metadata = packed_state(state)
    on_cpu = {name: tensor.cpu() for name, tensor in tensors.items()}
    sent = group.told((on_cpu, metadata) if group.is_first else ({}, {}))
    if not group.is_first:
        unpack_state(state, *sent)


def _gpu_of(device: torch.device) -> str | None:
    """What identifies a GPU on its node, whichever ones a process sees; None for the CPU."""
    if device.type != "cuda":
        return None
    unique = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    if unique is not None:
        return str(unique)
    # Not every build of torch for AMD knows it. A launcher may show each process only its own.
    number = torch.cuda.current_device() if device.index is None else device.index
    return f"{number} of {os.environ.get('CUDA_VISIBLE_DEVICES', 'all')}"


def _gradients(net: nn.Module, setup: TrainingSetup) -> str:
    """A hash of the gradients of a shard; empty where a GPU computes others each time."""
    settings, device = setup.settings, device_of(net)
    data = prepare_images(setup.train, device, settings.sampling, Cut(settings.shards, range(1)))
    made = batches(data, setup.augment, batch_size=settings.batch_size, seed=settings.seed, epoch=0)
    # Where torch knows no order for a sum, as where the windows of max pooling overlap, processes
    # would differ by chance. They need not agree: all get the one sum of each step.
    passes = 2 if device.type == "cuda" else 1
    with as_in_training(settings, device):
        shard = next(made).shards[0]
        hashes = {_hash_of_pass(net, setup, shard) for _ in range(passes)}
    return hashes.pop() if len(hashes) == 1 else ""


def _hash_of_pass(net: nn.Module, setup: TrainingSetup, shard: Batch) -> str:
    """A hash of the gradients of one forward and backward pass of a copy of the network."""
    own = copy.deepcopy(net).train()
    backward(TrainingState(own, SGD(own.parameters())), setup, shard, {})
    found = {
        name: parameter.grad.cpu().contiguous()
        for name, parameter in own.named_parameters()
        if parameter.grad is not None
    }
    return sha256_of_bytes(tensors_to_bytes(found, {}))


def _kernels(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()
