"""The methods by name: which gradients each is made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from glasshouse.errors import UsageError, did_you_mean
from glasshouse.explanation.graph.relu_rules import Rule
from glasshouse.explanation.maps.cam import CAMS

MethodName = Literal[
    "saliency", "guided", "relu", "grad-cam", "guided-grad-cam", "grad-cam-guided-rule",
    "grad-cam-relu-rule", "hires-cam", "xgrad-cam", "grad-cam++", "layer-cam", "eigen-cam",
    "smoothgrad", "integrated-gradients", "occlusion",
]  # fmt: skip
PAGE_METHODS: tuple[MethodName, ...] = ("saliency", "guided", "relu", "grad-cam", "guided-grad-cam")
ALL_METHODS: tuple[MethodName, ...] = get_args(MethodName)


@dataclass(frozen=True)
class ExplainSettings:
    """What the methods need besides images, class and layer.

    activation_layers: whose outputs a page keeps. batch_size: images in one pass.
    samples, noise: SmoothGrad. steps: integrated gradients. window: pixels a side of
    occlusion's square; unset: an eighth of the image.
    """

    activation_layers: tuple[str, ...] = ()
    batch_size: int = 16
    samples: int = 25
    noise: float = 0.15
    steps: int = 50
    window: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """Gradients at the image, at the layer, at both, or passes of its own; and the ReLU rule."""

    source: Literal["image", "layer", "both", "own"]
    rule: Rule = "vanilla"
    cam: str = "grad-cam"

    @property
    def needs_layer(self) -> bool:
        """Whether a class activation map is part of it."""
        return self.source in ("layer", "both")


METHODS: dict[str, Method] = {
    "saliency": Method("image"),
    "guided": Method("image", "guided"),
    "relu": Method("image", "relu"),
    "guided-grad-cam": Method("both", "guided"),
    "grad-cam-guided-rule": Method("layer", "guided"),
    "grad-cam-relu-rule": Method("layer", "relu"),
    **{name: Method("layer", cam=name) for name in CAMS},
    "smoothgrad": Method("own"),
    "integrated-gradients": Method("own"),
    "occlusion": Method("own"),
}

# Many passes each, where all the others share one.
SLOW_METHODS = tuple(name for name in ALL_METHODS if METHODS[name].source == "own")


def require_methods(names: Sequence[str]) -> tuple[MethodName, ...]:
    """The names without repetitions; raises UsageError for an unknown one."""
    for name in names:
        if name not in METHODS:
            raise UsageError(f"no method {name!r}. {did_you_mean(name, METHODS)}")
    return cast(tuple[MethodName, ...], tuple(dict.fromkeys(names)))


def rules_needed(names: Sequence[str]) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """The rules under which gradients are needed at the image, and at the layer."""
    methods = [METHODS[name] for name in names]
    image = [m.rule for m in methods if m.source in ("image", "both")]
    layer = [m.rule for m in methods if m.source == "layer" and m.cam != "eigen-cam"]
    # Guided Grad-CAM multiplies a guided gradient by a map made from plain ones.
    plain: list[Rule] = ["vanilla" for m in methods if m.source == "both"]
    return tuple(dict.fromkeys(image)), tuple(dict.fromkeys([*plain, *layer]))
