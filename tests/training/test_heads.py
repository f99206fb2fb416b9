from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from glasshouse.errors import DataError, UsageError
from glasshouse.settings import HeadKind
from glasshouse.training import heads
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


def test_a_logistic_head_is_fitted_at_four_strengths_unless_others_are_given() -> None:
    usual = HeadSettings()
    assert (usual.kinds, usual.strengths) == (("logistic",), (0.001, 0.01, 0.1, 1.0))
    assert (usual.dropout, usual.balance, usual.seed) == (0.0, "none", 0)


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


def test_validation_features_of_other_classes_or_kinds_of_labels_are_refused() -> None:
    train, held = make_features(), make_features(seed=1)
    turned = replace(held, class_names=("class 1", "class 2", "class 0"))
    with pytest.raises(DataError, match="label 0 is class 0 in the training and class 1 in the"):
        fit_heads(train, turned, HeadSettings())
    several = replace(held, targets=np.eye(3, dtype=bool)[held.labels])
    with pytest.raises(DataError, match="of the validation split may have several labels"):
        fit_heads(train, several, HeadSettings())


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


def test_the_usual_head_is_logistic_at_four_powers_of_ten() -> None:
    usual = HeadSettings()
    assert (usual.kinds, usual.strengths) == (("logistic",), (0.001, 0.01, 0.1, 1.0))
    assert (usual.hidden, usual.dropout, usual.balance, usual.seed) == (256, 0.0, "none", 0)
    features = make_features((4, 4))
    (mlp,) = fit_heads(features, features, HeadSettings(kinds=("mlp",)))
    assert [tuple(p.shape) for p in mlp.layers.parameters()] == [
        (256, 12), (256,), (2, 256), (2,)
    ]  # fmt: skip


def test_an_image_whose_mirrored_features_are_not_finite_is_named() -> None:
    train = make_features((6, 6))
    mirrored = train.values.copy()
    mirrored[7, 11] = np.inf
    with pytest.raises(DataError, match=r"features of image p0/7 are not finite"):
        fit_heads(replace(train, mirrored=mirrored), train, HeadSettings())


@pytest.mark.parametrize(
    ("rows", "epochs", "steps"),
    # 256 rows to a step, and 400 steps or 20 epochs, whichever is more.
    [(3, 400, 1), (256, 400, 1), (257, 200, 2), (512, 200, 2), (513, 134, 3), (5377, 20, 22)],
)
def test_a_dense_head_takes_enough_steps_at_rates_that_fall_to_zero(
    monkeypatch: pytest.MonkeyPatch, rows: int, epochs: int, steps: int
) -> None:
    rates: list[float] = []

    class Noted(torch.optim.AdamW):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            (group,) = self.param_groups
            assert (group["weight_decay"], group["betas"]) == (1e-2, (0.9, 0.999))
            rates.append(group["lr"])
            self._opt_called = True

    monkeypatch.setattr(torch.optim, "AdamW", Noted)
    seen: list[int] = []

    def order(epoch: int) -> torch.Tensor:
        seen.append(epoch)
        return torch.arange(rows)

    layers = nn.Sequential(nn.Linear(1, 2))
    heads._descend(layers, torch.ones(rows, 1), torch.zeros(rows, dtype=torch.int64), None, order)
    assert seen == list(range(epochs)) and len(rates) == epochs * steps
    whole = epochs * steps
    falling = [1e-3 * (1 + np.cos(np.pi * step / whole)) / 2 for step in range(whole)]
    assert rates == pytest.approx(falling, abs=1e-9)


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0)])
def test_a_dense_head_descends_the_weighted_loss_of_each_batch(weights: Any) -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (600, 4)).astype(np.float32))
    labels = torch.arange(600) % 3
    own, other = (nn.Sequential(nn.Linear(4, 3)) for _ in range(2))
    other.load_state_dict(own.state_dict())
    given = None if weights is None else np.array(weights, dtype=np.float32)
    heads._descend(own, values, labels, given, lambda epoch: torch.arange(600).roll(epoch))
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-3, weight_decay=1e-2)
    for step in range(134 * 3):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + np.cos(np.pi * step / 402)) / 2
        epoch, part = divmod(step, 3)
        chosen = torch.arange(600).roll(epoch)[256 * part : 256 * (part + 1)]
        loss = nn.CrossEntropyLoss(None if weights is None else torch.tensor(weights))
        optimizer.zero_grad()
        loss(other(values[chosen]), labels[chosen]).backward()
        optimizer.step()
    for ours, theirs in zip(own.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("balance", ["none", "class_weights", "sampling"])
def test_an_epoch_of_a_head_has_each_image_once_or_each_class_equally_often(
    balance: Balance,
) -> None:
    labels = np.repeat([0, 1], [30, 10])
    settings = HeadSettings(balance=balance)
    orders = [heads._order(labels, settings, epoch).numpy() for epoch in (0, 1)]
    assert orders[0].tolist() != orders[1].tolist()
    for order in orders:
        if balance == "sampling":
            assert np.bincount(labels[order]).tolist() == [20, 20]
        else:
            assert sorted(order.tolist()) == list(range(40))


def test_a_head_is_described_with_what_it_was_measured_at() -> None:
    features = make_features((20, 20), noise=6)
    logistic, linear = fit_heads(
        features, features, HeadSettings(kinds=("logistic", "linear", "logistic"), strengths=(0.1,))
    )
    for fit, title in ((logistic, "logistic, C = 0.1"), (linear, "linear")):
        logits = torch.from_numpy(head_logits(fit.layers, features.values))
        labels = torch.from_numpy(features.labels)
        loss = nn.functional.cross_entropy(logits, labels).item()
        right = (logits.argmax(1) == labels).double().mean().item()
        assert (fit.validation_loss, fit.validation_accuracy) == pytest.approx((loss, right))
        assert fit.title() == title
        assert replace(fit, seconds=2.345).describe() == (
            f"{title}: validation accuracy {100 * right:.2f} %, loss {loss:.4f}, fitted in 2.3 s"
        )
        assert 0 < fit.seconds < 60


def test_a_fit_leaves_the_random_state_of_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = list[int]()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    monkeypatch.setattr(torch.mps, "manual_seed", seeds.append)
    before = torch.get_rng_state()
    fit_heads(make_features(), make_features(seed=1), HeadSettings(kinds=("linear",)))
    assert seeds == []
    assert torch.equal(torch.get_rng_state(), before)
