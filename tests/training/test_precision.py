from collections.abc import Iterator

import pytest
import torch

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
