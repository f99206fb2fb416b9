"""Our schedules compared with PyTorch's schedulers, step by step."""

import warnings
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from glasshouse.settings import TrainSettings
from glasshouse.training.schedules import learning_rate

EPOCHS, STEPS = 6, 20
TOTAL = EPOCHS * STEPS


def torch_rates(make: Any, lr: float = 0.1) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    scheduler = make(optimizer)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer is never stepped here
        for _ in range(TOTAL):
            rates.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    return rates


def our_rates(schedule: dict[str, Any]) -> list[float]:
    settings = TrainSettings.model_validate({"epochs": EPOCHS, "lr": 0.1, "schedule": schedule})
    return [learning_rate(settings, step / STEPS) for step in range(TOTAL)]


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (
            {"type": "step", "every": 2, "factor": 0.3},
            lambda o: lr_scheduler.StepLR(o, 2 * STEPS, gamma=0.3),
        ),
        (
            {"type": "exponential", "final": 0.05},
            lambda o: lr_scheduler.ExponentialLR(o, 0.05 ** (1 / TOTAL)),
        ),
        (
            {"type": "cosine", "final": 0.1},
            lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.01),
        ),
        (
            {"type": "triangular", "cycle": 2, "base": 0.1},
            lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, STEPS, cycle_momentum=False),
        ),
        (
            {"type": "triangular", "cycle": 2, "base": 0.1, "halve": True},
            lambda o: lr_scheduler.CyclicLR(
                o, 0.01, 0.1, STEPS, mode="triangular2", cycle_momentum=False
            ),
        ),
    ],
)
def test_rates_equal_torchs(schedule: dict[str, Any], make: Any) -> None:
    assert our_rates(schedule) == pytest.approx(torch_rates(make), rel=1e-9)


def test_one_cycle_equals_torchs_up_to_its_step_count() -> None:
    # torch reaches the peak after rise * total - 1 steps and the end after total - 1 steps.
    rates = torch_rates(
        lambda o: lr_scheduler.OneCycleLR(
            o, 0.1, TOTAL, pct_start=0.25, div_factor=25, final_div_factor=1e4, cycle_momentum=False
        )
    )
    settings = TrainSettings.model_validate(
        {"epochs": 1, "lr": 0.1, "schedule": {"type": "one_cycle", "rise": 0.25}}
    )
    peak, last = 0.25 * TOTAL - 1, TOTAL - 1
    for step, rate in enumerate(rates):
        rising = step <= peak
        position = 0.25 * step / peak if rising else 0.25 + 0.75 * (step - peak) / (last - peak)
        assert learning_rate(settings, position) == pytest.approx(rate, rel=1e-9)
