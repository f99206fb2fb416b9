"""The verbs of this layer: maps of images, by method, from as few passes as possible."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glasshouse.explanation.graph.recording import computing
from glasshouse.explanation.inputs import Targets, as_batch, as_inputs, require_count
from glasshouse.explanation.methods import PAGE_METHODS, ExplainSettings, MethodName
from glasshouse.explanation.nouns import (
    Activations,
    Explanation,
    ExplanationPage,
    ShownTogether,
)
from glasshouse.explanation.one_pass import Question, ask, explain_recorded, record_batch
from glasshouse.models.classifier import Classifier
from glasshouse.models.image_inputs import Images
from glasshouse.models.predict import device_of, read_images


class ExplanationWarning(UserWarning):
    """An explanation may mislead; the message says why."""


def explain(
    classifier: Classifier,
    images: Images,
    *,
    methods: MethodName | Sequence[MethodName] = PAGE_METHODS,
    target_class: Targets | None = None,
    layer: str | None = None,
    settings: ExplainSettings | None = None,
) -> tuple[Explanation, ...]:
    """One Explanation per method for all images; the network is left as it was.

    images: as for `Classifier.predict`: a path, a Pillow image, an array, a list of them, or an
    ImageSet. methods: one name or several. target_class: a name or position
    for all, or one per image; unset: the predicted class. layer: where class activation maps are
    computed; unset: `choose_layer`'s. Issues an ExplanationWarning per sentence in their warnings.
    Raises UsageError for an unknown method, class or layer, BadImage and DataError for what is no
    image, ModelError for a network whose graph is hidden.
    """
    page = explain_page(
        classifier,
        images,
        methods=methods,
        target_class=target_class,
        layer=layer,
        settings=settings,
    )
    warn_of(page.explanations)
    return ShownTogether(page.explanations)


def explain_contrast(
    classifier: Classifier,
    images: Images,
    *,
    target_class: Targets,
    against: Targets,
    method: MethodName = "grad-cam",
    layer: str | None = None,
) -> Explanation:
    """Why one class rather than another: a map of the difference of their logits.

    Arguments, warnings and errors as for `explain`.
    """
    found = contrast(
        classifier, images, target_class=target_class, against=against, method=method, layer=layer
    )
    warn_of([found])
    return found


def explain_page(
    classifier: Classifier,
    images: Images,
    *,
    methods: MethodName | Sequence[MethodName] = PAGE_METHODS,
    target_class: Targets | None = None,
    layer: str | None = None,
    settings: ExplainSettings | None = None,
) -> ExplanationPage:
    """`explain`, with scores and the settings' activation layers from the same forward pass.

    Warnings are only recorded in the explanations, not issued.
    """
    pixels = read_images(images, classifier)
    names = (methods,) if isinstance(methods, str) else methods
    question = ask(classifier, names, layer, settings)
    return page_of(question, pixels, _inputs_of(classifier, pixels), target_class)


def contrast(
    classifier: Classifier,
    images: Images,
    *,
    target_class: Targets,
    against: Targets,
    method: MethodName = "grad-cam",
    layer: str | None = None,
) -> Explanation:
    """`explain_contrast` with warnings only recorded, not issued."""
    pixels = read_images(images, classifier)
    question = ask(classifier, (method,), layer, None)
    inputs = _inputs_of(classifier, pixels)
    return page_of(question, pixels, inputs, target_class, against).explanations[0]


def page_of(
    question: Question,
    images: NDArray[np.uint8],
    inputs_of: Callable[[slice], Tensor],
    target_class: Targets | None,
    against: Targets | None = None,
) -> ExplanationPage:
    """The page of images ``(n, 3, h, w)``, from as many passes as their number needs.

    inputs_of: the network's inputs of a part of the images.
    """
    whole = as_batch(images)
    for targets in (target_class, against):
        require_count(targets, len(whole))
    size = max(1, question.settings.batch_size // question.classifier.views.count)
    pages = []
    for start in range(0, len(whole), size):
        part = slice(start, start + size)
        batch, classes = whole[part], (_part(target_class, part), _part(against, part))
        with computing(device_of(question.classifier.net)):
            recorded = record_batch(question, inputs_of(part))
            pages.append(explain_recorded(question, recorded, batch, *classes))
    return pages[0] if len(pages) == 1 else _joined(pages)


def _inputs_of(classifier: Classifier, images: NDArray[np.uint8]) -> Callable[[slice], Tensor]:
    whole = as_batch(images)
    return lambda part: as_inputs(classifier, whole[part])


def warn_of(explanations: Sequence[Explanation]) -> None:
    """Issue an ExplanationWarning per sentence in their warnings, in the caller's caller's name."""
    for sentence in dict.fromkeys(words for each in explanations for words in each.warnings):
        warnings.warn(sentence, ExplanationWarning, stacklevel=3)


def _joined(pages: Sequence[ExplanationPage]) -> ExplanationPage:
    """Pages of the same question for several batches as one."""
    explanations = [
        _joined_explanation(parts) for parts in zip(*(p.explanations for p in pages), strict=True)
    ]
    activations = [
        Activations(parts[0].layer, np.concatenate([part.values for part in parts]))
        for parts in zip(*(p.activations for p in pages), strict=True)
    ]
    return replace(
        pages[0],
        images=np.concatenate([page.images for page in pages]),
        logits=np.concatenate([page.logits for page in pages]),
        explanations=tuple(explanations),
        activations=tuple(activations),
    )


def _joined_explanation(parts: Sequence[Explanation]) -> Explanation:
    channels = [part.channels for part in parts if part.channels is not None]
    against = [part.against for part in parts if part.against is not None]
    return replace(
        parts[0],
        maps=np.concatenate([part.maps for part in parts]),
        images=np.concatenate([part.images for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        against=np.concatenate(against) if against else None,
        channels=np.concatenate(channels) if channels else None,
    )


def _part(targets: Targets | None, part: slice) -> Targets | None:
    is_one_for_all = targets is None or isinstance(targets, str | int | np.integer)
    return targets if is_one_for_all else targets[part]  # type: ignore[index]
