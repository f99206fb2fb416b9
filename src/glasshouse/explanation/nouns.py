"""What explanations are made of: maps, the checks on them, layers, and pages of them; no torch."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import UsageError, did_you_mean
from glasshouse.explanation.methods import ROLLOUTS, Rule
from glasshouse.models.conformity import SetRule
from glasshouse.wording import pluralize

Floats = NDArray[np.floating[Any]]
Verdict = Literal["good", "doubtful", "note"]
# How the sentence of a check begins that cannot judge.
CANNOT = "Cannot be judged"


class Drawable:
    """What a notebook shows as an image."""

    def _repr_png_(self) -> bytes:
        data: bytes = _drawing().png_of(self)
        return data


@dataclass(frozen=True)
class Check:
    """One answer to "may I trust this map?": a value per image, and a sentence.

    verdict: good, doubtful, or a note without judgement.
    """

    name: str
    values: tuple[float, ...]
    verdict: Verdict
    words: str

    @property
    def is_open(self) -> bool:
        """Whether nothing could be judged; the sentence then begins with this and says why."""
        return self.words.startswith(CANNOT)


@dataclass(frozen=True)
class Explanation(Drawable):
    """Why the network gave these images these scores: raw signed maps and what they explain.

    maps ``(n, h, w)``: in logit units (saliency: logits per unit of input), at the size of the
    images or, for a class activation map, of its layer. channels ``(n, 3, h, w)``: the signed
    values per colour that maps were made from, where there are any. logits ``(n, k)``: the
    answers. targets ``(n,)``: the explained classes; against ``(n,)``: the classes that were
    subtracted, if any. relu_operations: how many ReLUs a rule acted on. notes and
    warnings are sentences.
    """

    method: str
    maps: Floats
    images: NDArray[np.uint8]
    logits: Floats
    targets: NDArray[np.int64]
    class_names: tuple[str, ...]
    against: NDArray[np.int64] | None = None
    layer: str | None = None
    rule: Rule = "vanilla"
    relu_operations: int = 0
    channels: Floats | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        rows, columns = self.maps.shape[1:]
        place = "" if self.layer is None else f" at layer {self.layer}"
        maps = f"{pluralize(len(self), 'map')} of {rows}x{columns}"
        return f"Explanation({self.method}{place}, {maps})"

    @property
    def is_cam(self) -> bool:
        """Whether this is a coarse map, in the resolution of a layer or of the tokens."""
        is_coarse = self.layer is not None or self.method in ROLLOUTS
        return is_coarse and self.channels is None

    @property
    def is_region(self) -> bool:
        """Whether its values belong to regions of the image rather than to single pixels."""
        return self.is_cam or self.method == "occlusion"

    def _repr_html_(self) -> str:
        page: str = _drawing().html_of(self)
        return page


class ShownTogether(tuple[Explanation, ...]):
    """Explanations of one call, which a notebook shows one below another instead of as text."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return "".join(each._repr_html_() for each in self)


@dataclass(frozen=True)
class LayerInfo:
    """A layer that can be explained: name, class, output shape without the batch, calls.

    size: rows and columns of its maps, None where the output has no known place in the image.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    calls: int
    size: tuple[int, int] | None = None

    @property
    def has_extent(self) -> bool:
        """Whether its output has rows and columns, as a map needs."""
        return self.size is not None and min(self.size) > 1


@dataclass(frozen=True)
class LayerChoice:
    """The layer of a class activation map and the reason for it; warnings are sentences."""

    name: str
    reason: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Activations(Drawable):
    """The output of one layer: ``(n, channels, h, w)``, or ``(n, units)`` for a flat layer.

    Channels-last outputs and tokens are moved into this order; other outputs stay as they are.
    """

    layer: str
    values: Floats

    # The generated text shows arrays, in dozens of lines.
    def __repr__(self) -> str:
        images, *sizes = self.values.shape
        shape = "x".join(map(str, sizes))
        return f"Activations(layer {self.layer}, {shape} values of {pluralize(images, 'image')})"


@dataclass(frozen=True)
class ExplanationPage(Drawable):
    """What one pass over some images yields: scores, explanations, activations of layers.

    logits ``(n, k)``: the classifier's answer, which the maps explain; both are means over its
    views. temperature and thresholds: those of the classifier, by which logits become
    probabilities. names: of the image files, where they are known; model: what the classifier is
    called. set_rule: which classes are in prediction sets; None for a classifier that has none.
    """

    images: NDArray[np.uint8]
    logits: Floats
    class_names: tuple[str, ...]
    explanations: tuple[Explanation, ...]
    activations: tuple[Activations, ...] = ()
    layer_choice: LayerChoice | None = None
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    names: tuple[str, ...] = ()
    model: str = ""
    set_rule: SetRule | None = None


@dataclass(frozen=True)
class Mistakes(Drawable):
    """Misclassified images ``(n, 3, h, w)`` with three explanations of each.

    title says what they have in common. predicted, true: what speaks for either class; contrast:
    what speaks for the predicted rather than the true one.
    """

    title: str
    ids: NDArray[np.str_]
    probabilities: NDArray[np.float64]
    predicted: Explanation
    true: Explanation
    contrast: Explanation


def target_name(explanation: Explanation, index: int) -> str:
    """What is explained in one image, for example "cat" or "cat rather than dog"."""
    name = class_name_at(explanation.class_names, int(explanation.targets[index]))
    if explanation.against is None:
        return name
    other = class_name_at(explanation.class_names, int(explanation.against[index]))
    return f"{name} rather than {other}"


def class_name_at(class_names: tuple[str, ...], position: int) -> str:
    """The name of a class; its number where the names are unknown."""
    return class_names[position] if position < len(class_names) else str(position)


def class_position(target: object, class_names: tuple[str, ...]) -> int:
    """The position of a class by name or number; raises UsageError with the nearest name."""
    name = str(target)
    if isinstance(target, str) and name in class_names:
        return class_names.index(name)
    if isinstance(target, str):
        folded = [known.casefold() for known in class_names]
        if folded.count(name.casefold()) == 1:
            return folded.index(name.casefold())
    if name.isdecimal() and int(name) < len(class_names):
        return int(name)
    if name.lstrip("-").isdecimal():
        raise UsageError(f"no class {name}: expected 0 to {len(class_names) - 1}")
    raise UsageError(f"no class {name!r}. {_nearest(name, class_names)}")


def _nearest(name: str, class_names: tuple[str, ...]) -> str:
    sentence = did_you_mean(name, class_names)
    if sentence.startswith("Known") and len(class_names) > 30:
        return f"There are {len(class_names)}, from {class_names[0]!r} to {class_names[-1]!r}."
    return sentence


def _drawing() -> Any:
    # Drawing imports these nouns; they find it by name, and only when something is displayed.
    return import_module("glasshouse.explanation.draw.display")
