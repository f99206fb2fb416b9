"""What defines a training run, except for its state, and whether its parts belong together."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from glasshouse.data.alike_splits import require_alike_splits
from glasshouse.data.batches import Cut
from glasshouse.data.images import ImageSet
from glasshouse.errors import UsageError
from glasshouse.models.classifier import Preprocessing
from glasshouse.models.image_inputs import require_network_size
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training.own_parts import BatchSource, Loss, MakeOptimizer, WantedBatches
from glasshouse.training.process_group import ALONE, ProcessGroup
from glasshouse.training.schedules import Rate


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that defines a training run, except for its state.

    rate: a function that is called once per epoch, counted from 0, and returns the learning rate;
    EveryStep for one that changes within an epoch; None follows settings.schedule.
    class_weights: weight of each class in the loss; None: all alike.

    batches: in place of our own, a function that is called with the epoch, counted from 0, and
    returns an iterable of (images, labels): images ``(n, 3, h, w)`` with values 0 to 255, to which
    the preprocessing is then applied. loss: in place of cross-entropy, a function of logits
    ``(n, k)`` and labels, also of the validation split's, that returns a mean or a value per image.
    optimizer: in place of the settings' one, a function from the network to a torch optimizer,
    whose learning rates the schedule scales. group: the processes that share the shards of each
    batch, all of which run the same training. is_asked_to_stop: whether this process is; the others
    of its group learn it with the step.

    Raises DataError for splits with other classes, sizes or kinds of labels, and for images of
    another size than that of the preprocessing.
    """

    train: ImageSet
    validation: ImageSet
    preprocessing: Preprocessing
    settings: TrainSettings
    augment: AugmentSettings
    rate: Rate | None = None
    class_weights: tuple[float, ...] | None = None
    batches: BatchSource | None = None
    loss: Loss | None = None
    optimizer: MakeOptimizer | None = None
    group: ProcessGroup = ALONE
    is_asked_to_stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        require_alike_splits(self.train, self.validation)
        for images in (self.train, self.validation):
            require_network_size(images, self.preprocessing)

    @property
    def cut(self) -> Cut:
        """How batches are cut into shards, and which of them this process computes."""
        shards = self.settings.shards
        return Cut(shards, self.group.share_of(shards))

    def wanted_batches(self, device: torch.device) -> WantedBatches:
        """What batches of the user's own have to be."""
        size = (self.preprocessing.height, self.preprocessing.width)
        # A loss of the user's own takes whatever the batches yield; weights need classes.
        takes_any = self.loss is not None and self.class_weights is None
        classes = None if takes_any else len(self.train.class_names)
        return WantedBatches(size, device, self.train.is_multi_label, classes)


def require_settings_act(setup: TrainingSetup) -> None:
    """Raise UsageError for settings that own parts would leave without any effect."""
    if setup.loss is not None and setup.settings.label_smoothing:
        raise UsageError(
            "train.label_smoothing acts in the built-in loss only: set it to 0, and smooth labels "
            "in a loss of your own"
        )
    if setup.batches is None:
        return
    for name, is_set in (
        ("augmentation", setup.augment != AugmentSettings()),
        ("train.sampling", setup.settings.sampling != TrainSettings().sampling),
        ("train.shards", setup.settings.shards > 1),
    ):
        if is_set:
            raise UsageError(
                f"{name} acts on the built-in batches only: leave it out, and do it where your "
                "own batches are made"
            )
