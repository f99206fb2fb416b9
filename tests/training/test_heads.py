from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from glasshouse.errors import DataError, UsageError
from glasshouse.settings import HeadKind
from glasshouse.training.features import Features
from glasshouse.training.heads import (
    Balance,
    HeadSettings,
    best_head,
    class_weights,
    fit_heads,
    head_logits,
    score,
)

KINDS: tuple[HeadKind, ...] = ("logistic", "linear", "mlp")


def make_features(
    counts: tuple[int, ...] = (40, 40, 40), *, seed: int = 0, noise: float = 1.0
) -> Features:
    """Clouds of unequal scale around a centre for each class."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    centres = np.random.default_rng(99).normal(0, 2, (len(counts), 12))
    values = (centres[labels] + random.normal(0, noise, (len(labels), 12))) * np.arange(1, 13) + 5
    ids = np.array([f"p{seed}/{i}" for i in range(len(labels))])
    names = tuple(f"class {i}" for i in range(len(counts)))
    return Features(values.astype(np.float16), labels, ids, names)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_head_learns_from_features_as_they_are(kind: HeadKind, classes: int) -> None:
    train, held = (make_features((40,) * classes, seed=seed) for seed in (0, 1))
    fits = fit_heads(train, held, HeadSettings(kinds=(kind,), strengths=(0.1,), hidden=16))
    assert [fit.kind for fit in fits] == [kind]
    assert fits[0].validation_accuracy >= 0.95
    assert head_logits(fits[0].layers, held.values).shape == (40 * classes, classes)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_logistic_head_is_scikit_learns_on_standardised_features(classes: int) -> None:
    train, held = (make_features((30,) * classes, seed=seed, noise=3) for seed in (0, 1))
    fit = fit_heads(train, held, HeadSettings(strengths=(0.01,)))[0]
    rows, others = train.values.astype(np.float32), held.values.astype(np.float32)
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    oracle = LogisticRegression(C=0.01, tol=1e-6, max_iter=1000)
    oracle.fit((rows - mean) / deviation, train.labels)
    expected = oracle.predict_proba((others - mean) / deviation)
    shares = torch.softmax(torch.from_numpy(head_logits(fit.layers, held.values)), dim=1)
    np.testing.assert_allclose(shares.numpy(), expected, atol=5e-3)


def test_the_best_of_all_strengths_has_the_lowest_validation_loss() -> None:
    train, held = make_features(noise=4), make_features(seed=1, noise=4)
    fits = fit_heads(train, held, HeadSettings(strengths=(1.0, 0.001, 0.03)))
    assert [fit.strength for fit in fits] == [0.001, 0.03, 1.0]
    best = best_head(fits)
    assert best.validation_loss == min(score(fit.layers, held)[0] for fit in fits)
    assert f"C = {best.strength:g}" in best.describe()


def test_equal_seeds_give_equal_heads_and_leave_the_global_state_unchanged() -> None:
    train, held = make_features(), make_features(seed=1)
    state = torch.get_rng_state()
    settings = HeadSettings(kinds=("mlp",), hidden=8, dropout=0.5, seed=4)
    other_seed = replace(settings, seed=5)
    first, second, third = (
        fit_heads(train, held, each)[0].layers for each in (settings, settings, other_seed)
    )
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(first.parameters(), third.parameters(), strict=True):
        assert not torch.equal(one, other)


def test_mirrored_features_are_trained_on_as_well() -> None:
    train, held = make_features((6, 6, 6)), make_features(seed=1)
    away = Features(
        train.values,
        train.labels,
        train.ids,
        train.class_names,
        make_features((6, 6, 6), seed=2).values,
    )
    settings = HeadSettings(strengths=(0.1,))
    plain, both = (fit_heads(each, held, settings)[0] for each in (train, away))
    assert not np.allclose(
        head_logits(plain.layers, held.values), head_logits(both.layers, held.values)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("balanced", ["class_weights", "sampling"])
def test_balance_helps_the_rare_class(kind: HeadKind, balanced: Balance) -> None:
    train, held = make_features((300, 8), noise=6), make_features((200, 200), seed=1, noise=6)
    recalls = []
    for balance in ("none", balanced):
        settings = HeadSettings(kinds=(kind,), strengths=(0.01,), balance=balance, hidden=8)
        answers = head_logits(fit_heads(train, held, settings)[0].layers, held.values).argmax(
            axis=1
        )
        recalls.append((answers[held.labels == 1] == 1).mean())
    assert recalls[1] > recalls[0]


def test_class_weights_give_equal_totals_and_average_to_one() -> None:
    labels = np.repeat([0, 1, 3], [10, 30, 60])
    weights = class_weights(labels, 4)
    sums = [weights[labels][labels == label].sum() for label in (0, 1, 3)]
    np.testing.assert_allclose(sums, 100 / 3, rtol=1e-6)
    assert weights[labels].mean() == pytest.approx(1)
    assert weights[2] == 0


def test_a_constant_feature_is_harmless() -> None:
    train = make_features()
    train.values[:, 3] = 7
    fit = fit_heads(train, train, HeadSettings(strengths=(0.1,)))[0]
    assert np.isfinite(head_logits(fit.layers, train.values)).all()


def test_features_that_are_not_finite_name_the_image() -> None:
    train = make_features()
    train.values[5, 2] = np.nan
    with pytest.raises(DataError, match=r"features of image p0/5 are not finite"):
        fit_heads(train, train, HeadSettings())


def test_layers_are_plain_dense_layers() -> None:
    train = make_features()
    fit = fit_heads(train, train, HeadSettings(kinds=("mlp",), hidden=8))[0]
    assert [type(layer) for layer in fit.layers] == [nn.Linear, nn.ReLU, nn.Linear]


def test_dropout_comes_before_the_last_layer_and_is_off_in_the_fitted_head() -> None:
    train = make_features()
    settings = HeadSettings(kinds=("linear", "mlp"), hidden=8, dropout=0.25)
    linear, mlp = (fit.layers for fit in fit_heads(train, train, settings))
    assert [type(layer) for layer in linear] == [nn.Dropout, nn.Linear]
    assert [type(layer) for layer in mlp] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    for layers, place in ((linear, 0), (mlp, 2)):
        dropout = layers[place]
        assert isinstance(dropout, nn.Dropout)
        assert dropout.p == 0.25 and not dropout.training


def test_several_labels_get_a_logistic_regression_each() -> None:
    features = make_features((60, 60, 60))
    matrix = np.random.default_rng(3).random((180, 3)) < 0.3
    matrix |= np.eye(3, dtype=bool)[features.labels]
    several = replace(features, targets=matrix)
    settings = HeadSettings(strengths=(0.1,))
    (fit,) = fit_heads(several, several, settings)
    values = features.values.astype(np.float64)
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    logits = head_logits(fit.layers, features.values)
    for label in range(3):
        model = LogisticRegression(C=0.1, max_iter=1000).fit(standard, matrix[:, label])
        wanted = model.decision_function(standard)
        assert np.abs(logits[:, label] - wanted).max() < 0.05
    for kind in ("linear", "mlp"):
        (dense,) = fit_heads(several, several, HeadSettings(kinds=(kind,)))
        assert dense.validation_loss < 0.6


def test_balancing_refuses_several_labels() -> None:
    features = make_features()
    several = replace(features, targets=np.eye(3, dtype=bool)[features.labels])
    with pytest.raises(UsageError, match="several labels"):
        fit_heads(several, several, HeadSettings(balance="class_weights"))


def test_a_label_of_all_images_or_of_none_has_the_odds_of_its_frequency() -> None:
    features = make_features((30, 30, 30))
    matrix = np.eye(3, dtype=bool)[features.labels]
    matrix[:, 0], matrix[:, 1] = True, False
    several = replace(features, targets=matrix)
    (fit,) = fit_heads(several, several, HeadSettings(strengths=(0.1,)))
    logits = head_logits(fit.layers, features.values)
    # Laplace's rule of succession: (90 + 1) to 1.
    assert logits[:, 0] == pytest.approx(np.log(91), abs=1e-5)
    assert logits[:, 1] == pytest.approx(-np.log(91), abs=1e-5)
    assert ((logits[:, 2] > 0) == matrix[:, 2]).mean() > 0.9


def test_more_rows_than_are_computed_at_once_have_one_answer_each() -> None:
    features = np.arange(20_000, dtype=np.float64)[:, None]
    layers = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layers.weight)
    assert head_logits(layers, features)[:, 0].tolist() == features[:, 0].tolist()


def test_the_usual_strengths_are_four_powers_of_ten() -> None:
    assert HeadSettings().strengths == (0.001, 0.01, 0.1, 1.0)
