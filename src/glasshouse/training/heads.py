"""Heads fitted to features: logistic regression at several strengths, dense layers by AdamW."""

import copy
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from glasshouse.data.alike_splits import require_same_labels
from glasshouse.data.sampling import draw_epoch
from glasshouse.data.targets import SEVERAL, Targets, one_label_each
from glasshouse.errors import DataError, UsageError
from glasshouse.rng import derive
from glasshouse.settings import HeadKind
from glasshouse.training.features import Features
from glasshouse.training.losses import correct_images, image_losses
from glasshouse.wording import percentage

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Rows = NDArray[np.float32]

DEFAULT_HIDDEN = 256
_EPOCHS, _BATCH, _LR, _DECAY = 20, 256, 1e-3, 1e-2
# With few images an epoch is a handful of updates, so epochs are added until there are this many.
_LEAST_UPDATES = 400
_ITERATIONS, _TOLERANCE = 200, 1e-3


@dataclass(frozen=True)
class HeadFit:
    """One fitted head and its metrics on the validation features.

    layers: from features ``(n, width)`` of the backbone to logits. strength: C of a logistic head,
    else None. validation_loss: in nats.
    """

    kind: HeadKind
    layers: nn.Sequential
    strength: float | None
    validation_accuracy: float
    validation_loss: float
    seconds: float

    def title(self) -> str:
        """Its kind, with C where it has one."""
        return self.kind if self.strength is None else f"{self.kind}, C = {self.strength:g}"

    def describe(self) -> str:
        """The head in one line."""
        return (
            f"{self.title()}: validation accuracy {percentage(self.validation_accuracy, 2)}, "
            f"loss {self.validation_loss:.4f}, fitted in {self.seconds:.1f} s"
        )


Balance = Literal["none", "class_weights", "sampling"]


@dataclass(frozen=True)
class HeadSettings:
    """Which heads are fitted, and how.

    strengths: the values of C that a logistic head is fitted with. balance: how classes of
    different size are made to count alike. "sampling" shows dense heads each class equally often;
    a logistic head is fitted to all images at once, where that is the same as class weights.
    """

    kinds: tuple[HeadKind, ...] = ("logistic",)
    strengths: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    hidden: int = DEFAULT_HIDDEN
    dropout: float = 0.0
    balance: Balance = "none"
    seed: int = 0


def fit_heads(train: Features, validation: Features, settings: HeadSettings) -> list[HeadFit]:
    """Fit every head of the settings, a logistic one at each strength.

    ``best_head`` returns the best of them. Raises DataError for features that are not finite, and
    for validation features with other classes or another kind of labels.
    """
    require_same_labels(("training", train), ("validation", validation))
    rows, labels = _training_rows(train)
    if train.is_multi_label and settings.balance != "none":
        raise UsageError(SEVERAL)
    mean, deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    standard = (rows - mean) / deviation
    weights = None
    if settings.balance != "none":
        weights = class_weights(labels, len(train.class_names))
    fits: list[HeadFit] = []
    for kind in dict.fromkeys(settings.kinds):
        if kind == "logistic":
            fitted = _logistic_each if train.is_multi_label else _logistic
            found = fitted(standard, labels, settings.strengths, weights)
        else:
            shown = None if settings.balance == "sampling" else weights
            found = [_dense(standard, labels, settings, kind, shown, len(train.class_names))]
        for strength, layers, seconds in found:
            _unstandardise(layers, mean, deviation)
            loss, accuracy = score(layers, validation)
            fits.append(HeadFit(kind, layers, strength, accuracy, loss, seconds))
    return fits


def best_head(fits: Sequence[HeadFit]) -> HeadFit:
    """The head with the lowest validation loss, which is finer than accuracy on few images."""
    return min(fits, key=lambda fit: fit.validation_loss)


def head_logits(layers: nn.Module, features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Logits ``(n, k)`` of features ``(n, width)``."""
    with torch.inference_mode():
        parts = [
            layers(torch.from_numpy(np.array(features[start : start + 8192], dtype=np.float32)))
            for start in range(0, len(features), 8192)
        ]
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def score(layers: nn.Module, features: Features) -> tuple[float, float]:
    """Mean loss in nats, and accuracy, of a head on features; both as those of an epoch."""
    logits = torch.from_numpy(head_logits(layers, features.values))
    labels = torch.from_numpy(features.targets)
    accuracy = correct_images(logits, labels).float().mean().item()
    return image_losses(logits, labels).mean().item(), accuracy


def class_weights(labels: Targets, class_count: int) -> Rows:
    """Weights ``(k,)`` that give every class the same total; their mean over images is 1."""
    counts = np.bincount(one_label_each(labels), minlength=class_count)
    present = np.count_nonzero(counts)
    shares = len(labels) / (present * np.maximum(counts, 1))
    weights: Rows = np.where(counts > 0, shares, 0.0).astype(np.float32)
    return weights


def _training_rows(train: Features) -> tuple[Rows, Targets]:
    """The features of both views concatenated, in float32."""
    views = [train.values] if train.mirrored is None else [train.values, train.mirrored]
    rows = np.concatenate([np.asarray(view, dtype=np.float32) for view in views])
    if not np.isfinite(rows).all():
        wrong = train.ids[np.flatnonzero(~np.isfinite(rows).all(axis=1))[0] % len(train)]
        raise DataError(
            f"the features of image {wrong} are not finite. Check the weights of the network, or "
            "try train.precision=fp32."
        )
    return rows, np.concatenate([train.targets] * len(views))


def _logistic(
    rows: Rows, labels: Targets, strengths: Sequence[float], weights: Rows | None
) -> list[tuple[float | None, nn.Sequential, float]]:
    """Fits at rising C, each starting from the previous one."""
    each = None if weights is None else weights[labels]
    model = _new_regression(warm_start=True)
    found: list[tuple[float | None, nn.Sequential, float]] = []
    for strength in sorted(strengths):
        started = time.perf_counter()
        model.set_params(C=strength)
        _fit(model, rows, labels, each)
        layer = _linear(model.coef_, model.intercept_)
        found.append((strength, nn.Sequential(layer), time.perf_counter() - started))
    return found


def _logistic_each(
    rows: Rows, labels: Targets, strengths: Sequence[float], weights: Rows | None
) -> list[tuple[float | None, nn.Sequential, float]]:
    """Fits at rising C where images may have several labels: a regression for each label."""
    model = _new_regression()
    found: list[tuple[float | None, nn.Sequential, float]] = []
    for strength in sorted(strengths):
        started = time.perf_counter()
        model.set_params(C=strength)
        fits = [_one_against_rest(model, rows, own) for own in labels.T]
        kernel, bias = (np.stack(parts) for parts in zip(*fits, strict=True))
        layers = nn.Sequential(_dense_layer(kernel, bias))
        found.append((strength, layers, time.perf_counter() - started))
    return found


def _one_against_rest(
    model: "LogisticRegression", rows: Rows, own: NDArray[np.generic]
) -> tuple[NDArray[np.floating], np.floating]:
    """Kernel ``(width,)`` and bias for images with a label against those without it."""
    if own.all() or not own.any():
        # Nothing to tell apart: the log-odds of its frequency by Laplace's rule of succession.
        odds = (own.sum() + 1) / (len(own) - own.sum() + 1)
        return np.zeros(rows.shape[1]), np.float64(np.log(odds))
    _fit(model, rows, own)
    return model.coef_[0], model.intercept_[0]


def _new_regression(*, warm_start: bool = False) -> "LogisticRegression":
    # Local: scikit-learn takes almost a second to import, and most trainings fit no head.
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=_ITERATIONS, tol=_TOLERANCE, warm_start=warm_start)


def _fit(
    model: "LogisticRegression",
    rows: Rows,
    labels: NDArray[np.generic],
    weights: Rows | None = None,
) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # A fit is judged by its validation loss, whether or not it has fully converged.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows, labels, sample_weight=weights)


def _linear(kernel: NDArray[np.floating], bias: NDArray[np.floating]) -> nn.Linear:
    # For two classes scikit-learn keeps one row: logit of the second minus that of the first.
    if len(kernel) == 1:
        kernel, bias = np.concatenate([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
    return _dense_layer(kernel, bias)


def _dense_layer(kernel: NDArray[np.floating], bias: NDArray[np.floating]) -> nn.Linear:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        layer = nn.Linear(kernel.shape[1], len(kernel))
        layer.weight.copy_(torch.from_numpy(kernel))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


def _dense(
    rows: Rows,
    labels: Targets,
    settings: HeadSettings,
    kind: HeadKind,
    weights: Rows | None,
    class_count: int,
) -> tuple[float | None, nn.Sequential, float]:
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which seeds the generators of all GPUs as well.
        torch.default_generator.manual_seed(derive(settings.seed, "head", kind))
        layers = _layers(rows.shape[1], class_count, settings, kind)
        order = partial(_order, labels, settings)
        _descend(layers, torch.from_numpy(rows), torch.from_numpy(labels), weights, order)
    return None, layers.eval(), time.perf_counter() - started


def _layers(width: int, class_count: int, settings: HeadSettings, kind: HeadKind) -> nn.Sequential:
    dropout = [nn.Dropout(settings.dropout)] if settings.dropout else []
    if kind == "linear":
        return nn.Sequential(*dropout, nn.Linear(width, class_count))
    hidden = settings.hidden
    last = nn.Linear(hidden, class_count)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), *dropout, last)


def _order(labels: Targets, settings: HeadSettings, epoch: int) -> Tensor:
    """The rows of an epoch: each once, or every class equally often."""
    if settings.balance != "sampling":
        return torch.randperm(len(labels))
    # A head is fitted in one go, never resumed, so positions serve as ids.
    places = np.arange(len(labels), dtype=np.uint64)
    draws = draw_epoch(places, one_label_each(labels), "balanced", seed=settings.seed, epoch=epoch)
    return torch.from_numpy(draws.positions)


def _descend(
    layers: nn.Sequential,
    rows: Tensor,
    labels: Tensor,
    weights: Rows | None,
    order: Callable[[int], Tensor],
) -> None:
    """AdamW with a cosine schedule down to 0; order: the rows of each epoch."""
    class_weight = None if weights is None else torch.from_numpy(weights)
    steps_each = -(-len(rows) // _BATCH)
    epochs = max(_EPOCHS, -(-_LEAST_UPDATES // steps_each))
    optimizer = torch.optim.AdamW(layers.parameters(), lr=_LR, weight_decay=_DECAY, fused=True)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps_each)
    for epoch in range(epochs):
        for chosen in torch.split(order(epoch), _BATCH):
            loss = _head_loss(layers(rows[chosen]), labels[chosen], class_weight)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            falling.step()


def _head_loss(logits: Tensor, labels: Tensor, class_weight: Tensor | None) -> Tensor:
    if labels.ndim == 2:
        return image_losses(logits, labels).mean()
    return cross_entropy(logits, labels, weight=class_weight)


@torch.no_grad()
def _unstandardise(layers: nn.Sequential, mean: Rows, deviation: Rows) -> None:
    """Fold the standardisation into the first dense layer, which then takes raw features."""
    first = next(layer for layer in layers if isinstance(layer, nn.Linear))
    first.weight.div_(torch.from_numpy(deviation))
    first.bias.sub_(first.weight @ torch.from_numpy(mean))


def dense_parameters(layers: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """Kernel and bias of each dense layer of a head, in order, copied."""
    own = copy.deepcopy(layers)
    return [(m.weight.detach(), m.bias.detach()) for m in own if isinstance(m, nn.Linear)]
