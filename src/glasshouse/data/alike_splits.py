"""Whether splits belong together: images of one size, the same classes, labels of one kind."""

from typing import Protocol

from glasshouse.data.images import ImageSet
from glasshouse.errors import DataError
from glasshouse.wording import first_of

_NAMES = ("training", "validation", "test")
_SHOWN = 5


class Labelled(Protocol):
    """Images, or their features, with labels."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of their positions."""

    @property
    def is_multi_label(self) -> bool:
        """Whether each may have any number of labels."""

    def __len__(self) -> int:
        """How many there are."""


def require_alike_splits(*splits: ImageSet) -> None:
    """Raise DataError, naming two splits and what differs, for splits that do not belong together.

    splits: training, validation and test, in this order. A split without images may be of any kind.
    """
    given = [each for each in zip(_NAMES, splits, strict=False) if len(each[1])]
    for name, images in given[1:]:
        first, train = given[0]
        require_same_labels((first, train), (name, images))
        if images.pixels.shape[2:] != train.pixels.shape[2:]:
            raise DataError(
                f"the images of the {first} split are {train.height}x{train.width}, but those of "
                f"the {name} split {images.height}x{images.width}: bring all splits to one size"
            )


def require_same_labels(first: tuple[str, Labelled], other: tuple[str, Labelled]) -> None:
    """Raise DataError for two splits, by name, with other classes or another kind of labels."""
    (here, one), (there, two) = first, other
    if one.is_multi_label != two.is_multi_label:
        many, single = (here, there) if one.is_multi_label else (there, here)
        raise DataError(
            f"an image of the {many} split may have several labels, but one of the {single} split "
            "has one: give both splits labels of the same kind, bool (n, classes) or one each (n,)"
        )
    if one.class_names != two.class_names:
        raise DataError(
            f"the {here} and the {there} split have different classes: "
            f"{_class_difference(first, other)}. Give both the same class names in the same order, "
            "such as ImageSet.from_arrays(pixels, labels, class_names=[...])"
        )


def _class_difference(first: tuple[str, Labelled], other: tuple[str, Labelled]) -> str:
    """The classes that only one of two splits has, or else the first label that differs."""
    (here, one), (there, two) = first, other
    own, others = one.class_names, two.class_names
    lacking = {
        here: [name for name in own if name not in others],
        there: [name for name in others if name not in own],
    }
    parts = [
        f"only the {split} split has {first_of(names, _SHOWN)}"
        for split, names in lacking.items()
        if names
    ]
    if parts:
        return ", and ".join(parts)
    for label, (name, another) in enumerate(zip(own, others, strict=False)):
        if name != another:
            return f"label {label} is {name} in the {here} and {another} in the {there} split"
    return f"they list {len(own)} and {len(others)} names"
