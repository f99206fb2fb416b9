from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from glasshouse.errors import DataError, UsageError
from glasshouse.training import head_choice as choosing
from glasshouse.training.features import Features
from glasshouse.training.folds import assign_folds, held_out_logits, join, mean_losses, rows_of
from glasshouse.training.head_choice import choose_head
from glasshouse.training.heads import HeadSettings, fit_heads, head_logits
from tests.conftest import make_images

SETTINGS = HeadSettings(strengths=(1e-4, 0.01, 1.0))


def made(count: int, seed: int, noise: float = 1.0, *, mirrored: bool = False) -> Features:
    """Two classes that differ by one in each of three columns, among ten."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 2
    values = random.normal(0, noise, (count, 10)).astype(np.float32)
    values[:, :3] += labels[:, None]
    ids = np.array([f"{seed}/{row}" for row in range(count)])
    other = values + random.normal(0, 0.1, values.shape).astype(np.float32)
    return Features(values, labels, ids, ("a", "b"), other if mirrored else None)


def test_folds_are_even_in_each_class_and_do_not_depend_on_the_order() -> None:
    images = make_images(37)
    fold_of = assign_folds(images.ids, images.labels, 3, seed=0)
    for label in range(4):
        counts = np.bincount(fold_of[images.labels == label], minlength=3)
        assert counts.max() - counts.min() <= 1
    turned = assign_folds(images.ids[::-1].copy(), images.labels[::-1].copy(), 3, seed=0)
    assert np.array_equal(turned[::-1], fold_of)
    assert not np.array_equal(assign_folds(images.ids, images.labels, 3, seed=1), fold_of)


def test_too_few_images_for_the_folds_are_refused() -> None:
    images = make_images(12)
    with pytest.raises(DataError, match="a class has 3 images, fewer than the 5 folds"):
        assign_folds(images.ids, images.labels, 5, seed=0)
    with pytest.raises(UsageError, match="2 or more, received 1"):
        assign_folds(images.ids, images.labels, 1, seed=0)


def test_features_are_joined_in_order() -> None:
    parts = [
        Features(np.full((2, 3), value, dtype=np.float16), np.array([0, 1]),
                 np.array([f"{value}a", f"{value}b"]), ("x", "y"))
        for value in (1, 2)
    ]  # fmt: skip
    whole = join(parts)
    assert whole.ids.tolist() == ["1a", "1b", "2a", "2b"]
    assert rows_of(whole, np.array([3, 0])).values[:, 0].tolist() == [2, 1]


def test_held_out_images_are_predicted_by_heads_of_the_other_folds() -> None:
    features = made(40, 0)
    fold_of = assign_folds(features.ids, features.labels, 4, seed=0)
    logits = held_out_logits(features, fold_of, SETTINGS)
    assert logits.shape == (3, 40, 2)
    for fold in range(4):
        rest, held = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        fits = fit_heads(rows_of(features, rest), rows_of(features, held), SETTINGS)
        for number, fit in enumerate(fits):
            expected = head_logits(fit.layers, features.values[held])
            np.testing.assert_allclose(logits[number, held], expected, rtol=1e-5)


def test_labels_without_a_cause_are_not_predicted_out_of_fold() -> None:
    features = replace(made(120, 0), targets=np.random.default_rng(1).integers(0, 2, 120))
    fold_of = assign_folds(features.ids, features.labels, 5, seed=0)
    logits = held_out_logits(features, fold_of, SETTINGS)[-1]
    # Seen in training, ten columns fit such labels well above chance.
    assert (logits.argmax(axis=1) == features.labels).mean() < 0.62


def test_losses_are_cross_entropies() -> None:
    logits: NDArray[np.float32] = np.random.default_rng(0).normal(0, 30, (2, 6, 3)).astype("f4")
    labels = np.array([0, 1, 2, 0, 1, 2])
    expected = [
        cross_entropy(torch.from_numpy(each), torch.from_numpy(labels)).item() for each in logits
    ]
    np.testing.assert_allclose(mean_losses(logits, labels), expected, rtol=1e-5)


def test_few_validation_images_are_joined_by_folds() -> None:
    train, held = made(60, 0, mirrored=True), made(4, 1, mirrored=True)
    choice = choose_head(train, held, SETTINGS)
    assert choice.held_out is not None
    assert len(choice.fold_losses) == len(choice.fits) == 3
    assert choice.best is choice.fits[int(np.argmin(choice.fold_losses))]
    assert choice.held_out.ids.tolist() == [*train.ids, *held.ids]
    assert "each predicted by heads that had not seen it" in choice.describe()


def test_the_four_images_that_mislead_do_not_choose() -> None:
    # The validation part has wrong labels throughout: by it, the weakest head is the best.
    wrong = made(4, 1, noise=0.1)
    misleading = replace(wrong, targets=1 - wrong.labels)
    by_folds = choose_head(made(60, 0, noise=0.5), misleading, SETTINGS)
    assert min(by_folds.fits, key=lambda fit: fit.validation_loss).strength == 1e-4
    assert by_folds.best.strength != 1e-4


def test_many_validation_images_decide_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "held_out_logits", None)
    choice = choose_head(made(60, 0), made(200, 1), SETTINGS)
    assert choice.held_out is None
    assert choice.best.validation_loss == min(fit.validation_loss for fit in choice.fits)
    assert "kept for its validation loss" in choice.describe()


@pytest.mark.parametrize(("count", "is_alone"), [(198, False), (199, False), (200, True)])
def test_two_hundred_validation_images_are_enough(
    monkeypatch: pytest.MonkeyPatch, count: int, is_alone: bool
) -> None:
    def nothing(features: Features, fold_of: Any, settings: HeadSettings) -> NDArray[np.float32]:
        return np.zeros((1, len(features), 2), dtype=np.float32)

    monkeypatch.setattr(choosing, "held_out_logits", nothing)
    choice = choose_head(made(8, 0), made(count, 1), HeadSettings(strengths=(0.1,)))
    assert (choice.held_out is None) == is_alone


@pytest.mark.parametrize(
    ("train", "validation", "folds"), [(1, 0, None), (1, 1, 2), (3, 1, 4), (4, 1, 5), (8, 1, 5)]
)
def test_there_are_five_folds_or_as_many_as_the_smallest_class_has_images(
    monkeypatch: pytest.MonkeyPatch, train: int, validation: int, folds: int | None
) -> None:
    seen: list[int] = []

    def noted(features: Features, fold_of: Any, settings: HeadSettings) -> NDArray[np.float32]:
        seen.append(len(set(fold_of.tolist())))
        return np.zeros((1, len(features), 2), dtype=np.float32)

    monkeypatch.setattr(choosing, "held_out_logits", noted)
    parts = made(20, 0), made(20, 1)
    chosen = [
        rows_of(part, np.flatnonzero((part.labels == 0) | (np.cumsum(part.labels) <= count)))
        for part, count in zip(parts, (train, validation), strict=True)
    ]
    choose_head(chosen[0], chosen[1], HeadSettings(strengths=(0.1,)))
    assert seen == ([] if folds is None else [folds])


def test_a_choice_is_told_in_full() -> None:
    train, held = made(60, 0, 3.0), made(4, 1, 3.0)
    choice = choose_head(train, held, SETTINGS)
    assert choice.held_out is not None
    right = (choice.held_out.logits.argmax(axis=1) == choice.held_out.labels).mean()
    assert min(choice.fold_losses) == pytest.approx(
        mean_losses(choice.held_out.logits[None], choice.held_out.targets)[0]
    )
    assert choice.describe() == (
        "3 heads were tried; because the validation split is small, choice and temperature come "
        "from 64 training and validation images, each predicted by heads that had not seen it "
        f"({100 * right:.1f} % correct): kept {choice.best.title()}."
    )
    alone = replace(choice, fits=choice.fits[:1], held_out=None)
    assert alone.describe() == (
        f"One head was tried; kept for its validation loss: {choice.best.describe()}."
    )


def test_the_first_fold_is_not_that_of_every_class() -> None:
    images = make_images(16)  # four of each of four classes
    assert np.bincount(assign_folds(images.ids, images.labels, 3, seed=0)).tolist() == [6, 5, 5]
    for label in range(4):
        own = assign_folds(images.ids, images.labels, 3, seed=0)[images.labels == label]
        assert np.bincount(own, minlength=3).argmax() == label % 3
    assert len(set(assign_folds(images.ids, images.labels, 4, seed=0).tolist())) == 4
    assert len(set(assign_folds(images.ids, images.labels, 2, seed=0).tolist())) == 2


def test_mirrored_features_are_joined_and_chosen_with_their_images() -> None:
    parts = made(6, 0, mirrored=True), made(4, 1, mirrored=True)
    whole = join(parts)
    assert whole.mirrored is not None and len(whole.mirrored) == 10
    assert parts[1].mirrored is not None
    assert np.array_equal(whole.mirrored[6:], parts[1].mirrored)
    chosen = rows_of(whole, np.array([7, 2]))
    assert chosen.mirrored is not None and np.array_equal(chosen.mirrored, whole.mirrored[[7, 2]])
    assert chosen.labels.tolist() == whole.labels[[7, 2]].tolist()
    # Where one of them has none, none has any.
    assert join([parts[0], made(4, 1)]).mirrored is None


def test_two_images_of_a_class_are_enough_to_choose() -> None:
    choice = choose_head(made(2, 0), made(2, 1), SETTINGS)
    assert choice.best in choice.fits
