"""Each number by which a curve of losses is read, on curves small enough to check by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glasshouse.errors import UsageError
from glasshouse.training.lr_curve import (
    LrCurve,
    _floor_end,
    _has_valley,
    _onset,
    _verdict,
    curve_from_json,
    curve_to_json,
    learned_part,
    read_curve,
    smooth,
    steepest,
    valley,
)
from tests.training.test_finder import LRS, X, flat_valley, textbook

NAN = np.nan


def noisy(count: int) -> Any:
    random = np.random.default_rng(5)
    return [textbook(-3 + 0.2 * i, -0.6) + random.normal(0, 0.05, len(X)) for i in range(count)]


@pytest.mark.parametrize(
    ("losses", "guess", "rules", "band", "bounds"),
    [
        ([textbook()], NAN, (1e-3, 0.0054117, 0.0141254), (0.0054117, 0.0054117),
         (0.000398107, 0.0470846)),
        (noisy(3), 2.3, (0.00158489, 0.00630957, 0.01), (0.00584341, 0.00735642),
         (0.000630957, 0.0333333)),
        ([flat_valley(-3, -1.5, dent) for dent in (-2.6, -1.4)], 2.3,
         (0.000891251, 0.00316228, 0.00251189), (0.00316228, 0.00316228),
         (0.000630957, 0.00837295)),
        ([np.where(np.arange(141) < 90, textbook(-3.5, -0.8), NAN)], 2.0,
         (0.000354813, 0.00261016, 0.00281838), (0.00261016, 0.00261016),
         (0.000223872, 0.00939461)),
    ],
)  # fmt: skip
def test_what_is_read_of_a_curve_does_not_change(
    losses: Any, guess: float, rules: Any, band: Any, bounds: Any
) -> None:
    found = read_curve(LRS, np.stack(losses), "valley", guess_loss=guess)
    assert tuple(found.suggestions.values()) == pytest.approx(rules, rel=1e-5)
    assert list(found.suggestions) == ["steepest", "valley", "minimum/10"]
    assert found.suggestion == found.suggestions["valley"]
    assert found.band == pytest.approx(band, rel=1e-5)
    assert (found.base_lr, found.max_lr) == pytest.approx(bounds, rel=1e-5)
    assert found.guess_loss == pytest.approx(guess, nan_ok=True)


def test_a_smoothed_curve_is_a_line_fitted_at_each_place() -> None:
    losses = noisy(1)[0]
    losses[130:] = NAN
    known = X[:130]
    for bandwidth, of in ((0.15, "value"), (0.25, "slope")):
        # polyfit squares its weights.
        lines = [
            np.polyfit(known - x, losses[:130], 1, w=np.exp(-0.25 * ((known - x) / bandwidth) ** 2))
            for x in known
        ]
        if of == "value":
            smoothed = smooth(LRS, losses)
            np.testing.assert_allclose(smoothed[:130], [line[1] for line in lines], rtol=1e-6)
            assert np.isnan(smoothed[130:]).all()
        else:
            slopes = np.array([line[0] for line in lines])[: np.nanargmin(losses) + 1]
            assert steepest(LRS, losses) == LRS[slopes.argmin()]


TEN = np.geomspace(1e-5, 1e4, 10)


@pytest.mark.parametrize(
    ("losses", "floor_end", "onset"),
    [
        # Of the fall from 1 to 0, a quarter is lost again, and a tenth is done.
        ([1, 1, 1, 1, 1, 0.9, 0.0, 0.25, 0.26, 0.2], 9, 5),
        ([1, 1, 1, 1, 1, 0.91, 0.0, 0.25, 0.26, 0.3], 7, 6),
        ([1, 1, 1, 1, 1, 0.1, 0.0, 0.26, 0.26, 0.3], 6, 5),
        # The level is the median of the first five losses.
        ([9, 9, 1, 1, 1, 0.95, 0.5, 0.0, 0.3, NAN], 7, 6),
        ([9, 1, 1, 1, 0.1, 0.5, 0.5, 0.0, 0.2, NAN], 8, 4),
    ],
)
def test_the_floor_ends_and_the_fall_begins_at_shares_of_it(
    losses: list[float], floor_end: int, onset: int
) -> None:
    row = np.array(losses, dtype=np.float64)
    assert _floor_end(TEN, row) == TEN[floor_end]
    assert _onset(TEN, row) == TEN[onset]
    third = np.log10(TEN[onset]) / 3 + 2 * np.log10(TEN[int(np.nanargmin(row))]) / 3
    assert np.log10(valley(TEN, row)) == pytest.approx(third)


def fallen(depth: float, *, count: int = 12) -> Any:
    return np.array([1.0] * (count - 2) + [1 - depth, 1 - depth])


@pytest.mark.parametrize(
    ("losses", "scatter", "is_valley"),
    [
        (fallen(0.021), 0.0, True),
        (fallen(0.019), 0.0, False),
        (2 * fallen(0.021), 0.0, True),
        (2 * fallen(0.019), 0.0, False),
        # Twice the scatter: 1.4826 times the median deviation of the first ten.
        (fallen(0.30), 0.1, True),
        (fallen(0.29), 0.1, False),
        # Ten losses have to be known.
        (fallen(0.5, count=10), 0.0, True),
        (fallen(0.5, count=9), 0.0, False),
        (np.append(fallen(0.5, count=9), [NAN, NAN]), 0.0, False),
        # A fall within the first five is where the curve begins.
        (np.array([1, 1, 0.5, *[1.0] * 9]), 0.0, False),
        (np.array([*[1.0] * 5, 0.5, *[1.0] * 6]), 0.0, True),
    ],
)
def test_a_fall_counts_beyond_its_noise(losses: Any, scatter: float, is_valley: bool) -> None:
    noise = scatter * np.where(np.arange(len(losses)) % 2, 1, -1)
    noise[10:] = 9  # after the loss has risen, scatter no longer counts
    assert _has_valley(losses + noise, losses) == is_valley


@pytest.mark.parametrize("depth", [0.29, 0.30])
def test_noise_is_that_before_the_minimum(depth: float) -> None:
    # Twenty steps before the minimum; only the first ten are without any noise.
    losses = np.array([1.0] * 20 + [1 - depth] * 2)
    noise = np.where(np.arange(22) % 2, 0.1, -0.1)
    noise[:9] = 0
    assert _has_valley(losses + noise, losses) == (depth == 0.30)


@pytest.mark.parametrize(
    ("losses", "guess", "learned"),
    [
        # Capped at the level.
        ([2, 3, 2, 2, 2, 1.5, 1.0, 1.5], NAN, [2, 2, 2, 2, 2, 1.5, 1.0, 1.5]),
        # Capped at the loss of guessing, where that is lower.
        ([2, 3, 2, 2, 2, 1.5, 1.0, 1.5], 1.8, [1.8] * 5 + [1.5, 1.0, 1.5]),
        ([2, 3, 2, 2, 2, 1.5, 1.0, 1.5], 2.5, [2, 2, 2, 2, 2, 1.5, 1.0, 1.5]),
        # Over where three times what was learned is lost, and for good.
        ([2, 2, 2, 2, 2, 1.0, 4.1, 0.9], NAN, [2, 2, 2, 2, 2, 1.0, 2, 2]),
        ([2, 2, 2, 2, 2, 1.0, 3.9, 0.9], NAN, [2, 2, 2, 2, 2, 1.0, 2, 0.9]),
        # A hump before half of it was learned is on the way.
        ([2, 2, 2, 2, 2, 1.6, 3.5, 1.0], NAN, [2, 2, 2, 2, 2, 1.6, 2, 1.0]),
        ([2, 2, 2, 2, 2, 1.4, 3.5, 1.0], NAN, [2, 2, 2, 2, 2, 1.4, 2, 2]),
        # Unknown losses are as high as the highest.
        ([2, 2, 2, 2, 2, 1.0, NAN, NAN], NAN, [2, 2, 2, 2, 2, 1.0, 2, 2]),
        # Who only reaches the loss of guessing, to 2 %, may be dead: the floor ends as it begins,
        # where a tenth of the fall is left.
        ([2, 2, 2, 2, 2, 1.5, 1.11, 1.09, 1.0], 1.0, [2, 2, 2, 2, 2, 1.5, 1.11, 1.09, 2]),
        ([2, 2, 2, 2, 2, 1.5, 1.09, 1.0, 1.0], 1.0, [2, 2, 2, 2, 2, 1.5, 1.09, 2, 2]),
        ([2, 2, 2, 2, 2, 1.5, 1.09, 1.0, 1.0], 1.01, [2, 2, 2, 2, 2, 1.5, 1.09, 2, 2]),
        ([2, 2, 2, 2, 2, 1.5, 1.09, 1.0, 1.0], 1.03, [1.03] * 7 + [1.0, 1.0]),
    ],
)
def test_what_was_learned_is_below_what_anybody_can_guess(
    losses: list[float], guess: float, learned: list[float]
) -> None:
    found = learned_part(np.array(losses, dtype=np.float64), guess)
    assert found.tolist() == pytest.approx(learned)


def read(band: tuple[float, float] = (0.1, 0.2), *, seeds: int = 2, guess: float = 2.3) -> LrCurve:
    lrs, losses = np.geomspace(1e-5, 1, 12), np.ones((seeds, 12))
    return LrCurve(lrs, losses, losses, "valley", {}, 0.15, band, 0.1, 0.2, "", guess)


USABLE = np.array([2.3] * 6 + [2.0, 1.5, 1.0, 1.0, 1.5, 2.0])
LOW = "the loss was falling at the lowest rate already, 1e-05: lower the start"
HIGH = "the loss was still falling at the highest rate, 1: raise the end"


@pytest.mark.parametrize(
    ("curve", "usable", "verdict"),
    [
        (read(), [USABLE], "valley suggests 0.15"),
        (read(seeds=3), [USABLE] * 3, "valley suggests 0.15, 0.1 to 0.2 over 3 seeds"),
        (read(seeds=3), [USABLE] * 2,
         "valley suggests 0.15, 0.1 to 0.2 over 2 seeds; 1 of 3 seeds found no valley"),
        (read((0.1, 1.0)), [USABLE] * 2, "valley suggests 0.15, 0.1 to 1 over 2 seeds"),
        (read((0.1, 1.01)), [USABLE] * 2, "valley suggests 0.15, 0.1 to 1 over 2 seeds; the "
         "seeds disagree by more than a factor of ten, so try both ends"),
        (read(), [np.roll(USABLE, 1)] * 2, "valley suggests 0.15, 0.1 to 0.2 over 2 seeds"),
        (read(), [np.append(USABLE[:8], [1.1, 1.1, 1.0, 1.5])] * 2,
         f"valley suggests 0.15, 0.1 to 0.2 over 2 seeds; {HIGH}"),
        # The level is that of the third rate: falling from there on is falling from the first.
        (read(), [np.array([2.3, 2.3, 1.9, 1.7, 1.6] + [1.5] * 6 + [1.6])] * 2,
         f"valley suggests 0.15, 0.1 to 0.2 over 2 seeds; {LOW}"),
        (read(), [np.array([2.3, 2.3, 1.9, 1.87, 1.6] + [1.5] * 6 + [1.6])] * 2,
         "valley suggests 0.15, 0.1 to 0.2 over 2 seeds"),
        (read(guess=1.02), [USABLE] * 2, "valley suggests 0.15, 0.1 to 0.2 over 2 seeds; but "
         "the lowest loss was 1.00, and guessing costs 1.02: try more steps, and if that does "
         "not help, check the data"),
        (read(guess=1.03), [USABLE] * 2, "valley suggests 0.15, 0.1 to 0.2 over 2 seeds"),
        (read(guess=NAN), [USABLE] * 2, "valley suggests 0.15, 0.1 to 0.2 over 2 seeds"),
    ],
)  # fmt: skip
def test_a_verdict_says_what_speaks_against_it(curve: LrCurve, usable: Any, verdict: str) -> None:
    curve = replace(curve, losses=np.ones((max(len(usable), len(curve.losses)), 12)))
    if len(usable) == 1:
        curve = replace(curve, losses=np.ones((1, 12)))
    assert _verdict(curve, np.stack(usable)) == verdict


@pytest.mark.parametrize(("flat", "is_found"), [(0, True), (1, True), (2, False), (3, False)])
def test_more_than_half_of_the_seeds_have_to_find_a_valley(flat: int, is_found: bool) -> None:
    losses = np.stack([textbook()] * (4 - flat) + [np.full_like(X, 2.3)] * flat)
    found = read_curve(LRS, losses, "valley")
    assert (found.suggestion is not None) == is_found
    if not is_found:
        assert found.verdict == (
            "no usable valley: the loss never fell by more than 2 % beyond its noise. Check the "
            "data (labels, scaling, augmentation) and the network before training."
        )
    read_again = curve_from_json(curve_to_json(found))
    assert (read_again.band, read_again.suggestions) == (found.band, found.suggestions)
    assert np.isnan(read_again.guess_loss)


def test_a_rule_that_is_not_known_is_refused_before_anything_is_read() -> None:
    with pytest.raises(
        UsageError, match=r"rule 'minimum' is not known\. Did you mean 'minimum/10'"
    ):
        read_curve(LRS, np.empty((0, 0)), "minimum")


@pytest.mark.parametrize(("fall_at", "is_early"), [(-6.3, True), (-5.8, True), (-5.5, False)])
def test_a_loss_that_falls_from_the_first_rate_on_asks_for_a_lower_start(
    fall_at: float, is_early: bool
) -> None:
    found = read_curve(LRS, textbook(fall_at)[None], "valley")
    words = "the loss was falling at the lowest rate already, 1e-06: lower the start"
    assert (words in found.verdict) == is_early
