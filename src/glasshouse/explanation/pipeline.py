"""From an image to its page: choose methods and layers, explain, check; all from one recording.

The command, the workbench and the service all come through here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glasshouse.explanation.attention_maps import allows_rollout
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.graph.layer_choice import (
    NoMapLayer,
    choose_layer,
    layers_in_depth,
    shallow_and_deep,
)
from glasshouse.explanation.graph.recording import computing, input_edge
from glasshouse.explanation.inputs import Target, as_batch, as_inputs
from glasshouse.explanation.methods import (
    ALL,
    METHODS,
    SHEET_METHODS,
    SLOW_METHODS,
    ExplainSettings,
    Method,
    MethodName,
    require_methods,
)
from glasshouse.explanation.nouns import ExplanationPage
from glasshouse.explanation.one_pass import (
    Question,
    Recorded,
    ask,
    explain_recorded,
    record_batch,
    relus_before,
    with_values,
)
from glasshouse.explanation.trust.checks import check_page
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import device_of

LayerGroup = Literal["shallow and deep", "in depth"]


@dataclass(frozen=True)
class MapRequest:
    """What to explain in an image.

    methods: names, or "all": every method that suits the network, those of many passes only with
    has_slow. target_class: a name or position; unset: the predicted class. layer: where class
    activation maps are computed; unset: `choose_layer`'s. activations: the layers whose outputs
    the page keeps, by name or as a group. is_checked: whether to check if each map can be trusted.
    """

    methods: tuple[str, ...] = (ALL,)
    target_class: Target | None = None
    layer: str | None = None
    activations: tuple[str, ...] | LayerGroup = ()
    has_slow: bool = True
    is_checked: bool = True


def explain_image(
    classifier: Classifier, image: NDArray[np.uint8], request: MapRequest
) -> ExplanationPage:
    """The page of one image, uint8 ``(3, h, w)`` of the network's input size.

    Warnings are only recorded in the explanations. Raises UsageError for an unknown method, class
    or layer, DataError for an array that is not an image, ModelError for a network whose graph is
    hidden.
    """
    # The checks ask for the last layer with weights.
    is_open = ALL in request.methods or request.is_checked or isinstance(request.activations, str)
    question = _asked(classifier, request)
    batch = as_batch(image)[:1]
    with computing(device_of(classifier.net)):
        inputs = as_inputs(classifier, batch)
        question, recorded = _recorded(question, inputs, request.methods, see_all=is_open)
        question = _narrowed(question, recorded, request)
        recorded = with_values(question, recorded, question.settings.activation_layers)
        page = explain_recorded(question, recorded, batch, request.target_class)
    return check_page(classifier, page, recorded.recording) if request.is_checked else page


def explain_each_label(
    classifier: Classifier, image: NDArray[np.uint8], request: MapRequest
) -> tuple[ExplanationPage, ...]:
    """A page for each label that is predicted for an image, the most probable first.

    One page where the request names a class, where an image has one class, and where no label
    reaches its threshold: that of the most probable one. Raises what `explain_image` does.
    """
    first = explain_image(classifier, image, request)
    if classifier.thresholds is None or request.target_class is not None:
        return (first,)
    shares = classifier.to_probabilities(first.logits)[0]
    found = np.flatnonzero(shares >= np.asarray(classifier.thresholds))
    explained = int(first.logits[0].argmax())
    # Thresholds differ, so that the most probable label need not be among the predicted ones.
    order = [int(label) for label in found[np.argsort(-shares[found], kind="stable")]]
    pages = (
        first
        if label == explained
        else explain_image(classifier, image, replace(request, target_class=label))
        for label in order or [explained]
    )
    return tuple(pages)


def add_slow_maps(classifier: Classifier, page: ExplanationPage) -> ExplanationPage:
    """The page with the maps that need many passes, checked, for the same classes."""
    found = explain_page(
        classifier,
        page.images,
        methods=SLOW_METHODS,
        target_class=page.explanations[0].targets,
    )
    checked = check_page(classifier, found)
    known = tuple(each for each in page.explanations if each.method not in SLOW_METHODS)
    return replace(page, explanations=(*known, *checked.explanations))


def sheet_methods(
    classifier: Classifier, image: NDArray[np.uint8], layer: str | None = None
) -> tuple[MethodName, ...]:
    """What "all" means for this network, without the methods that do not suit it.

    A ReLU rule is left out where it has no ReLU to act on, rollouts without attention layers over
    the same tokens, and class activation maps where no layer has rows and columns.

    layer: where class activation maps are computed; unset: `choose_layer`'s. Raises UsageError
    for an unknown one.
    """
    question = ask(classifier, SHEET_METHODS, layer, None)
    with computing(device_of(classifier.net)):
        inputs = as_inputs(classifier, as_batch(image)[:1])
        _, recorded = _recorded(question, inputs, [ALL], see_all=True)
        return _suitable(SHEET_METHODS, recorded)


def _asked(classifier: Classifier, request: MapRequest) -> Question:
    """The question before anything is known of the network's graph."""
    named = [name for name in request.methods if name != ALL]
    every = _every(request) if ALL in request.methods else ()
    layers = () if isinstance(request.activations, str) else request.activations
    settings = ExplainSettings(activation_layers=layers)
    return ask(classifier, [*every, *named], request.layer, settings)


def _recorded(
    question: Question, inputs: Tensor, given: Sequence[str], *, see_all: bool
) -> tuple[Question, Recorded]:
    """The recording; "all" has no class activation maps where no layer has rows and columns.

    given: the methods as the request names them. Raises NoMapLayer where one of them needs a layer.
    """
    try:
        return question, record_batch(question, inputs, see_all=see_all)
    except NoMapLayer:
        if ALL not in given or any(METHODS[name].needs_layer for name in given if name != ALL):
            raise
    methods = tuple(name for name in question.methods if not METHODS[name].needs_layer)
    question = replace(question, methods=methods)
    return question, record_batch(question, inputs, see_all=see_all)


def _narrowed(question: Question, recorded: Recorded, request: MapRequest) -> Question:
    """The question with the methods that suit the network, and with the layers of a group."""
    methods: Sequence[str] = question.methods
    if ALL in request.methods:
        named = [name for name in request.methods if name != ALL]
        methods = require_methods([*_suitable(_every(request), recorded), *named])
    layers = question.settings.activation_layers
    has_no_maps = ALL in request.methods and recorded.choice is None
    if request.activations == "in depth":
        layers = layers_in_depth(recorded.recording, recorded.layouts)
    elif request.activations == "shallow and deep" and has_no_maps:
        layers = ()
    elif request.activations == "shallow and deep":
        # With a layer of one's own for the maps, the deep one is still the default.
        is_default = recorded.choice is not None and request.layer is None
        choice = (
            recorded.choice if is_default else choose_layer(recorded.recording, recorded.layouts)
        )
        assert choice is not None
        layers = shallow_and_deep(recorded.recording, recorded.layouts, choice)
    settings = replace(question.settings, activation_layers=layers)
    return replace(question, methods=tuple(methods), settings=settings)


def _every(request: MapRequest) -> tuple[MethodName, ...]:
    return tuple(m for m in SHEET_METHODS if request.has_slow or m not in SLOW_METHODS)


def _suitable(names: Sequence[MethodName], recorded: Recorded) -> tuple[MethodName, ...]:
    recording, call = recorded.recording, recorded.call
    everywhere = relus_before(recording, input_edge(recording)).changed > 0
    behind = call is not None and relus_before(recording, call.edge).changed > 0
    is_attentive = allows_rollout(recording, recorded.layouts)

    def suits(method: Method) -> bool:
        if method.needs_layer and call is None:
            return False
        if method.source == "attention":
            return is_attentive
        return method.rule == "vanilla" or (behind if method.source == "layer" else everywhere)

    return tuple(name for name in names if suits(METHODS[name]))
