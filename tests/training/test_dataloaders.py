from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchvision.transforms.v2 import functional as transforms

from glasshouse.data.datasets import from_dataset
from glasshouse.data.images import ImageSet, Splits
from glasshouse.errors import DataError, UsageError
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training.dataloaders import from_dataloader
from glasshouse.training.fit import train_classifier
from glasshouse.training.loop import Step, TrainingSetup, train
from glasshouse.training.schedules import EveryStep
from glasshouse.training.state import Epoch, begin

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SETTINGS = TrainSettings(epochs=2, batch_size=16, device="cpu", precision="fp32")


def as_floats(pixels: torch.Tensor) -> Any:
    return transforms.to_dtype(pixels, torch.float32, scale=True)


def as_normalized(pixels: torch.Tensor) -> Any:
    return transforms.normalize(as_floats(pixels), list(MEAN), list(STD))


def loader_of(images: ImageSet, change: Any = lambda pixels: pixels, **options: Any) -> Any:
    pixels = change(torch.from_numpy(images.pixels))
    return DataLoader(
        TensorDataset(pixels, torch.from_numpy(images.labels)), batch_size=16, **options
    )


@pytest.mark.parametrize(
    ("change", "normalized"),
    [
        (lambda pixels: pixels, None),
        (as_floats, None),
        (as_normalized, Preprocessing(16, 16, mean=MEAN, std=STD)),
    ],
)
def test_every_usual_range_becomes_the_same_values(
    tiny_images: ImageSet, change: Any, normalized: Preprocessing | None
) -> None:
    source = from_dataloader(loader_of(tiny_images, change), normalized=normalized)
    pairs = list(source(0))
    found = torch.cat([images.float() for images, _ in pairs])
    assert torch.allclose(found, torch.from_numpy(tiny_images.pixels).float(), atol=1e-3)
    assert torch.cat([labels for _, labels in pairs]).tolist() == tiny_images.labels.tolist()
    assert len(source(0)) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "normalized", "words"),
    [
        (as_normalized, None, "expected floats in 0..1.*normalized=Preprocessing"),
        (lambda pixels: pixels.float(), None, "received 0 to 2"),
        (lambda pixels: pixels.int(), None, r"expected uint8 or float images, received torch\.int"),
        (
            as_normalized,
            Preprocessing(16, 16, mean=MEAN, std=(0.9, 0.9, 0.9)),
            "after undoing mean and std",
        ),
    ],
)
def test_another_range_is_refused(
    tiny_images: ImageSet, change: Any, normalized: Preprocessing | None, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        list(from_dataloader(loader_of(tiny_images, change), normalized=normalized)(0))


@pytest.mark.parametrize(
    ("low", "high", "is_near"),
    [(-1.9, 256.9, True), (-2.1, 255.0, False), (0.0, 257.1, False), (-2.1, 257.1, False)],
)
def test_values_may_go_two_levels_beyond_the_range(low: float, high: float, is_near: bool) -> None:
    images = torch.full((1, 3, 2, 2), 0.5)
    images[0, 0, 0], images[0, 1, 1] = low / 255, high / 255
    source = from_dataloader([(images, torch.zeros(1))])
    if is_near:
        ((found, _),) = source(0)
        assert found[0, 0, 0].tolist() == [0, 0] and found[0, 1, 1].tolist() == [255, 255]
        return
    with pytest.raises(DataError) as refused:
        list(source(0))
    assert str(refused.value).startswith(
        f"the loader's batch 1: expected floats in 0..1, received {low / 255:.3g} to "
        f"{high / 255:.3g}. Pass the mean and std of its Normalize with"
    )


@pytest.mark.parametrize("place", ["sampler", "dataset"])
def test_whatever_shuffles_by_epoch_is_told_the_epoch(place: str) -> None:
    told: list[int] = []
    shuffled = SimpleNamespace(set_epoch=told.append)

    class Loader(list[Any]):
        pass

    loader = Loader([{"pixel_values": torch.zeros(1, 3, 2, 2), "target": torch.zeros(1)}])
    setattr(loader, place, shuffled)
    source = from_dataloader(loader)
    for epoch in (3, 4):
        (pair,) = source(epoch)
        assert pair[0].shape == (1, 3, 2, 2)
    assert told == [3, 4]


@pytest.mark.parametrize("normalized", [None, Preprocessing(16, 16, mean=MEAN, std=STD)])
def test_channels_last_are_refused_and_grey_is_repeated(
    tiny_images: ImageSet, normalized: Preprocessing | None
) -> None:
    change = as_floats if normalized is None else as_normalized
    last = loader_of(tiny_images, lambda pixels: change(pixels).permute(0, 2, 3, 1))
    with pytest.raises(DataError, match=r"batch 1: expected images \(n, 3.*permute\(0, 3, 1, 2\)"):
        list(from_dataloader(last, normalized=normalized)(0))
    grey = loader_of(tiny_images, lambda pixels: pixels[:, :1])
    images, _ = next(iter(from_dataloader(grey, normalized=normalized)(0)))
    assert torch.equal(images, torch.from_numpy(tiny_images.pixels[:16, :1]).expand(-1, 3, -1, -1))
    for change in (lambda pixels: pixels[:, :0], lambda pixels: pixels[:, :2], lambda p: p[:, 0]):
        with pytest.raises(DataError, match=r"expected images \(n, 3, height, width\), received"):
            list(from_dataloader(loader_of(tiny_images, change), normalized=normalized)(0))


def test_a_classifier_is_trained_on_the_batches_of_a_loader(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    """In the order of the images, with the loss of the first epoch computed by hand."""
    loader = loader_of(tiny_splits.train, as_floats)
    still = tiny_net[:8].append(tiny_net[9])  # type: ignore[index]
    settings = SETTINGS.model_copy(update={"lr": 1e-12, "epochs": 1})
    classifier, epochs = train_classifier(
        still, tiny_splits, settings, batches=from_dataloader(loader)
    )
    net = still.train()
    losses = [nn.functional.cross_entropy(net(x), y).item() for x, y in loader]
    assert epochs[0].train_loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert classifier.class_names == tiny_splits.class_names


def test_a_loader_of_streamed_rows_has_no_length(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    class Streamed(IterableDataset[Any]):
        epochs: tuple[int, ...] = ()

        def set_epoch(self, epoch: int) -> None:
            self.epochs = (*self.epochs, epoch)

        def __iter__(self) -> Iterator[Any]:
            images = tiny_splits.train
            return iter(
                {"image": torch.from_numpy(images.pixels[i]), "label": int(images.labels[i])}
                for i in range(96)
            )

    streamed = Streamed()
    loader = DataLoader(streamed, batch_size=40)
    _, epochs = train_classifier(tiny_net, tiny_splits, SETTINGS, batches=from_dataloader(loader))
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    assert streamed.epochs == (0, 1)
    assert all(isinstance(each, Epoch) and each.train_loss > 0 for each in epochs)
    assert all(one.train_loss != other.train_loss for one, other in pairwise(epochs))


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (7, "received an int"),
        (iter([]), "once per epoch"),
        ([(1, 2, 3)], "received 3 values"),
        ([{"pixels": 1, "kind": 2}], "have pixels, kind: expected an image and a label"),
    ],
)
def test_what_is_no_loader_is_refused(loader: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        list(from_dataloader(loader)(0))


def test_the_dataset_of_a_loader_can_be_read_once_instead(tiny_images: ImageSet) -> None:
    loader = loader_of(tiny_images)
    assert np.array_equal(from_dataset(loader.dataset).pixels, tiny_images.pixels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
@pytest.mark.parametrize("loss", [None, nn.BCEWithLogitsLoss()])
def test_several_labels_of_a_loader_train_in_whatever_dtype_they_have(
    tiny_splits: Splits, dtype: torch.dtype, loss: Any
) -> None:
    # Losses of torch need floats, so that is what loaders of such labels usually have.
    splits = with_several(tiny_splits)
    answers = torch.from_numpy(splits.train.targets)
    rows = TensorDataset(torch.from_numpy(splits.train.pixels), answers.to(dtype))
    loader = DataLoader(rows, batch_size=16)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * splits.train.height**2, 4))
    _, epochs = train_classifier(net, splits, SETTINGS, batches=from_dataloader(loader), loss=loss)
    bare = DataLoader(TensorDataset(*rows.tensors[:1], answers), batch_size=16)
    _, expected = train_classifier(net, splits, SETTINGS, batches=from_dataloader(bare))
    for found, known in zip(epochs, expected, strict=True):
        assert found.train_loss == pytest.approx(known.train_loss, abs=1e-6)
        assert found.validation_loss == pytest.approx(known.validation_loss, abs=1e-6)
        assert found.train_accuracy == known.train_accuracy
    soft = TensorDataset(rows.tensors[0], answers.float() / 2)
    with pytest.raises(DataError, match=r"labels \(16, 4\) of 0 and 1, one for each label"):
        train_classifier(
            net, splits, SETTINGS, batches=from_dataloader(DataLoader(soft, batch_size=16))
        )


def with_several(splits: Splits) -> Splits:
    """The splits with four labels, of which an image has any number."""

    def changed(images: ImageSet) -> ImageSet:
        truth = np.random.default_rng(len(images)).random((len(images), 4)) < 0.5
        return replace(images, targets=truth, class_names=("a", "b", "c", "d"))

    return replace(
        splits,
        train=changed(splits.train),
        validation=changed(splits.validation),
        test=changed(splits.test),
    )


@pytest.mark.parametrize("counts", [[7, 9], [2, 2]])
def test_the_schedule_ends_no_epoch_before_its_last_step(
    counts: list[int], tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    """Batches of unknown length may be more or fewer than the images would give, which is six."""
    images = tiny_splits.train

    def source(epoch: int) -> Iterator[Any]:
        for _ in range(counts[epoch]):
            yield images.pixels[:16], images.labels[:16]

    places: list[float] = []

    def rate(place: float) -> float:
        places.append(place)
        return 0.01

    setup = TrainingSetup(
        images, tiny_splits.validation, Preprocessing(16, 16),
        SETTINGS, AugmentSettings(), rate=EveryStep(rate), batches=source,
    )  # fmt: skip
    state = begin(tiny_net, setup.settings, torch.device("cpu"))
    steps = [each for each in train(state, setup) if isinstance(each, Step)]
    assert len(steps) == sum(counts)
    first = places[: counts[0]]
    assert first[0] == 0 and first == sorted(set(first)) and max(first) < 1
