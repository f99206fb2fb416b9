"""A classifier with everything that answers questions about it: threads, queues and limits."""

import asyncio
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glasshouse.errors import BadImage
from glasshouse.explanation.graph.relu_rules import ExplanationWarning
from glasshouse.models.classifier import Classifier, scale
from glasshouse.models.inference import inference_net
from glasshouse.models.predict import logits_of, predict_logits, softmax
from glasshouse.serving.service.batcher import Batcher
from glasshouse.serving.service.capacity import Capacity, Slot
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.problems import bad_images, overloaded
from glasshouse.serving.service.prometheus import Metrics

# Of the largest logit: beyond it, the faster copy of a net is not the same net.
_TOLERANCE = 1e-4
_EXAMPLES = 4
_DECODED_AT_ONCE = 8

Work = Callable[[], Any]


@dataclass(frozen=True)
class Answer:
    """What the net says of one image: logits and probabilities ``(k,)``."""

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class Service:
    """One loaded model. reader decodes, predictor runs the net, explainer explains.

    classifier is the model as it was loaded; it is what is explained. The predictor has a faster
    copy whose logits differ by rounding only.
    """

    name: str
    classifier: Classifier
    limits: Limits
    metrics: Metrics
    places: Capacity
    explain_places: Capacity
    reader: Batcher[Work, Any]
    predictor: Batcher[NDArray[Any], Answer]
    explainer: Batcher[Work, Any]
    is_closing: threading.Event


def make_service(classifier: Classifier, name: str, limits: Limits | None = None) -> Service:
    """A service for a classifier, its net warm; the classifier is left as it was."""
    limits = limits or Limits()
    metrics = Metrics()
    # The answers carry these sentences themselves.
    warnings.simplefilter("ignore", ExplanationWarning)
    fast_classifier = faster(classifier)
    reader: Batcher[Work, Any] = Batcher(_run_each, name="reader", max_batch=_DECODED_AT_ONCE)
    predictor: Batcher[NDArray[Any], Answer] = Batcher(
        lambda images: _classify(fast_classifier, metrics, images),
        name="predictor",
        max_batch=limits.max_batch,
        max_wait=limits.max_wait,
        threads=limits.passes,
        is_more_coming=lambda: reader.load > 0,
    )
    service = Service(
        name=name,
        classifier=classifier,
        limits=limits,
        metrics=metrics,
        places=Capacity(limits.max_queue, limits.max_held),
        explain_places=Capacity(limits.explain_queue, limits.max_held),
        reader=reader,
        predictor=predictor,
        explainer=Batcher(_run_each, name="explainer"),
        is_closing=threading.Event(),
    )
    _warm_up(service, fast_classifier)
    _watch(service)
    return service


def faster(classifier: Classifier) -> Classifier:
    """The classifier with a net for inference alone, or itself where that would not agree."""
    wanted = classifier.preprocessing
    shape = (_EXAMPLES, 3, wanted.height, wanted.width)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    made = inference_net(classifier.net, scale(torch.from_numpy(images), wanted))
    own, found = (predict_logits(net, wanted, images) for net in (classifier.net, made.net))
    agrees = bool((found - own).abs().max() <= _TOLERANCE * own.abs().max())
    return replace(classifier, net=made.net) if agrees else classifier


async def close_service(service: Service) -> None:
    """Answer what was accepted, and end the threads."""
    for batcher in (service.reader, service.predictor, service.explainer):
        await batcher.close()


@asynccontextmanager
async def before_the_deadline(seconds: float, places: Capacity) -> AsyncIterator[None]:
    """Raise 503 where the answer is not there in time; what still waits is then not computed."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        detail = f"The answer was not ready within the {seconds:g} seconds of its deadline."
        raise overloaded(detail, places.retry_after()) from error


async def classify(service: Service, place: Slot, images: Sequence[Work]) -> list[Answer]:
    """Decode and classify: each of images gives an array ``(3, h, w)`` of the net's size.

    Raises Full, what decoding raised, and 503 at the deadline.
    """
    place.grow(images=len(images) - place.images)
    async with before_the_deadline(service.limits.deadline, service.places):
        return await _all_of([_classify_one(service, image) for image in images])


async def _classify_one(service: Service, image: Work) -> Answer:
    return await service.predictor.submit(await service.reader.submit(image))


async def _all_of(waiting: Sequence[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    if len(waiting) == 1:
        return [await waiting[0]]
    # Of several bad images, all are to be named.
    found = await asyncio.gather(*waiting, return_exceptions=True)
    bad = [each for each in found if isinstance(each, BadImage)]
    if bad:
        raise bad_images(bad)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [each for each in found if isinstance(each, Answer)]


def _run_each(works: Sequence[Work]) -> list[Any]:
    answers: list[Any] = []
    for work in works:
        try:
            answers.append(work())
        # Each belongs to a caller of its own.
        except Exception as error:
            answers.append(error)
    return answers


def _classify(
    classifier: Classifier, metrics: Metrics, images: Sequence[NDArray[Any]]
) -> list[Answer]:
    # Tensors of the inference protocol may be float32; they then take all with them.
    batch = np.stack(images)
    count = len(batch)
    began = time.monotonic()
    logits = logits_of(classifier, batch)
    metrics.compute.observe(time.monotonic() - began)
    metrics.batches.observe(count)
    metrics.images.inc(count)
    shares = softmax(logits.astype(np.float64) / classifier.temperature)
    return [Answer(logits[i], shares[i]) for i in range(count)]


def _warm_up(service: Service, fast_classifier: Classifier) -> None:
    """The first passes of each size are slow: memory is found, kernels are made."""
    wanted = service.classifier.preprocessing
    for count in {1, service.limits.max_batch}:
        images = np.zeros((count, 3, wanted.height, wanted.width), dtype=np.uint8)
        predict_logits(fast_classifier.net, wanted, images)


def _watch(service: Service) -> None:
    watched: dict[str, tuple[str, Callable[[], float]]] = {
        "glasshouse_places_taken": (
            "Images between arrival and answer.", lambda: service.places.images,
        ),
        "glasshouse_places": (
            "The most images between arrival and answer.", lambda: service.places.max_images,
        ),
        "glasshouse_bytes_held": ("Bytes of request bodies.", lambda: service.places.bytes),
        "glasshouse_explanations_waiting": (
            "Explanations between arrival and answer.", lambda: service.explain_places.images,
        ),
    }  # fmt: skip
    for name, (text, value) in watched.items():
        service.metrics.watch(name, text, value)
