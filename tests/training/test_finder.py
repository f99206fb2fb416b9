from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.data.images import Splits, take
from glasshouse.errors import NoUsableRate, UsageError
from glasshouse.settings import PerEpoch, TrainSettings
from glasshouse.training import finder
from glasshouse.training.finder import RangeTest, _guess_loss, find_lr, with_found_rate
from glasshouse.training.lr_curve import (
    curve_from_json,
    curve_to_json,
    learned_part,
    minimum_tenth,
    read_curve,
    smooth,
    steepest,
    valley,
)
from tests.training.test_loop import settings, setup

LRS = np.geomspace(1e-6, 10, 141)
X = np.log10(LRS)


def textbook(fall_at: float = -3.0, rise_at: float = -0.5) -> Any:
    """Flat at 2.3, falling by 1.5 around one rate, exploding around another."""
    fall = 1.5 / (1 + np.exp(-6 * (X - fall_at)))
    rise = 4 / (1 + np.exp(-8 * (X - rise_at)))
    return 2.3 - fall + rise


def test_rules_find_their_points_on_a_textbook_curve() -> None:
    curve = textbook()
    assert np.log10(steepest(LRS, curve)) == pytest.approx(-3, abs=0.06)
    least = LRS[np.argmin(curve)]
    assert least / 10 < minimum_tenth(LRS, curve) < 10**-0.5 / 10
    assert steepest(LRS, curve) < valley(LRS, curve) < least


def flat_valley(low: float, high: float, dent: float) -> Any:
    """A net with BatchNorm: dear at first, then a floor from one rate to another, with a dent."""
    falls = 3.3 - 1.3 / (1 + np.exp(-5 * (X - low + 0.5)))
    rises = 2.0 / (1 + np.exp(-8 * (X - high - 0.4)))
    return falls + rises - 0.02 * np.exp(-0.5 * ((X - dent) / 0.05) ** 2)


@pytest.mark.parametrize("dent", [-2.6, -2.0, -1.4])
def test_the_end_of_a_flat_floor_counts_and_not_its_noisy_minimum(dent: float) -> None:
    result = read_curve(LRS, flat_valley(-3, -1.5, dent)[None], "minimum/10", guess_loss=2.3)
    assert result.suggestion == pytest.approx(10**-2.5, rel=0.5)
    assert result.suggestion is not None and result.max_lr is not None
    assert result.max_lr == pytest.approx(result.suggestion * 10 / 3)
    # A peak stays below the floor's end, where the loss is about to rise.
    assert 10**-2.5 < result.max_lr < 10**-1.5


def test_a_dip_after_the_minimum_is_not_the_steepest_fall() -> None:
    # While the loss explodes, it falls once more, faster than it ever did while it learned.
    curve = textbook() + 6 * np.exp(-0.5 * ((X - 0.3) / 0.1) ** 2)
    assert np.gradient(curve, X)[np.argmin(curve) :].min() < np.gradient(textbook(), X).min() - 1
    assert np.log10(steepest(LRS, curve)) == pytest.approx(-3, abs=0.06)


def test_a_class_without_images_adds_nothing_to_the_loss_of_guessing(tiny_splits: Splits) -> None:
    labels = tiny_splits.train.labels
    two = replace(tiny_splits, train=take(tiny_splits.train, np.flatnonzero(labels < 2)))
    assert _guess_loss(setup(two, settings())) == pytest.approx(np.log(2))
    balanced = settings(sampling="balanced")
    assert _guess_loss(setup(two, balanced)) == pytest.approx(np.log(2))
    # Smoothing gives each of the absent classes a twentieth.
    smooth_targets = settings(label_smoothing=0.2)
    shares = np.array([0.45, 0.45, 0.05, 0.05])
    expected = -(shares * np.log(shares)).sum()
    assert _guess_loss(setup(two, smooth_targets)) == pytest.approx(expected)


def test_the_loss_of_guessing_labels_is_the_mean_entropy_of_their_frequencies(
    tiny_splits: Splits,
) -> None:
    targets = np.zeros((96, 2), dtype=np.bool_)
    targets[:24, 0] = targets[:48, 1] = True
    train = replace(tiny_splits.train, targets=targets, class_names=("a", "b"))
    several = replace(tiny_splits, train=train, validation=train)
    entropies = [-(p * np.log(p) + (1 - p) * np.log(1 - p)) for p in (0.25, 0.5)]
    assert _guess_loss(setup(several, settings())) == pytest.approx(np.mean(entropies))


def test_reaching_the_loss_of_guessing_is_not_learning() -> None:
    dear = 2.3 + 1.5 / (1 + np.exp(6 * (X + 5)))  # at any rate, long before anything is learned
    result = read_curve(LRS, np.minimum(dear, dear - 2.3 + textbook())[None], "steepest",
                        guess_loss=2.3)  # fmt: skip
    assert result.suggestion is not None
    assert np.log10(result.suggestion) == pytest.approx(-3, abs=0.1)
    assert result.base_lr is not None
    assert np.log10(result.base_lr) == pytest.approx(-3.4, abs=0.2)
    from_the_first = np.minimum(2.3 + 1.5 * 10 ** -(X + 6), 9)
    told = read_curve(LRS, (from_the_first - 2.3 + textbook())[None], "valley", guess_loss=2.3)
    assert "lower the start" not in told.verdict


def test_a_hump_is_ignored_but_not_a_divergence() -> None:
    valley_loss = textbook(-4, -1)
    small = 0.9 * np.exp(-0.5 * ((X + 2.6) / 0.15) ** 2)
    plain = minimum_tenth(LRS, learned_part(valley_loss, 2.3))
    assert minimum_tenth(LRS, learned_part(valley_loss + small, 2.3)) == pytest.approx(plain)
    assert minimum_tenth(LRS, learned_part(valley_loss + 7 * small, 2.3)) < plain / 10


def test_the_endless_floor_of_a_dead_network_ends_where_it_begins() -> None:
    dead = 2.3 + 0.8 / (1 + np.exp(5 * (X + 4)))
    result = read_curve(LRS, dead[None], "minimum/10", guess_loss=2.3)
    assert result.suggestion is not None
    assert result.suggestion < 10**-4
    assert "guessing costs 2.30" in result.verdict


def test_one_lucky_seed_moves_the_band_more_than_the_suggestion() -> None:
    plain, lucky = textbook(-3, -1.5), textbook(-3, -0.3)
    agreed = read_curve(LRS, np.stack([plain, plain, plain]), "minimum/10")
    result = read_curve(LRS, np.stack([plain, plain, lucky]), "minimum/10")
    assert agreed.suggestion is not None and agreed.band is not None
    assert result.suggestion is not None and result.band is not None
    assert agreed.band[0] == agreed.band[1] == agreed.suggestion
    assert result.suggestion < 2 * agreed.suggestion
    assert result.band[0] == agreed.suggestion
    assert result.band[1] > result.suggestion


def test_the_suggestion_hardly_moves_with_noise() -> None:
    random = np.random.default_rng(0)
    noisy = np.stack([textbook() + random.normal(0, 0.08, len(X)) for _ in range(5)])
    result = read_curve(LRS, noisy, "steepest")
    assert result.suggestion is not None
    assert np.log10(result.suggestion) == pytest.approx(-3, abs=0.35)
    assert result.band is not None
    assert result.band[0] <= result.suggestion <= result.band[1]


def test_bounds_for_cyclical_schedules_enclose_the_fall() -> None:
    result = read_curve(LRS, textbook()[None], "valley")
    assert result.base_lr is not None
    assert result.max_lr is not None
    assert np.log10(result.base_lr) == pytest.approx(-3.4, abs=0.2)
    assert -3 < np.log10(result.max_lr) < -0.8


def test_smoothing_keeps_straight_lines_and_does_not_lag() -> None:
    line = 3 - 0.2 * X
    assert smooth(LRS, line) == pytest.approx(line)
    smoothed = smooth(LRS, textbook())
    assert np.argmin(np.gradient(smoothed)) == pytest.approx(
        np.argmin(np.gradient(textbook())), abs=1
    )


def test_losses_after_divergence_are_left_out() -> None:
    cut = textbook()
    cut[120:] = np.nan
    result = read_curve(LRS, cut[None], "valley")
    assert np.isnan(result.smoothed[0, 120:]).all()
    assert np.isfinite(result.smoothed[0, :120]).all()


@pytest.mark.parametrize(
    "flat", [np.full_like(X, 2.3), 2.3 + 0.5 * (X + 6), np.full_like(X, np.nan)]
)
def test_without_a_fall_there_is_no_suggestion_but_advice(flat: Any) -> None:
    result = read_curve(LRS, np.stack([flat, flat]), "valley")
    assert result.suggestion is None
    assert result.suggestions == {}
    assert "no usable valley" in result.verdict
    assert "Check the data" in result.verdict


def test_a_real_network_gets_a_learning_rate_that_trains(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    from tests.training.test_loop import trained

    wanted = settings(optimizer="sgd")
    test = RangeTest(start=1e-5, end=10, steps=60, seeds=2)
    result = find_lr(tiny_net, setup(tiny_splits, wanted), test=test)
    assert result.suggestion is not None
    state = trained(
        tiny_net, tiny_splits, settings(optimizer="sgd", lr=result.suggestion, epochs=6)
    )
    assert state.history[-1].validation_accuracy == 1.0


def test_equal_seeds_give_equal_curves(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    test = RangeTest(steps=20, seeds=2)
    first = find_lr(tiny_net, setup(tiny_splits, settings(), rotation_range=9), test=test)
    again = find_lr(tiny_net, setup(tiny_splits, settings(), rotation_range=9), test=test)
    assert np.array_equal(first.losses, again.losses, equal_nan=True)
    assert not np.array_equal(first.losses[0], first.losses[1])


def test_the_loss_of_guessing_follows_the_class_weights(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    labels = tiny_splits.train.labels
    few = take(tiny_splits.train, np.flatnonzero((labels != 0) | (np.cumsum(labels == 0) < 3)))
    counts = np.bincount(few.labels)
    assert counts[0] == 2 < counts[1]
    skewed = replace(setup(tiny_splits, settings()), train=few)
    balance = tuple((counts.sum() / len(counts) / counts).tolist())
    test = RangeTest(steps=20, seeds=1)
    plain = find_lr(tiny_net, skewed, test=test).guess_loss
    balanced = find_lr(tiny_net, replace(skewed, class_weights=balance), test=test).guess_loss
    assert plain < balanced == pytest.approx(np.log(len(counts)))


def test_wrong_arguments_are_named(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    with pytest.raises(UsageError, match="Did you mean 'valley'"):
        find_lr(tiny_net, setup(tiny_splits, settings()), rule="vally")
    for start, end in ((1.0, 0.1), (0.1, 0.1), (0.0, 0.1), (-1.0, 0.1), (1.0, None), (None, 1e-6)):
        with pytest.raises(UsageError, match=r"expected 0 < start < end, received start=.* and"):
            RangeTest(start=start, end=end).rates(settings())
    for steps, seeds in ((19, 1), (20, 0)):
        with pytest.raises(UsageError, match=f"received steps={steps}, seeds={seeds}"):
            RangeTest(steps=steps, seeds=seeds)
    assert RangeTest(steps=20, seeds=1).steps == 20


def test_steps_cover_the_useful_range_of_the_optimizer() -> None:
    adam, sgd = (RangeTest().rates(settings(optimizer=name)) for name in ("adamw", "sgd"))
    assert (adam[0], adam[-1]) == pytest.approx((1e-5, 0.1))
    assert (sgd[0], sgd[-1]) == pytest.approx((1e-4, 10))
    assert len(adam) == len(sgd) == 100
    for name, low, high in (("adam", 1e-5, 0.1), ("sgd", 1e-4, 10), ("muon", 1e-4, 10)):
        given = RangeTest(start=1e-3, steps=20).rates(settings(optimizer=name))
        assert given.tolist() == pytest.approx(np.geomspace(1e-3, high, 20).tolist())
        given = RangeTest(end=0.05, steps=20).rates(settings(optimizer=name))
        assert given.tolist() == pytest.approx(np.geomspace(low, 0.05, 20).tolist())
    # One of the user's own may be of either kind.
    rates = RangeTest().rates(settings(), any_optimizer=True)
    assert (rates[0], rates[-1]) == pytest.approx((1e-5, 10))
    assert (RangeTest().steps, RangeTest().seeds) == (100, 3)


def test_noise_alone_is_not_a_valley() -> None:
    random = np.random.default_rng(0)
    noise = 2.3 + random.normal(0, 0.2, (3, len(X)))
    assert read_curve(LRS, noise, "valley").suggestion is None


def test_reservations_are_part_of_the_verdict() -> None:
    falling = read_curve(LRS[:90], textbook()[None, :90], "valley")
    assert "still falling at the highest rate" in falling.verdict
    learned_part = read_curve(LRS, textbook()[None], "valley", guess_loss=2.3)
    assert "guessing" not in learned_part.verdict
    guessed = read_curve(LRS, textbook()[None] + 1.5, "valley", guess_loss=2.3)
    assert "guessing costs 2.30" in guessed.verdict
    half = np.stack([textbook(), textbook(), np.full_like(X, 2.3)])
    assert "1 of 3 seeds found no valley" in read_curve(LRS, half, "valley").verdict


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle", "triangular"])
def test_auto_becomes_the_rate_that_suits_the_schedule(schedule: str) -> None:
    curve = read_curve(LRS, textbook()[None], "valley")
    wanted = TrainSettings.model_validate({"lr": "auto", "schedule": {"type": schedule}})
    with pytest.raises(UsageError, match="no range test has been run"):
        _ = wanted.peak_lr
    found = with_found_rate(wanted, curve)
    cyclical = schedule in ("one_cycle", "triangular")
    assert found.peak_lr == (curve.max_lr if cyclical else curve.suggestion)
    if found.schedule.type == "triangular":
        assert found.schedule.base * found.peak_lr == pytest.approx(curve.base_lr)


def test_auto_scales_listed_rates() -> None:
    curve = read_curve(LRS, textbook()[None], "valley")
    listed = TrainSettings(lr="auto", schedule=PerEpoch(rates=(0.2, 0.4)))
    found = with_found_rate(listed, curve)
    assert found.schedule.type == "per_epoch"
    low, high = found.schedule.rates
    assert high == found.peak_lr and low == pytest.approx(high / 2)
    assert found.peak_lr == curve.suggestion


def test_auto_without_a_valley_is_refused_with_advice() -> None:
    curve = read_curve(LRS, np.full((2, len(X)), 2.3), "valley")
    with pytest.raises(NoUsableRate, match=r"Check the data.*set train\.lr to a number"):
        with_found_rate(TrainSettings(lr="auto"), curve)
    # Nobody has used the command wrongly: it ends as lr-find does.
    assert NoUsableRate.exit_code == 3


def test_a_curve_is_written_and_read_back() -> None:
    cut = textbook()[None].copy()
    cut[0, 130:] = np.nan
    curve = read_curve(LRS, cut, "steepest", guess_loss=2.3)
    again = curve_from_json(curve_to_json(curve))
    assert curve_to_json(again) == curve_to_json(curve)
    assert np.array_equal(again.losses, curve.losses, equal_nan=True)


def test_training_in_one_call_finds_the_rate(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    from glasshouse.training.fit import train_classifier

    _, epochs = train_classifier(tiny_net, tiny_splits, settings(lr="auto", epochs=1))
    assert 1e-5 < epochs[0].lr < 1


def test_a_cyclical_schedule_rises_at_least_to_four_times_its_lowest_rate() -> None:
    # Where the loss begins to fall close to the floor's end, and far below it.
    late = read_curve(LRS, textbook(-1.0, -0.5)[None], "valley", guess_loss=2.3)
    assert late.max_lr is not None and late.base_lr == late.max_lr / 4
    early = read_curve(LRS, textbook(-4.0, -0.5)[None], "valley", guess_loss=2.3)
    assert early.max_lr is not None and early.base_lr is not None
    assert early.base_lr < early.max_lr / 100


def test_each_seed_takes_as_many_steps_and_says_so(
    tiny_net: nn.Module, tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, float]] = []
    losses = [2.0] * 5 + [1.0, 0.5, 2.0, 2.01]

    def loss_of(state: Any, batch: Any, prepared: Any, lr: float) -> tuple[Any, Any]:
        taken.append((prepared.settings.seed, lr))
        own = len([seed for seed, _ in taken if seed == prepared.settings.seed])
        return torch.tensor(losses[own - 1]), None

    monkeypatch.setattr(finder, "update", loss_of)
    told: list[tuple[str, int, int]] = []
    test = RangeTest(start=1e-3, end=1.0, steps=20, seeds=2)
    curve = find_lr(
        tiny_net,
        setup(tiny_splits, settings(batch_size=48)),
        test=test,
        progress=lambda *how: told.append(how),
    )
    assert told == [("range test", done, 40) for done in (0, 20, 40)]
    # A loss of more than four times the lowest ends a seed; it is the last that counts.
    assert len(taken) == 18 and len({seed for seed, _ in taken}) == 2
    assert [lr for _, lr in taken[:9]] == pytest.approx(curve.lrs[:9].tolist())
    for row in curve.losses:
        assert row[:9].tolist() == pytest.approx(losses) and np.isnan(row[9:]).all()
    assert len(curve.lrs) == 20


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_ends_a_seed_and_does_not_count(
    tiny_net: nn.Module, tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch, loss: float
) -> None:
    losses = iter([2.0, 1.0, loss])
    monkeypatch.setattr(finder, "update", lambda *how: (torch.tensor(next(losses)), None))
    found = finder._one_test(tiny_net, setup(tiny_splits, settings()), np.geomspace(1e-3, 1, 20))
    assert found[:2].tolist() == [2.0, 1.0] and np.isnan(found[2:]).all()


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (3, 1), (4, 2), (7, 3)])
def test_batches_are_those_of_as_many_epochs_as_it_takes(
    tiny_splits: Splits, steps: int, epochs: int
) -> None:
    prepared = setup(tiny_splits, settings(batch_size=32))
    found = [batch.positions.tolist() for batch in finder._endless(prepared, steps)]
    assert len(found) == 3 * epochs  # of 96 images
    for epoch in range(epochs):
        assert sorted(chain(*found[3 * epoch : 3 * epoch + 3])) == list(range(96))
    assert len({tuple(batch) for batch in found}) == len(found)


def test_the_seeds_of_a_test_differ_and_its_rate_and_average_are_its_own(
    tiny_splits: Splits,
) -> None:
    given = setup(tiny_splits, settings(lr="auto", ema_decay=0.9, seed=3))
    changed = [finder._with_seed(given, number).settings for number in range(3)]
    assert len({each.seed for each in changed} | {3}) == 4
    assert {(each.lr, each.ema_decay) for each in changed} == {(1e-3, None)}
    same = {"seed": 3, "lr": "auto", "ema_decay": 0.9}
    assert changed[0].model_copy(update=same) == given.settings


def test_a_loss_or_batches_of_the_users_own_have_no_loss_of_guessing(tiny_splits: Splits) -> None:
    given = setup(tiny_splits, settings())
    assert _guess_loss(given) == pytest.approx(np.log(4))
    assert np.isnan(_guess_loss(replace(given, loss=nn.functional.cross_entropy)))
    assert np.isnan(_guess_loss(replace(given, batches=lambda epoch: [])))


@pytest.mark.parametrize("missing", ["suggestion", "max_lr", "base_lr"])
def test_auto_needs_all_that_was_suggested(missing: str) -> None:
    curve = read_curve(LRS, textbook()[None], "valley")
    lacking: dict[str, Any] = {missing: None}
    with pytest.raises(NoUsableRate):
        with_found_rate(TrainSettings(lr="auto"), replace(curve, **lacking))
