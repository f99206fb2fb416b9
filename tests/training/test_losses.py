"""Losses of a batch, against cross-entropy with the targets written out as probabilities."""

from typing import Any

import pytest
import torch
from torch import Tensor

from glasshouse.data.batches import Batch
from glasshouse.training.losses import batch_loss, correct_count

CLASSES = 4
LABELS = torch.tensor([0, 1, 3])
PARTNERS = torch.tensor([1, 3, 0])
SHARES = torch.tensor([0.9, 0.6, 0.25])
LOGITS = torch.randn(3, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def batch(*, mixed: bool) -> Batch:
    partners, shares = (PARTNERS, SHARES.double()) if mixed else (None, None)
    return Batch(0, torch.zeros(3, 3, 2, 2), LABELS, LABELS.numpy(), partners, shares)


def losses(smoothing: float, *, mixed: bool) -> Tensor:
    """The loss of each image by its soft target."""
    hard = torch.eye(CLASSES, dtype=torch.float64)
    targets = hard[LABELS]
    if mixed:
        shares = SHARES.double()[:, None]
        targets = shares * hard[LABELS] + (1 - shares) * hard[PARTNERS]
    targets = (1 - smoothing) * targets + smoothing / CLASSES
    return -(targets * LOGITS.log_softmax(1)).sum(1)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_that_of_the_soft_targets(smoothing: float, mixed: bool) -> None:
    found = batch_loss(LOGITS, batch(mixed=mixed), smoothing)
    torch.testing.assert_close(found, losses(smoothing, mixed=mixed).mean())


def test_the_weight_of_an_image_is_that_of_its_own_label() -> None:
    weights = torch.tensor([0.5, 2.0, 100.0, 1.5], dtype=torch.float64)
    found = batch_loss(LOGITS, batch(mixed=True), 0.1, weights)
    expected = (torch.tensor([0.5, 2.0, 1.5]) * losses(0.1, mixed=True)).mean()
    torch.testing.assert_close(found, expected)


def test_a_mixed_image_is_correct_when_its_own_label_is_predicted() -> None:
    eye = torch.eye(CLASSES)
    assert int(correct_count(eye[LABELS], batch(mixed=True).labels)) == 3
    assert int(correct_count(eye[PARTNERS], batch(mixed=True).labels)) == 0


def test_the_loss_of_several_labels_is_binary_cross_entropy_also_when_mixed() -> None:
    labels = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    partners, shares = labels.roll(1, dims=0), SHARES.double()
    batch = Batch(0, torch.zeros(3, 3, 2, 2), labels, LABELS.numpy(), partners, shares)
    own = shares[:, None]
    soft = own * labels.double() + (1 - own) * partners.double()
    soft = 0.9 * soft + 0.1 / 2
    wanted = -(soft * LOGITS.sigmoid().log() + (1 - soft) * (-LOGITS).sigmoid().log()).mean()
    torch.testing.assert_close(batch_loss(LOGITS, batch, 0.1), wanted)


def test_an_image_with_several_labels_is_correct_when_all_are() -> None:
    labels = LOGITS >= 0
    labels[0, 0] = ~labels[0, 0]
    batch = Batch(0, torch.zeros(3, 3, 2, 2), labels, LABELS.numpy())
    assert correct_count(LOGITS, batch.labels).item() == 2


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        (torch.tensor([0, 1, 2]), 2),
        (torch.tensor([0, 1, 2], dtype=torch.uint8), 2),
        # Shares of the classes, of which the largest counts.
        (torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0]]), 1),
        (torch.tensor([[5, 3, 2], [1, 2, 7], [0, 0, 1]]), 1),
        # All labels of an image, from a probability of a half on.
        (torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 0]]).bool(), 3),
        (torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 1]]).bool(), 1),
        # What are no classes.
        (torch.tensor([0.0, 1.0, 2.0]), None),
        (torch.tensor([0, 1]), None),
        (torch.tensor([[0, 1], [1, 0], [0, 0]]), None),
        (torch.tensor([[True, False]] * 3), None),
        ("abc", None),
    ],
)
def test_answers_are_counted_where_labels_are_classes(labels: Any, count: int | None) -> None:
    logits = torch.tensor([[1.0, -1.0, 0.0], [0.2, 0.3, -0.1], [2.0, 1.0, -3.0]])
    logits[1, 0] = -0.2
    found = correct_count(logits, labels)
    assert found.isnan().item() if count is None else found.item() == count
