"""The verb of this layer: every map that is asked for, from one forward pass.

A batch costs one forward pass and one backward pass for each ReLU rule in use, whatever the number
of methods; SmoothGrad, integrated gradients and occlusion need passes of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import GradientEdge

from glasshouse.errors import ModelError
from glasshouse.explanation.activations import Activations
from glasshouse.explanation.graph.layer_choice import (
    LayerChoice,
    choose_layer,
    find_call,
    module_of,
    require_extent,
    require_layer,
)
from glasshouse.explanation.graph.recording import (
    Call,
    Recording,
    computing,
    gradients,
    input_edge,
    nodes_between,
    record,
    require_traceable,
)
from glasshouse.explanation.graph.relu_rules import (
    ReluCount,
    Rule,
    count_relus,
    describe_count,
    warn_of_count,
)
from glasshouse.explanation.inputs import (
    Targets,
    as_batch,
    as_inputs,
    as_positions,
    reported_logits,
    require_count,
)
from glasshouse.explanation.maps import saliency
from glasshouse.explanation.maps.cam import CAMS
from glasshouse.explanation.maps.guided import guided_grad_cam
from glasshouse.explanation.methods import (
    METHODS,
    PAGE_METHODS,
    ExplainSettings,
    MethodName,
    require_methods,
    rules_needed,
)
from glasshouse.explanation.nouns import Explanation, Floats
from glasshouse.explanation.page import ExplanationPage, join_pages
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import device_of

Values = tuple[Floats, Floats | None]


@dataclass(frozen=True)
class _Question:
    """What is asked, the same for every batch."""

    classifier: Classifier
    methods: tuple[str, ...]
    layer: str | None
    settings: ExplainSettings


@dataclass(frozen=True)
class _Found:
    """Gradients of one batch by rule, and what lies between the logits and them."""

    at_image: dict[Rule, Tensor]
    at_layer: dict[Rule, Tensor]
    image_count: ReluCount
    layer_count: ReluCount


def explain(
    classifier: Classifier,
    images: NDArray[np.uint8],
    *,
    methods: Sequence[MethodName] = PAGE_METHODS,
    target_class: Targets | None = None,
    layer: str | None = None,
    settings: ExplainSettings | None = None,
) -> tuple[Explanation, ...]:
    """One Explanation per method for all images; the net is left as it was.

    images: uint8 ``(n, 3, h, w)`` of the net's size. target_class: a name or position for all,
    or one per image; unset: the predicted class. layer: where class activation maps are drawn;
    unset: `choose_layer`'s. Raises UsageError for an unknown method, class or layer, DataError
    for arrays that are no images, ModelError for a net whose graph is hidden.
    """
    page = explain_page(
        classifier,
        images,
        methods=methods,
        target_class=target_class,
        layer=layer,
        settings=settings,
    )
    return page.explanations


def explain_contrast(
    classifier: Classifier,
    images: NDArray[np.uint8],
    *,
    target_class: Targets,
    against: Targets,
    method: MethodName = "grad-cam",
    layer: str | None = None,
) -> Explanation:
    """Why one class rather than another: a map of the difference of their two logits."""
    question = _question(classifier, (method,), layer, None)
    return _page(question, images, target_class, against).explanations[0]


def explain_page(
    classifier: Classifier,
    images: NDArray[np.uint8],
    *,
    methods: Sequence[MethodName] = PAGE_METHODS,
    target_class: Targets | None = None,
    layer: str | None = None,
    settings: ExplainSettings | None = None,
) -> ExplanationPage:
    """`explain`, with scores and the settings' activation layers from the same forward pass."""
    question = _question(classifier, methods, layer, settings)
    return _page(question, images, target_class, None)


def _question(
    classifier: Classifier,
    methods: Sequence[str],
    layer: str | None,
    settings: ExplainSettings | None,
) -> _Question:
    chosen = require_methods(methods)
    require_traceable(classifier.net)
    chosen_settings = settings or ExplainSettings()
    for name in (*chosen_settings.activation_layers, *([layer] if layer else [])):
        require_layer(classifier.net, name)
    return _Question(classifier, chosen, layer, chosen_settings)


def _page(
    question: _Question,
    images: NDArray[np.uint8],
    target_class: Targets | None,
    against: Targets | None,
) -> ExplanationPage:
    batch = as_batch(images)
    for targets in (target_class, against):
        require_count(targets, len(batch))
    size = question.settings.batch_size
    pages = []
    for start in range(0, len(batch), size):
        part = slice(start, start + size)
        classes = (_part(target_class, part), _part(against, part))
        with computing(device_of(question.classifier.net)):
            pages.append(_batch_page(question, batch[part], *classes))
    return pages[0] if len(pages) == 1 else join_pages(pages)


def _batch_page(
    question: _Question,
    images: NDArray[np.uint8],
    target_class: Targets | None,
    against: Targets | None,
) -> ExplanationPage:
    classifier = question.classifier
    recording, call, choice = _recorded(question, images)
    answers = reported_logits(classifier, recording.inputs, recording.logits)
    targets = as_positions(target_class, classifier.class_names, answers)
    selector = _one_hot(targets, recording.logits)
    rivals = None
    if against is not None:
        rivals = as_positions(against, classifier.class_names, recording.logits)
        selector = selector - _one_hot(rivals, recording.logits)
    found = _differentiated(question.methods, recording, selector, call)
    blank = Explanation(
        method="",
        maps=np.empty(0),
        images=images,
        logits=_array(recording.logits),
        targets=targets,
        class_names=classifier.class_names,
        against=rivals,
    )
    made = []
    for method in question.methods:
        described = _described(blank, method, found, choice)
        source = (found, call)
        maps, channels = _values(method, question, recording.inputs.detach(), selector, source)
        made.append(replace(described, maps=maps, channels=channels))
    seen = tuple(
        _activations(name, recording.calls) for name in question.settings.activation_layers
    )
    names, temperature = classifier.class_names, classifier.temperature
    return ExplanationPage(images, _array(answers), names, tuple(made), seen, choice, temperature)


def _recorded(
    question: _Question, images: NDArray[np.uint8]
) -> tuple[Recording, Call | None, LayerChoice | None]:
    """The forward pass, with the layer of the class activation maps where one is needed."""
    net = question.classifier.net
    inputs = as_inputs(question.classifier, images)
    methods = [METHODS[name] for name in question.methods]
    seen = {module_of(name) for name in question.settings.activation_layers}
    layer = question.layer
    if not any(method.needs_layer for method in methods):
        return record(net, inputs, keep=seen), None, None
    if layer is not None:
        name = module_of(layer)
        # Only what lies behind the layer is differentiated, so only that needs a graph.
        is_enough = all(m.source == "layer" for m in methods) and not seen and layer == name
        recording = record(net, inputs, keep={name, *seen}, cut=name if is_enough else None)
        choice = LayerChoice(layer, "the layer that was asked for")
    else:
        recording = record(net, inputs, keep=seen, see_all=True)
        choice = choose_layer(recording)
        if find_call(recording.calls, choice.name).is_overwritten:
            recording = record(net, inputs, keep={module_of(choice.name), *seen})
    call = find_call(recording.calls, choice.name)
    require_extent(call)
    return recording, call, choice


def _differentiated(
    methods: Sequence[str], recording: Recording, selector: Tensor, call: Call | None
) -> _Found:
    """One backward pass per rule, for the image and the layer together."""
    image_rules, layer_rules = rules_needed(methods)
    # Without a layer, or with the graph cut at it, one of the two ends is not there to ask for.
    image_edge = input_edge(recording) if image_rules else None
    layer_edge = None if call is None else call.edge
    found = _Found({}, {}, _count(recording, image_edge), _count(recording, layer_edge))
    for rule in dict.fromkeys([*image_rules, *layer_rules]):
        _require_relus(rule, rule in image_rules, found)
        ends = [
            (found.at_image, image_edge if rule in image_rules else None),
            (found.at_layer, layer_edge if rule in layer_rules else None),
        ]
        wanted = [(into, edge) for into, edge in ends if edge is not None]
        results = gradients(recording, selector, [edge for _, edge in wanted], rule)
        for (into, _), gradient in zip(wanted, results, strict=True):
            into[rule] = gradient
    return found


def _require_relus(rule: Rule, is_at_image: bool, found: _Found) -> None:
    """Say aloud where a rule has nothing to act on, or nothing its paper defines."""
    if rule == "vanilla":
        return
    if is_at_image and not found.image_count.changed:
        others = ", ".join(name for name, _ in found.image_count.other) or "none"
        raise ModelError(
            f"the {rule} rule is about ReLUs, but this network has none (other activations: "
            f"{others}): use saliency, smoothgrad or integrated-gradients"
        )
    count = found.image_count if is_at_image else found.layer_count
    warn_of_count(count, rule, _place(is_at_image))


def _described(
    blank: Explanation, name: str, found: _Found, choice: LayerChoice | None
) -> Explanation:
    """What is known of a map besides its values."""
    method = METHODS[name]
    at_image = method.source != "layer"
    count = found.image_count if at_image else found.layer_count
    words = describe_count(count, method.rule, _place(at_image))
    notes, warnings = words[:1], words[1:]
    if count.changed == 0:
        notes, warnings = (), words
    if choice is not None and method.needs_layer:
        notes = (*notes, f"Layer: {choice.reason}.", *_identities(name, found))
        warnings = (*warnings, *choice.warnings)
    return replace(
        blank,
        method=name,
        rule=method.rule,
        layer=choice.name if choice is not None and method.needs_layer else None,
        relu_operations=count.changed if method.rule != "vanilla" else 0,
        notes=notes,
        warnings=warnings,
    )


def _identities(name: str, found: _Found) -> Iterator[str]:
    """What mathematics says of a map here: for example, that three methods are one."""
    if name == "grad-cam" and not found.layer_count.changed:
        yield (
            "No ReLU lies behind this layer: Grad-CAM under the guided and the relu rule is this "
            "very map."
        )
    gradient = found.at_layer.get("vanilla")
    if name not in ("grad-cam", "hires-cam", "xgrad-cam") or gradient is None:
        return
    spread = gradient.amax((2, 3)) - gradient.amin((2, 3))
    if float(spread.max()) <= 1e-6 * float(gradient.abs().max()):
        yield (
            "Behind this layer the score is a weighted sum of the channels' means (global average "
            "pooling and a linear layer): Grad-CAM, HiResCAM, XGrad-CAM and CAM are one and the "
            "same map here."
        )


def _values(
    name: str,
    question: _Question,
    inputs: Tensor,
    selector: Tensor,
    source: tuple[_Found, Call | None],
) -> Values:
    """The fields of an Explanation that hold numbers."""
    method = METHODS[name]
    found, call = source
    if method.source == "own":
        return _own_values(name, question, inputs, selector)
    if method.source == "image":
        gradient = found.at_image[method.rule]
        return _with_channels(saliency.largest_channel(gradient), gradient)
    assert call is not None and call.value is not None
    if method.source == "layer":
        # Eigen-CAM asks for no gradient; the others find theirs.
        at_layer = found.at_layer.get(method.rule, call.value)
        return _array(CAMS[method.cam](call.value, at_layer)), None
    cam = CAMS["grad-cam"](call.value, found.at_layer["vanilla"])
    product = guided_grad_cam(found.at_image[method.rule], cam)
    return _with_channels(saliency.largest_channel(product), product)


def _own_values(name: str, question: _Question, inputs: Tensor, selector: Tensor) -> Values:
    net, settings = question.classifier.net, question.settings
    if name == "occlusion":
        maps = saliency.occlusion(net, inputs, selector, window=settings.window)
        return _array(maps), None
    if name == "smoothgrad":
        gradient = saliency.smooth_grad(
            net,
            inputs,
            selector,
            samples=settings.samples,
            noise=settings.noise,
            seed=settings.seed,
        )
        return _with_channels(saliency.largest_channel(gradient), gradient)
    shares = saliency.integrated_gradients(net, inputs, selector, steps=settings.steps)
    return _with_channels(shares.sum(1), shares)


def _activations(name: str, calls: Sequence[Call]) -> Activations:
    call = find_call(calls, name)
    assert call.value is not None
    return Activations(name, _array(call.value))


def _with_channels(maps: Tensor, channels: Tensor) -> Values:
    return _array(maps), _array(channels)


def _count(recording: Recording, edge: GradientEdge | None) -> ReluCount:
    return ReluCount() if edge is None else count_relus(nodes_between(recording.logits, [edge]))


def _one_hot(positions: NDArray[np.int64], logits: Tensor) -> Tensor:
    chosen = torch.zeros_like(logits, requires_grad=False)
    rows = torch.arange(len(positions), device=logits.device)
    chosen[rows, torch.from_numpy(positions).to(logits.device)] = 1
    return chosen


def _place(is_at_image: bool) -> str:
    return "between the image and the score" if is_at_image else "behind this layer"


def _array(values: Tensor) -> Floats:
    result: Floats = values.detach().cpu().numpy()
    return result


def _part(targets: Targets | None, part: slice) -> Targets | None:
    is_one_for_all = targets is None or isinstance(targets, str | int | np.integer)
    return targets if is_one_for_all else targets[part]  # type: ignore[index]
