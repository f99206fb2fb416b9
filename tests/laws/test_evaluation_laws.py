"""What must hold for every set of predictions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from glasshouse.evaluation.calibration import fit_temperature, reliability_bins
from glasshouse.evaluation.compare import compare, holm, mcnemar
from glasshouse.evaluation.evaluation import evaluate, to_json
from glasshouse.evaluation.intervals import bootstrap, paired_difference, wilson
from glasshouse.evaluation.metrics import losses
from glasshouse.models.predict import Predictions


@st.composite
def predictions(draw: st.DrawFn) -> Predictions:
    """Up to 60 images of up to 6 classes, from flat to saturated logits, ties included."""
    n, classes = draw(st.integers(1, 60)), draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = generator.integers(0, classes, n)
    skill, scale = draw(st.sampled_from([-2.0, 0.0, 1.0, 9.0])), draw(st.sampled_from([0, 1, 99]))
    logits = scale * (
        generator.normal(size=(n, classes)).round(1) + skill * np.eye(classes)[labels]
    )
    names = tuple(f"class {c}" for c in range(classes))
    temperature = draw(st.sampled_from([0.5, 1.0, 3.0]))
    ids = np.array([f"image {i}" for i in range(n)])
    return Predictions(logits.astype(np.float32), labels, ids, names, temperature)


counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_wilson_contains_the_share_and_shrinks_with_more_images(count: tuple[int, int]) -> None:
    successes, n = count
    found, more = wilson(successes, n), wilson(4 * successes, 4 * n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert more.high - more.low < found.high - found.low
    mirrored = wilson(n - successes, n)
    assert mirrored.low == pytest.approx(1 - found.high)


@given(counts, st.floats(0.5, 0.98))
def test_a_higher_level_gives_a_wider_interval(count: tuple[int, int], level: float) -> None:
    narrow, wide = wilson(*count, level), wilson(*count, level + 0.01)
    assert wide.low <= narrow.low <= narrow.high <= wide.high


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_swapping_the_two_mirrors_a_paired_difference(a: int, b: int, rest: int) -> None:
    n = a + b + rest + 1
    found, swapped = paired_difference(a, b, n), paired_difference(b, a, n)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    assert mcnemar(a, b) == mcnemar(b, a)
    assert 0 < mcnemar(a, b) <= 1


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40))
@settings(max_examples=30)
def test_a_bootstrap_stays_within_the_values(values: list[float]) -> None:
    found = bootstrap(np.array(values), resamples=200)
    assert min(values) - 1e-9 <= found.low <= found.value <= found.high <= max(values) + 1e-9


@given(predictions())
def test_the_temperature_never_raises_the_loss(drawn: Predictions) -> None:
    temperature = fit_temperature(drawn)
    assert 0.05 <= temperature <= 20.001
    assert losses(drawn, temperature).mean() <= losses(drawn, 1.0).mean()


@given(predictions(), st.booleans())
def test_bins_are_a_partition_independent_of_the_order(
    drawn: Predictions, equal_mass: bool
) -> None:
    order = np.random.default_rng(0).permutation(len(drawn))
    mixed = replace(drawn, logits=drawn.logits[order], targets=drawn.labels[order])
    found, same = (reliability_bins(p, equal_mass=equal_mass) for p in (drawn, mixed))
    assert sum(b.count for b in found) == len(drawn)
    assert [b.count for b in found] == [b.count for b in same]
    for b in found:
        if b.confidence is not None and b.accuracy is not None:
            assert b.low - 1e-12 <= b.confidence <= b.high + 1e-12


@given(predictions())
@settings(max_examples=60)
def test_every_evaluation_is_consistent_and_json(drawn: Predictions) -> None:
    found = evaluate(drawn)
    assert found.confusion.sum() == len(drawn)
    assert np.trace(found.confusion) + found.mistake_count == len(drawn)
    assert sum(pair.count for pair in found.confused_pairs) <= found.mistake_count
    assert 0 <= found.before.ece <= 1
    assert 0 <= found.before.brier <= 2
    assert all(m.probability >= m.probability_of_true for m in found.mistakes)
    assert [m.probability for m in found.mistakes] == sorted(
        (m.probability for m in found.mistakes), reverse=True
    )
    assert to_json(found)["accuracy"]["value"] == found.accuracy.value


@given(predictions(), st.integers(0, 99))
@settings(max_examples=40)
def test_swapping_two_runs_mirrors_their_comparison(drawn: Predictions, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 2, drawn.logits.shape).astype(np.float32)
    other = replace(drawn, logits=drawn.logits + noise)
    found, swapped = compare(drawn, other), compare(other, drawn)
    assert found.difference.value == pytest.approx(-swapped.difference.value)
    assert found.p == swapped.p
    assert found.only_first_right == tuple(
        replace(d, first=d.second, second=d.first) for d in swapped.only_second_right
    )
    both = len(found.only_first_right) + len(found.only_second_right)
    assert both + found.both_right_count + found.both_wrong_count == len(drawn)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_lowers_a_p(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    ranked = [adjusted[i] for i in np.argsort(p_values, kind="stable")]
    assert ranked == sorted(ranked)
