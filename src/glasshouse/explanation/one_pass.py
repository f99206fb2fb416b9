"""Every map of one batch of images, from one recorded forward pass.

A batch costs one forward pass and one backward pass per ReLU rule in use, whatever the number of
methods. SmoothGrad, integrated gradients and occlusion need passes of their own. Where the answer
is the mean of several views, all of them are in the batch, and maps are the mean over them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import GradientEdge

from glasshouse.errors import ModelError, NotFinite
from glasshouse.explanation.activations import activations_of
from glasshouse.explanation.attention_maps import rollout_map, rollout_note
from glasshouse.explanation.graph.layer_choice import (
    choose_layer,
    find_call,
    module_of,
    require_layer,
    require_layout,
)
from glasshouse.explanation.graph.map_layout import Layouts, MapLayout
from glasshouse.explanation.graph.recording import (
    Call,
    Recording,
    full,
    gradients,
    input_edge,
    nodes_between,
    record,
    require_traceable,
)
from glasshouse.explanation.graph.relu_rules import ReluCount, count_relus, describe_count
from glasshouse.explanation.inputs import Explainable, Targets, answering, as_positions
from glasshouse.explanation.maps import saliency
from glasshouse.explanation.maps.cam import CAMS
from glasshouse.explanation.maps.guided import guided_grad_cam
from glasshouse.explanation.methods import (
    METHODS,
    ExplainSettings,
    Rule,
    require_methods,
    rules_needed,
)
from glasshouse.explanation.nouns import (
    Activations,
    Explanation,
    ExplanationPage,
    Floats,
    LayerChoice,
)
from glasshouse.models.predict import require_finite
from glasshouse.models.prediction_sets import rule_of


@dataclass(frozen=True)
class Question:
    """What is asked of every batch: which methods, at which layer, with which settings."""

    classifier: Explainable
    methods: tuple[str, ...]
    layer: str | None
    settings: ExplainSettings


@dataclass(frozen=True)
class Recorded:
    """A forward pass of all views and, where class activation maps need one, their layer."""

    recording: Recording
    layouts: Layouts
    choice: LayerChoice | None = None
    layout: MapLayout | None = None

    @property
    def call(self) -> Call | None:
        """The output of the layer of the class activation maps."""
        return None if self.choice is None else find_call(self.recording.calls, self.choice.name)


@dataclass(frozen=True)
class _Found:
    """Gradients of one batch by rule, and the ReLUs between the logits and them."""

    at_image: dict[Rule, Tensor]
    at_layer: dict[Rule, Tensor]
    image_count: ReluCount
    layer_count: ReluCount


def ask(
    classifier: Explainable,
    methods: Sequence[str],
    layer: str | None,
    settings: ExplainSettings | None,
) -> Question:
    """A question whose names all exist.

    Raises UsageError for an unknown method or layer, ModelError for a network whose operations
    are hidden.
    """
    chosen = require_methods(methods)
    require_traceable(classifier.net)
    settings = settings or ExplainSettings()
    for name in (*settings.activation_layers, *([layer] if layer else [])):
        require_layer(classifier.net, name)
    return Question(classifier, chosen, layer, settings)


def record_batch(question: Question, inputs: Tensor, *, see_all: bool = False) -> Recorded:
    """The forward pass of inputs ``(n, c, h, w)`` in all views, with the layer of the maps.

    see_all: record every layer, for a caller that chooses among them.
    """
    net, inputs = question.classifier.net, question.classifier.views.stacked(inputs)
    methods = [METHODS[name] for name in question.methods]
    keep = {module_of(name) for name in question.settings.activation_layers}
    # Any layer may be the one that says where the tokens lie.
    see_all = see_all or any(method.source == "attention" for method in methods)
    if not any(method.needs_layer for method in methods):
        recording = record(net, inputs, keep=keep, see_all=see_all)
        return Recorded(recording, Layouts(net, recording))
    if question.layer is None:
        recording = record(net, inputs, keep=keep, see_all=True)
        layouts = Layouts(net, recording)
        found = Recorded(recording, layouts, choose_layer(recording, layouts))
        return _with_layout(with_values(question, found, ()))
    layer, name = question.layer, module_of(question.layer)
    # Only what comes after the layer is differentiated, so only that needs values.
    is_enough = all(m.source == "layer" for m in methods) and not keep and layer == name
    cut = name if is_enough and not see_all else None
    recording = record(net, inputs, keep={name, *keep}, see_all=see_all, cut=cut)
    choice = LayerChoice(layer, "the requested layer")
    return _with_layout(Recorded(recording, Layouts(net, recording), choice))


def with_values(question: Question, recorded: Recorded, names: Sequence[str]) -> Recorded:
    """The recording, made anew where a later operation overwrote a value that is needed.

    names: layers whose outputs are needed in addition to that of the class activation maps.
    """
    recording = recorded.recording
    wanted = [*names, *([] if recorded.choice is None else [recorded.choice.name])]
    if not any(find_call(recording.calls, name).is_overwritten for name in wanted):
        return recorded
    keep = {module_of(name) for name in (*wanted, *question.settings.activation_layers)}
    inputs = recording.inputs.detach()
    again = record(question.classifier.net, inputs, keep=keep, see_all=True)
    return replace(recorded, recording=again)


def _with_layout(recorded: Recorded) -> Recorded:
    call = recorded.call
    assert call is not None
    found = recorded.layouts.find([call]).get((call.name, call.number))
    return replace(recorded, layout=require_layout(call, found))


def explain_recorded(
    question: Question,
    recorded: Recorded,
    images: NDArray[np.uint8],
    target_class: Targets | None,
    against: Targets | None = None,
) -> ExplanationPage:
    """Every map of the images ``(n, 3, h, w)`` that were recorded; nothing is warned about."""
    classifier = question.classifier
    answers = classifier.views.averaged(recorded.recording.logits.detach())
    require_finite(answers, net=classifier.net)
    targets = as_positions(target_class, classifier.class_names, answers)
    selector = _one_hot(targets, answers)
    rivals = None
    if against is not None:
        rivals = as_positions(against, classifier.class_names, answers)
        selector = selector - _one_hot(rivals, answers)
    found = _differentiated(question, recorded, selector)
    blank = Explanation(
        method="",
        maps=np.empty(0),
        images=images,
        logits=_array(answers),
        targets=targets,
        class_names=classifier.class_names,
        against=rivals,
    )
    made = []
    for name in question.methods:
        maps, channels = _values(name, question, recorded, selector, found)
        if not np.isfinite(maps).all():
            raise NotFinite(
                f"the map of {name} has values that are NaN or infinite: the gradient is not "
                "defined for this image; choose another method"
            )
        described = _described(replace(blank, method=name), question, found, recorded)
        made.append(replace(described, maps=maps, channels=channels))
    return ExplanationPage(
        images=images,
        logits=_array(answers),
        class_names=classifier.class_names,
        explanations=tuple(made),
        activations=_activations(question, recorded, len(images)),
        layer_choice=recorded.choice,
        temperature=classifier.temperature,
        thresholds=classifier.thresholds,
        set_rule=rule_of(classifier.conformity, classifier.thresholds),
    )


def relus_before(recording: Recording, edge: GradientEdge | None) -> ReluCount:
    """The activations between an edge of the graph and the logits; none without an edge."""
    return ReluCount() if edge is None else count_relus(nodes_between(recording.logits, [edge]))


def _differentiated(question: Question, recorded: Recorded, selector: Tensor) -> _Found:
    """One backward pass per rule, to the image and the layer together.

    At the image, the gradient of the mean of all views; at the layer, that of each view.
    """
    recording, call, layout = recorded.recording, recorded.call, recorded.layout
    views = question.classifier.views
    each = selector.repeat(views.count, 1)
    image_rules, layer_rules = rules_needed(question.methods)
    # Without a layer, or with the graph cut at it, one of the two ends does not exist.
    image_edge = input_edge(recording) if image_rules else None
    layer_edge = None if call is None else call.edge
    found = _Found({}, {}, relus_before(recording, image_edge), relus_before(recording, layer_edge))
    for rule in dict.fromkeys([*image_rules, *layer_rules]):
        if rule in image_rules:
            _require_relus(rule, found.image_count)
        ends = [
            (found.at_image, image_edge if rule in image_rules else None),
            (found.at_layer, layer_edge if rule in layer_rules else None),
        ]
        wanted = [(into, edge) for into, edge in ends if edge is not None]
        results = gradients(recording, each, [edge for _, edge in wanted], rule)
        for (into, _), gradient in zip(wanted, results, strict=True):
            if into is found.at_image:
                into[rule] = views.gradient(gradient)
            else:
                into[rule] = layout.fold(gradient) if layout else gradient
    return found


def _require_relus(rule: Rule, count: ReluCount) -> None:
    if rule == "vanilla" or count.changed:
        return
    others = ", ".join(name for name, _ in count.other) or "none"
    raise ModelError(
        f"the {rule} rule changes the gradient at ReLUs, but this network has none (other "
        f"activations: {others}): use saliency, smoothgrad or integrated-gradients"
    )


def _described(
    blank: Explanation, question: Question, found: _Found, recorded: Recorded
) -> Explanation:
    """The explanation with its rule, layer, notes and warnings; its maps are still missing."""
    method, choice, views = METHODS[blank.method], recorded.choice, question.classifier.views
    at_image = method.source != "layer"
    count = found.image_count if at_image else found.layer_count
    place = "between the image and the score" if at_image else "after this layer"
    notes, warnings = describe_count(count, method.rule, place)
    layer = None
    if method.source == "attention":
        notes = (rollout_note(recorded.recording),)
    if choice is not None and method.needs_layer:
        layer = choice.name
        notes = (*notes, f"Layer: {choice.reason}.", *_identities(blank.method, found))
        warnings = (*warnings, *choice.warnings)
    if views.count > 1:
        notes = (*notes, f"Like the answer, the mean of {views.words}.")
    return replace(
        blank,
        rule=method.rule,
        layer=layer,
        relu_operations=count.changed if method.rule != "vanilla" else 0,
        notes=notes,
        warnings=warnings,
    )


def _identities(name: str, found: _Found) -> Iterator[str]:
    """Which other methods provably give this very map here."""
    if name == "grad-cam" and not found.layer_count.changed:
        yield (
            "No ReLU comes after this layer, so Grad-CAM under the guided and the relu rule is "
            "identical to this map."
        )
    gradient = found.at_layer.get("vanilla")
    if name not in ("grad-cam", "hires-cam", "xgrad-cam") or gradient is None:
        return
    spread = gradient.amax((2, 3)) - gradient.amin((2, 3))
    largest = float(gradient.abs().max())
    if largest > 0 and float(spread.max()) <= 1e-6 * largest:
        yield (
            "After this layer the score is a weighted sum of channel means (global average pooling "
            "and a linear layer), so Grad-CAM, HiResCAM, XGrad-CAM and CAM are the same map."
        )


def _values(
    name: str, question: Question, recorded: Recorded, selector: Tensor, found: _Found
) -> tuple[Floats, Floats | None]:
    """A method's maps ``(n, h, w)``, and the channels they were made from, if any."""
    method, call, recording = METHODS[name], recorded.call, recorded.recording
    views, size = question.classifier.views, recording.inputs.shape[2:]
    if method.source == "own":
        inputs = recording.inputs[: len(selector)].detach()
        return _own_values(name, question, inputs, selector)
    if method.source == "attention":
        each = selector.repeat(views.count, 1)
        maps = rollout_map(name, recording, recorded.layouts, each)
        return _array(views.mean_map(maps, size)), None
    if method.source == "image":
        gradient = found.at_image[method.rule]
        return _array(saliency.largest_channel(gradient)), _array(gradient)
    assert call is not None and call.value is not None and recorded.layout is not None
    value = recorded.layout.fold(full(call.value))
    if method.source == "layer":
        # Eigen-CAM needs no gradient; the others find theirs.
        at_layer = found.at_layer.get(method.rule, value)
        return _array(views.mean_map(CAMS[method.cam](value, at_layer), size)), None
    cam = views.mean_map(CAMS["grad-cam"](value, found.at_layer["vanilla"]), size)
    product = guided_grad_cam(found.at_image[method.rule], cam)
    return _array(saliency.largest_channel(product)), _array(product)


def _own_values(
    name: str, question: Question, inputs: Tensor, selector: Tensor
) -> tuple[Floats, Floats | None]:
    net, settings = answering(question.classifier), question.settings
    if name == "occlusion":
        return _array(saliency.occlusion(net, inputs, selector, window=settings.window)), None
    if name == "smoothgrad":
        gradient = saliency.smooth_grad(
            net,
            inputs,
            selector,
            samples=settings.samples,
            noise=settings.noise,
            seed=settings.seed,
        )
        return _array(saliency.largest_channel(gradient)), _array(gradient)
    shares = saliency.integrated_gradients(net, inputs, selector, steps=settings.steps)
    return _array(shares.sum(1)), _array(shares)


def _activations(question: Question, recorded: Recorded, count: int) -> tuple[Activations, ...]:
    """The outputs of layers for the images as they are, of which there are count."""
    names = question.settings.activation_layers
    recording, layouts = recorded.recording, recorded.layouts
    if names and question.classifier.views.count > 1:
        net, inputs = question.classifier.net, recording.inputs[:count]
        recording = record(net, inputs, keep={module_of(name) for name in names})
        layouts = Layouts(net, recording)
    return tuple(activations_of(name, recording, layouts) for name in names)


def _one_hot(positions: NDArray[np.int64], logits: Tensor) -> Tensor:
    chosen = torch.zeros_like(logits, requires_grad=False)
    rows = torch.arange(len(positions), device=logits.device)
    chosen[rows, torch.from_numpy(positions).to(logits.device)] = 1
    return chosen


def _array(values: Tensor) -> Floats:
    # NumPy has no bfloat16, and answers are in float32 whatever the network's precision.
    result: Floats = values.detach().float().cpu().numpy()
    return result
