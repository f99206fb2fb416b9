import os
from types import SimpleNamespace

import pytest
import torch

from glasshouse.errors import UsageError
from glasshouse.models import devices
from glasshouse.models.bundled import load_bundled


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_the_first_of_cuda_mps_and_cpu_that_is_there(
    has_cuda: bool, has_mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert devices.choose_device("auto") == torch.device(expected)


@pytest.mark.parametrize("name", ["warp", "meta", "cuda:77", "cpu:x", ""])
def test_a_device_that_this_machine_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"device '{name}' is not available .*Expected auto, cpu"):
        devices.choose_device(name)


def test_a_network_is_moved_to_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    # The one device other than the CPU that is there on every machine.
    monkeypatch.setattr(devices, "choose_device", torch.device)
    moved = devices.use_device(load_bundled("cifar10-small"), "meta")
    assert {p.device.type for p in moved.net.parameters()} == {"meta"}


def test_convolutions_compute_in_float32_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    for name in ("cpu", "mps"):
        devices.compute_exactly(torch.device(name))
        assert cudnn.allow_tf32 and "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    devices.compute_exactly(torch.device("cuda:1"))
    assert not cudnn.allow_tf32 and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    devices.compute_exactly(torch.device("cuda"))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
