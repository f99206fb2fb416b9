"""Random state is set for a computation, and is the caller's after it."""

import pytest
import torch

from glasshouse.models.random_state import kept_random_state, seeded

CPU = torch.device("cpu")


@pytest.mark.parametrize("fails", [False, True])
def test_numbers_follow_the_seed_and_the_callers_go_on(fails: bool) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    found = []
    for seed in (1, 1, 2):
        try:
            with seeded(CPU, seed):
                found.append(torch.rand(3))
                if fails:
                    raise KeyError
        except KeyError:
            assert fails
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(("device", "seeds"), [("cuda:1", [1]), ("cuda", [2]), ("cpu", [])])
def test_the_generator_of_the_gpu_that_computes_is_seeded(
    monkeypatch: pytest.MonkeyPatch, device: str, seeds: list[int]
) -> None:
    generators = [torch.Generator() for _ in range(3)]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    before = [each.initial_seed() for each in generators]
    with seeded(torch.device(device), 77):
        assert torch.initial_seed() == 77
        inside = [each.initial_seed() for each in generators]
        assert [n for n in range(3) if inside[n] == 77] == seeds
    assert [each.initial_seed() for each in generators] == before


def test_the_generator_of_mps_is_seeded_and_the_callers_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(3)
    monkeypatch.setattr(torch.mps, "_get_default_mps_generator", lambda: generator)
    mps = torch.device("mps")
    wanted = torch.rand(3, generator=torch.Generator().manual_seed(3))
    found = []
    for _ in range(2):
        with seeded(mps, 77):
            found.append(torch.rand(3, generator=generator))
    assert torch.equal(*found) and generator.initial_seed() == 3
    with kept_random_state(mps):
        assert torch.equal(torch.rand(3, generator=generator), wanted)
    assert torch.equal(torch.rand(3, generator=generator), wanted)
