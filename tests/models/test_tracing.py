"""Tracing replaces methods of nn.Module for all threads, which no other network may notice."""

import threading

import torch
from torch import nn

from glasshouse.models.tracing import called_once, layer_calls


def test_networks_run_in_other_threads_while_one_is_traced() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).eval()
    inputs = torch.rand(1, 3, 8, 8)
    expected = net(inputs)
    failures: list[BaseException] = []
    is_over = threading.Event()

    def run() -> None:
        while not is_over.is_set():
            try:
                assert torch.equal(net(inputs), expected)
            except BaseException as error:
                failures.append(error)
                return

    thread = threading.Thread(target=run)
    thread.start()
    traced = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(60)))
    for _ in range(20):
        assert len(called_once(layer_calls(traced))) == 120
    is_over.set()
    thread.join(120)
    assert not failures
