"""What holds for every recipe, schedule and seed."""

import tomllib
from typing import Any

import numpy as np
from hypothesis import given, settings, strategies as st

from glasshouse.recipe import parse_recipe, to_toml
from glasshouse.rng import keys_of, permutation, uniforms
from glasshouse.training.schedules import learning_rate

fractions = st.floats(0, 0.99, allow_nan=False)
positive = st.floats(1e-6, 10, allow_nan=False)
schedules = st.one_of(
    st.just({"type": "constant"}),
    st.builds(lambda e, f: {"type": "step", "every": e, "factor": f}, positive, st.floats(0.01, 1)),
    st.builds(lambda f: {"type": "exponential", "final": f}, st.floats(1e-6, 1)),
    st.builds(lambda f: {"type": "cosine", "final": f}, st.floats(0, 1)),
    st.builds(
        lambda r, s, f: {"type": "one_cycle", "rise": r, "start": s, "final": f},
        st.floats(0.01, 0.99), st.floats(0.01, 1), st.floats(0, 0.5),
    ),
    st.builds(
        lambda c, b, r, h: {"type": "triangular", "cycle": c, "base": b, "rise": r, "halve": h},
        st.floats(0.5, 20), st.floats(0, 1), st.floats(0.05, 0.95), st.booleans(),
    ),
)  # fmt: skip
recipes = st.fixed_dictionaries(
    {
        "name": st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20),
        "data": st.fixed_dictionaries({"train_limit": st.none() | st.integers(1, 10**6)}),
        "augment": st.fixed_dictionaries(
            {"rotation_range": st.floats(0, 180), "cutout": fractions}
        ),
        "train": st.fixed_dictionaries(
            {"epochs": st.integers(1, 500), "lr": positive, "schedule": schedules}
        ),
    }
)


@given(recipes)
@settings(max_examples=150, deadline=None)
def test_a_recipe_written_and_read_is_the_same(values: dict[str, Any]) -> None:
    recipe = parse_recipe(values)
    assert parse_recipe(tomllib.loads(to_toml(recipe))) == recipe


@given(schedules, st.integers(1, 50), positive, st.floats(0, 1), st.floats(0, 5))
@settings(max_examples=300, deadline=None)
def test_no_rate_is_negative_or_above_the_peak(
    schedule: dict[str, Any], epochs: int, lr: float, position: float, warmup: float
) -> None:
    wanted = parse_recipe(
        {"train": {"epochs": epochs, "lr": lr, "schedule": schedule, "warmup_epochs": warmup}}
    ).train
    assert -1e-12 <= learning_rate(wanted, position * epochs) <= lr * (1 + 1e-9)


@given(st.floats(0.05, 0.95), st.floats(0.01, 1), st.floats(0, 0.9))
@settings(max_examples=50, deadline=None)
def test_one_cycle_has_no_jumps(rise: float, start: float, final: float) -> None:
    schedule = {"type": "one_cycle", "rise": rise, "start": start, "final": final}
    wanted = parse_recipe({"train": {"epochs": 10, "lr": 1, "schedule": schedule}}).train
    rates = [learning_rate(wanted, i / 200) for i in range(2001)]
    steepest = np.pi / 2 / (min(rise, 1 - rise) * 2000)
    assert np.abs(np.diff(rates)).max() <= steepest * 1.01


@given(st.integers(0, 2**40), st.integers(0, 1000), st.lists(st.text(min_size=1), unique=True))
@settings(max_examples=100, deadline=None)
def test_numbers_depend_on_the_image_and_not_on_its_position(
    seed: int, epoch: int, names: list[str]
) -> None:
    keys = keys_of(np.array(names, dtype=np.str_))
    numbers = uniforms(seed, "augment", epoch, keys, 3)
    turned = uniforms(seed, "augment", epoch, keys[::-1], 3)
    assert np.array_equal(numbers, turned[::-1])
    assert sorted(permutation(seed, "order", epoch, keys).tolist()) == list(range(len(names)))
