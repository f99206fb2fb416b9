import math
from typing import Any

import pytest

from glasshouse.errors import RecipeError, UsageError
from glasshouse.settings import PerEpoch, TrainSettings
from glasshouse.training.schedules import (
    EveryStep,
    depends_on_epochs,
    fitted_to,
    learning_rate,
    rate_of,
    require_rate,
    with_peak,
)


def settings(schedule: dict[str, Any], **more: Any) -> TrainSettings:
    peak = {} if schedule["type"] == "per_epoch" else {"lr": 0.1}
    return TrainSettings.model_validate({"epochs": 10, **peak, "schedule": schedule, **more})


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ({"type": "constant"}, {0: 0.1, 9.99: 0.1}),
        ({"type": "step", "every": 4, "factor": 0.5}, {3.99: 0.1, 4: 0.05, 8: 0.025}),
        ({"type": "exponential", "final": 0.01}, {0: 0.1, 5: 0.01, 10: 0.001}),
        ({"type": "cosine"}, {0: 0.1, 5: 0.05, 10: 0.0}),
        ({"type": "one_cycle", "rise": 0.3, "start": 0.1}, {0: 0.01, 3: 0.1, 10: 4e-7}),
        ({"type": "triangular", "cycle": 4, "base": 0.2}, {0: 0.02, 2: 0.1, 4: 0.02, 6: 0.1}),
        ({"type": "triangular", "rise": 0.2, "base": 0.0}, {0: 0.0, 2: 0.1, 6: 0.05, 10: 0.0}),
        (
            {"type": "triangular", "cycle": 4, "base": 0.0, "halve": True},
            {2: 0.1, 6: 0.05, 10: 0.025},
        ),
        ({"type": "per_epoch", "rates": [0.3, 0.2]}, {0: 0.3, 0.99: 0.3, 1: 0.2, 9: 0.2}),
    ],
)
def test_rates_at_known_points(schedule: dict[str, Any], rates: dict[float, float]) -> None:
    for epoch, rate in rates.items():
        assert learning_rate(settings(schedule), epoch) == pytest.approx(rate, abs=1e-12)


def test_a_rounding_error_delays_no_step() -> None:
    # In floating point, three steps of 0.2 epochs are over after 2.9999999999999996 of them.
    assert 0.6 / 0.2 < 3
    short = settings({"type": "step", "every": 0.2, "factor": 0.5})
    assert learning_rate(short, 0.6) == pytest.approx(0.1 / 8)
    assert learning_rate(short, 0.599) == pytest.approx(0.1 / 4)
    ten_tenths = sum([0.1] * 10)
    assert ten_tenths < 1
    listed = settings({"type": "per_epoch", "rates": [0.3, 0.2]})
    assert learning_rate(listed, ten_tenths) == 0.2


def test_warmup_rises_in_a_line_and_hands_over_without_a_jump() -> None:
    warm = settings({"type": "cosine"}, warmup_epochs=2)
    assert learning_rate(warm, 0) == 0
    assert learning_rate(warm, 1) == pytest.approx(0.05)
    assert learning_rate(warm, 2) == pytest.approx(0.1)
    assert learning_rate(warm, 10) == pytest.approx(0.0)


def test_a_triangle_ends_where_it_is_told_to() -> None:
    schedule = {"type": "triangular", "base": 0.2, "rise": 0.25, "end": 0.0}
    settings = TrainSettings.model_validate({"epochs": 8, "lr": 2.0, "schedule": schedule})
    rates = [learning_rate(settings, epoch) for epoch in (0, 1, 2, 5, 8)]
    assert rates == pytest.approx([0.4, 1.2, 2.0, 1.0, 0.0])
    cyclic = settings.model_copy(
        update={"schedule": settings.schedule.model_copy(update={"cycle": 4.0})}
    )
    rates = [learning_rate(cyclic, epoch) for epoch in (3.999999, 4, 8)]
    assert rates == pytest.approx([0.4, 0.4, 0.0], abs=1e-5)


@pytest.mark.parametrize(
    "schedule",
    [
        {"type": "step", "every": 3, "factor": 0.5},
        {"type": "cosine"},
        {"type": "one_cycle"},
        {"type": "triangular", "cycle": 5},
        {"type": "per_epoch", "rates": [0.1, 0.2, 0.1, 0.05, 0.01, 0.01, 0.01, 0.01, 0.001, 0.001]},
    ],
)
def test_a_schedule_fitted_to_other_epochs_has_the_same_shape(schedule: dict[str, Any]) -> None:
    own = settings(schedule, warmup_epochs=1)
    fitted = fitted_to(own, 20)
    assert fitted.epochs == 20
    for position in (0.01, 0.13, 0.4, 0.72, 0.96):
        expected = learning_rate(own, 10 * position)
        assert learning_rate(fitted, 20 * position) == pytest.approx(expected)


def test_a_constant_rate_is_annealed_when_it_is_fitted() -> None:
    fitted = fitted_to(TrainSettings(epochs=10, lr=0.1), 3)
    assert learning_rate(fitted, 0) == 0.1
    assert learning_rate(fitted, 2.99) < 0.001


@pytest.mark.parametrize(
    ("schedule", "depends"),
    [
        ({"type": "constant"}, False),
        ({"type": "step", "every": 3}, False),
        ({"type": "per_epoch", "rates": [0.1]}, False),
        ({"type": "exponential"}, True),
        ({"type": "cosine"}, True),
        ({"type": "one_cycle"}, True),
        ({"type": "triangular"}, True),
        ({"type": "triangular", "cycle": 4}, False),
        ({"type": "triangular", "cycle": 4, "end": 0.0}, True),
    ],
)
def test_more_epochs_change_the_first_rates_of_some_schedules(
    schedule: dict[str, Any], depends: bool
) -> None:
    own = settings(schedule).schedule
    assert depends_on_epochs(own) == depends
    rates = [
        [learning_rate(settings(schedule, epochs=epochs), epoch / 8) for epoch in range(64)]
        for epochs in (8, 14)
    ]
    assert (rates[0] != rates[1]) == depends


@pytest.mark.parametrize(
    ("schedule", "epochs", "changed"),
    [
        ({"type": "step", "every": 4.0}, 5, {"every": 2.0}),
        ({"type": "triangular", "cycle": 4.0}, 15, {"cycle": 6.0}),
        ({"type": "triangular"}, 15, {"cycle": None}),
        ({"type": "per_epoch", "rates": [0.5, 0.4, 0.3]}, 5, {"rates": (0.5, 0.3, 0.3, 0.3, 0.3)}),
        ({"type": "per_epoch", "rates": [0.5, 0.4, 0.3]}, 20,
         {"rates": (0.5, 0.5, 0.4, 0.4, *[0.3] * 16)}),
        ({"type": "cosine", "final": 0.2}, 5, {"final": 0.2}),
    ],
)  # fmt: skip
def test_a_schedule_is_stretched_by_the_ratio_of_the_epochs(
    schedule: dict[str, Any], epochs: int, changed: dict[str, Any]
) -> None:
    fitted = fitted_to(settings(schedule, warmup_epochs=2), epochs)
    assert (fitted.epochs, fitted.warmup_epochs) == (epochs, epochs / 5)
    assert fitted.schedule.model_dump() | changed == fitted.schedule.model_dump()


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        # Between base and peak, in straight lines.
        ({"type": "triangular", "base": 0.2, "rise": 0.4},
         {0: 0.02, 2: 0.06, 4: 0.1, 7: 0.06, 10: 0.02}),
        ({"type": "triangular", "base": 0.2, "rise": 0.5, "cycle": 4.0, "halve": True},
         {2: 0.1, 3: 0.06, 4: 0.02, 6: 0.06, 7: 0.04, 8: 0.02, 10: 0.04}),
        ({"type": "triangular", "base": 0.2, "cycle": 5.0, "end": 0.1},
         {5: 0.02, 7.5: 0.1, 8.75: 0.055, 10: 0.01}),
        ({"type": "triangular", "base": 0.2, "cycle": 4.0, "end": 0.1},
         {4: 0.02, 6: 0.1, 7: 0.06, 8: 0.02, 10: 0.1}),
        ({"type": "one_cycle", "rise": 0.4, "start": 0.2, "final": 0.1},
         {0: 0.02, 1: 0.02 + 0.08 * (1 - 0.5**0.5) / 2, 2: 0.06, 4: 0.1, 7: 0.055, 10: 0.01}),
        ({"type": "cosine", "final": 0.2}, {5: 0.06, 10: 0.02}),
        ({"type": "exponential", "final": 0.25}, {5: 0.05, 10: 0.025}),
    ],
)  # fmt: skip
def test_rates_on_the_way(schedule: dict[str, Any], rates: dict[float, float]) -> None:
    for epoch, rate in rates.items():
        assert learning_rate(settings(schedule), epoch) == pytest.approx(rate), epoch


def test_curves_begin_after_the_warmup_and_listed_rates_do_not_move() -> None:
    cycle = settings({"type": "one_cycle", "rise": 0.25, "start": 0.5}, warmup_epochs=2)
    rates = [learning_rate(cycle, epoch) for epoch in (1, 1.5, 2, 4)]
    assert rates == pytest.approx([0.05, 0.075, 0.05, 0.1])
    listed = settings({"type": "per_epoch", "rates": [0.4, 0.3, 0.2, 0.1]}, warmup_epochs=2)
    assert [learning_rate(listed, epoch) for epoch in (1, 2, 3)] == pytest.approx([0.2, 0.2, 0.1])
    # Where nothing but warm-up is left.
    all_warm = settings({"type": "cosine"}, warmup_epochs=10)
    assert learning_rate(all_warm, 10) == pytest.approx(0.1)


def test_a_function_is_asked_once_per_epoch_and_one_of_every_step_each_time() -> None:
    asked: list[float] = []

    def rate(epoch: float) -> float:
        asked.append(epoch)
        return epoch / 10

    once, always = (rate_of(each, TrainSettings()) for each in (rate, EveryStep(rate)))
    assert [once(epoch) for epoch in (0.0, 0.5, 0.99, 1.0, 1.5)] == [0, 0, 0, 0.1, 0.1]
    assert asked == [0, 1]
    assert [always(epoch) for epoch in (0.5, 0.5)] == [0.05, 0.05]
    assert asked == [0, 1, 0.5, 0.5]


def test_a_function_of_two_arguments_has_the_rate_before_as_from_keras() -> None:
    asked: list[tuple[int, float]] = []

    def halved(epoch: int, lr: float) -> float:
        asked.append((epoch, lr))
        return lr if epoch < 2 else lr / 2

    rate = rate_of(halved, TrainSettings(lr=0.8))
    assert [rate(epoch) for epoch in (0, 0.5, 1, 2, 2.9, 3)] == [0.8, 0.8, 0.8, 0.4, 0.4, 0.2]
    assert asked == [(0, 0.8), (1, 0.8), (2, 0.8), (3, 0.4)]
    # A run that continues has the rates of one that did not stop.
    assert rate_of(halved, TrainSettings(lr=0.8))(3) == 0.2


@pytest.mark.parametrize("returned", [None, "fast", math.nan, math.inf, -0.1, [0.1]])
def test_what_is_no_learning_rate_is_named_with_its_epoch(returned: Any) -> None:
    for rate in (lambda epoch: returned, EveryStep(lambda epoch: returned)):
        with pytest.raises(UsageError, match=r"rate: expected a learning rate.* epoch 3; received"):
            rate_of(rate, TrainSettings())(3)


@pytest.mark.parametrize("rate", [0.1, lambda: 0.1, lambda epoch, lr, more: lr])
def test_what_cannot_be_asked_for_a_rate_is_refused(rate: Any) -> None:
    with pytest.raises(UsageError, match="rate: expected a function of the epoch"):
        require_rate(rate, TrainSettings())


@pytest.mark.parametrize("rate", [math.sqrt, abs, lambda *given: 0.1, EveryStep(lambda epoch: 0.1)])
def test_any_function_that_takes_an_epoch_will_do(rate: Any) -> None:
    require_rate(rate, TrainSettings())
    assert rate_of(rate, TrainSettings())(0) >= 0


@pytest.mark.parametrize("rate", [lambda epoch: 0.1, EveryStep(lambda epoch: 0.1)])
def test_settings_that_a_function_of_the_epoch_replaces_are_refused(rate: Any) -> None:
    with pytest.raises(UsageError, match="warmup_epochs has no effect together with rate"):
        require_rate(rate, TrainSettings(warmup_epochs=1))
    with pytest.raises(UsageError, match="lr='auto' has no effect together with rate"):
        require_rate(rate, TrainSettings(lr="auto"))


def test_a_function_of_the_rate_before_begins_with_the_one_that_is_found() -> None:
    require_rate(lambda epoch, lr: lr / 2, TrainSettings(lr="auto"))


def test_the_peak_of_listed_rates_need_not_be_set() -> None:
    assert settings({"type": "per_epoch", "rates": [0.2, 0.3]}).lr == 0.3
    assert TrainSettings(schedule=PerEpoch(rates=(0.2, 0.3, 0.1))).lr == 0.3
    assert settings({"type": "cosine"}).lr == 0.1 and TrainSettings().lr == 0.001
    # With a range test, none is needed either.
    assert TrainSettings(lr="auto", schedule=PerEpoch(rates=(0.2,))).lr == "auto"


def test_another_peak_than_that_of_listed_rates_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"train.lr = 0.001, but .* 0.3: set train.lr=0.3"):
        TrainSettings(lr=0.001, schedule=PerEpoch(rates=(0.2, 0.3)))


def test_listed_rates_are_scaled_to_another_peak() -> None:
    scaled = with_peak(settings({"type": "per_epoch", "rates": [0.2, 0.3, 0.1]}), 0.7)
    assert [learning_rate(scaled, epoch) for epoch in range(3)] == pytest.approx(
        [1.4 / 3, 0.7, 0.7 / 3]
    )
    # The settings are still valid, to the last bit.
    assert TrainSettings.model_validate(scaled.model_dump()) == scaled
    cosine = settings({"type": "cosine"})
    assert with_peak(cosine, 0.7) == cosine.model_copy(update={"lr": 0.7})


def test_listed_rates_without_their_highest_have_another_peak() -> None:
    rising = settings({"type": "per_epoch", "rates": [0.1, 0.2, 0.3, 0.9]}, epochs=4)
    fitted = fitted_to(rising, 2)
    assert [learning_rate(fitted, epoch) for epoch in range(2)] == [0.1, 0.3]
    assert TrainSettings.model_validate(fitted.model_dump()).lr == 0.3
    auto = rising.model_copy(update={"lr": "auto"})
    assert fitted_to(auto, 2).lr == "auto"
