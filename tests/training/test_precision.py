from collections.abc import Iterator

import pytest
import torch

from glasshouse.settings import TrainSettings
from glasshouse.training import precision


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    precision._cpu_has.cache_clear()
    yield
    precision._cpu_has.cache_clear()


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
    ("known", "is_faster"),
    [((), False), (("avx512_bf16",), True), (("amx_tile",), True), (("avx2",), False)],
)
def test_bf16_is_used_by_processors_that_have_it(
    monkeypatch: pytest.MonkeyPatch, known: tuple[str, ...], is_faster: bool
) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: dict.fromkeys(known, True), raising=False
    )
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


@pytest.mark.parametrize(("capability", "is_faster"), [((7, 9), False), ((8, 0), True)])
def test_bf16_is_used_by_gpus_from_a_generation_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], is_faster: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.computes_in_bf16(torch.device("cuda")) == is_faster
