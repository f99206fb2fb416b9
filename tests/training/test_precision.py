import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from glasshouse.settings import TrainSettings
from glasshouse.training import precision


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    for known in (precision._cpu_has, precision._is_intel):
        known.cache_clear()
    yield
    for known in (precision._cpu_has, precision._is_intel):
        known.cache_clear()


def on_processor(monkeypatch: pytest.MonkeyPatch, maker: str, *known: str) -> None:
    """A machine whose processor has these instructions."""
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: dict.fromkeys(known, True), raising=False
    )
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(platform, "processor", lambda: f"Family 6 Model 207, {maker}")


def test_newer_versions_of_torch_are_asked_in_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_tile": True}, raising=False)
    assert precision.has_matrix_tiles()


@pytest.mark.parametrize("answer", [True, False])
def test_older_versions_of_torch_are_asked_in_private(
    answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: answer, raising=False)
    assert precision.has_matrix_tiles() == answer


def test_a_torch_that_cannot_be_asked_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("get_capabilities", "_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not precision.has_matrix_tiles()
    assert not precision.computes_in_bf16(torch.device("cpu"))


@pytest.mark.parametrize(
    ("maker", "known", "is_faster"),
    [
        ("AuthenticAMD", (), False),
        ("AuthenticAMD", ("avx2",), False),
        ("AuthenticAMD", ("avx512_bf16",), True),
        # Half as fast as float32 there: 213 and 404 GFLOP/s on a Xeon whose tiles were hidden.
        ("GenuineIntel", ("avx512_bf16",), False),
        ("GenuineIntel", ("avx512_bf16", "amx_tile"), True),
        ("GenuineIntel", ("amx_tile",), True),
    ],
)
def test_bf16_is_used_by_processors_that_are_faster_in_it(
    monkeypatch: pytest.MonkeyPatch, maker: str, known: tuple[str, ...], is_faster: bool
) -> None:
    on_processor(monkeypatch, maker, *known)
    cpu = torch.device("cpu")
    assert precision.computes_in_bf16(cpu) == is_faster
    assert not precision.computes_in_bf16(torch.device("mps"))
    assert precision.has_matrix_tiles() == ("amx_tile" in known)
    chosen = {
        wanted: precision.choose_precision(TrainSettings.model_validate({"precision": wanted}), cpu)
        for wanted in ("auto", "fp32", "bf16")
    }
    auto = torch.bfloat16 if is_faster else torch.float32
    assert chosen == {"auto": auto, "fp32": torch.float32, "bf16": torch.bfloat16}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_linux_says_who_made_the_processor() -> None:
    makers = re.findall(r"vendor_id\s*: (\w+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    assert precision._is_intel() == ("GenuineIntel" in makers)


@pytest.mark.parametrize(("capability", "is_faster"), [((7, 9), False), ((8, 0), True)])
def test_bf16_is_used_by_gpus_from_a_generation_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], is_faster: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.computes_in_bf16(torch.device("cuda")) == is_faster
