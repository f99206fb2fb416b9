"""Torch's random state for a computation on a device, then that of the caller."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """A context after which the generators of the CPU and of the device are as before it."""
    # Not torch.random.fork_rng, which takes a hundred times as long at every step.
    generators = _generators(device)
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """A context with torch seeded; the caller's random state returns afterwards."""
    with kept_random_state(device):
        # Not torch.manual_seed, which seeds all other devices as well.
        for generator in _generators(device):
            generator.manual_seed(seed)
        yield


def _generators(device: torch.device) -> list[torch.Generator]:
    """Those of the CPU and of the device."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    if device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    return generators
