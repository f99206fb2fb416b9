"""The methods by name: what each shows, and which gradients it is made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from glasshouse.errors import UsageError, did_you_mean

# How gradients pass back through ReLUs: graph/relu_rules.py defines the three.
Rule = Literal["vanilla", "guided", "relu"]
MethodName = Literal[
    "saliency", "guided", "relu", "grad-cam", "guided-grad-cam", "grad-cam-guided-rule",
    "grad-cam-relu-rule", "hires-cam", "xgrad-cam", "grad-cam++", "layer-cam", "eigen-cam",
    "attention-rollout", "gradient-rollout", "smoothgrad", "integrated-gradients", "occlusion",
]  # fmt: skip
PAGE_METHODS: tuple[MethodName, ...] = ("saliency", "guided", "relu", "grad-cam", "guided-grad-cam")
ALL_METHODS: tuple[MethodName, ...] = get_args(MethodName)
SHEET_METHODS: tuple[MethodName, ...] = (
    "saliency", "guided", "relu", "grad-cam", "grad-cam-guided-rule", "grad-cam-relu-rule",
    "guided-grad-cam", "hires-cam", "grad-cam++", "layer-cam", "gradient-rollout",
    "attention-rollout", "eigen-cam", "smoothgrad", "integrated-gradients", "occlusion",
)  # fmt: skip
# Stands for every method of a sheet that suits the network.
ALL = "all"
# Stands for no maps at all, only activations.
ACTIVATIONS = "activations"


@dataclass(frozen=True)
class ExplainSettings:
    """What the methods need in addition to images, class and layer.

    activation_layers: the layers whose outputs a page keeps. batch_size: images per pass, each
    view of an image counted as one.
    samples, noise: SmoothGrad. steps: integrated gradients. window: side of occlusion's square
    in pixels; unset: an eighth of the image.
    """

    activation_layers: tuple[str, ...] = ()
    batch_size: int = 16
    samples: int = 25
    noise: float = 0.15
    steps: int = 50
    window: int | None = None
    seed: int = 0


# What a map answers about the class {name}; a sheet groups its maps by these questions.
QuestionName = Literal["where", "how much", "sensitivity", "seen"]
QUESTIONS: dict[QuestionName, str] = {
    "where": "Where is the evidence for {name}?",
    "how much": "How much does each part count for {name}?",
    "sensitivity": "Which pixels would change the score of {name} most?",
    "seen": "What does the network respond to, almost whatever the class?",
}


@dataclass(frozen=True)
class Method:
    """How a method is made, what people call it, and which question it answers.

    source: gradients at the image, at the layer, at both, the weights of all attention layers, or
    passes of its own. rule: the ReLU rule of these gradients. cam: the function of `CAMS`, for the
    sources layer and both.
    """

    title: str
    question: QuestionName
    source: Literal["image", "layer", "both", "attention", "own"]
    rule: Rule = "vanilla"
    cam: str = "grad-cam"

    @property
    def needs_layer(self) -> bool:
        """Whether a class activation map is part of it."""
        return self.source in ("layer", "both")


METHODS: dict[str, Method] = {
    "saliency": Method("Saliency", "sensitivity", "image"),
    "guided": Method("Guided saliency", "seen", "image", "guided"),
    "relu": Method("ReLU saliency", "seen", "image", "relu"),
    "grad-cam": Method("Grad-CAM", "where", "layer"),
    "guided-grad-cam": Method("Guided Grad-CAM", "seen", "both", "guided"),
    "grad-cam-guided-rule": Method("Grad-CAM, guided rule", "where", "layer", "guided"),
    "grad-cam-relu-rule": Method("Grad-CAM, ReLU rule", "where", "layer", "relu"),
    "hires-cam": Method("HiResCAM", "where", "layer", cam="hires-cam"),
    "xgrad-cam": Method("XGrad-CAM", "where", "layer", cam="xgrad-cam"),
    "grad-cam++": Method("Grad-CAM++", "where", "layer", cam="grad-cam++"),
    "layer-cam": Method("LayerCAM", "where", "layer", cam="layer-cam"),
    "eigen-cam": Method("Eigen-CAM", "seen", "layer", cam="eigen-cam"),
    "attention-rollout": Method("Attention rollout", "seen", "attention"),
    "gradient-rollout": Method("Gradient-weighted rollout", "where", "attention"),
    "smoothgrad": Method("SmoothGrad", "sensitivity", "own"),
    "integrated-gradients": Method("Integrated gradients", "how much", "own"),
    "occlusion": Method("Occlusion", "how much", "own"),
}

# Many passes each, where all the others share one.
SLOW_METHODS = tuple(name for name in ALL_METHODS if METHODS[name].source == "own")

# Their maps have one value per token, not per pixel.
ROLLOUTS = tuple(name for name in ALL_METHODS if METHODS[name].source == "attention")
# Maps of the network's attention to the image, whatever the class.
CLASSLESS = ("eigen-cam", "attention-rollout")


def require_methods(names: Sequence[str]) -> tuple[MethodName, ...]:
    """The names without repetitions; raises UsageError for an unknown one."""
    for name in names:
        if name not in METHODS:
            raise UsageError(f"no method {name!r}. {did_you_mean(name, METHODS)}")
    return cast(tuple[MethodName, ...], tuple(dict.fromkeys(names)))


def require_named_methods(names: Sequence[str]) -> None:
    """The same for names on a command line, where ALL and ACTIVATIONS are names as well."""
    try:
        require_methods([name for name in names if name not in (ALL, ACTIVATIONS)])
    except UsageError as error:
        raise UsageError(f"{error} Also possible: {ALL}, {ACTIVATIONS}.") from error


def rules_needed(names: Sequence[str]) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """The rules under which gradients are needed at the image, and at the layer."""
    methods = [METHODS[name] for name in names]
    image = [m.rule for m in methods if m.source in ("image", "both")]
    layer = [m.rule for m in methods if m.source == "layer" and m.cam != "eigen-cam"]
    # Guided Grad-CAM multiplies a guided gradient by a map made from plain ones.
    plain: list[Rule] = ["vanilla" for m in methods if m.source == "both"]
    return tuple(dict.fromkeys(image)), tuple(dict.fromkeys([*plain, *layer]))
