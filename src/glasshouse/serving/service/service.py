"""Loaded models with the threads, queues and limits that serve them."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from starlette.requests import Request

from glasshouse.errors import BadImage, NotFinite
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import logits_of_few
from glasshouse.serving.service.batcher import Batcher, WorkBatcher, result_of
from glasshouse.serving.service.capacity import Capacity, Slot
from glasshouse.serving.service.image_work import ImageWork
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.peers import Peers
from glasshouse.serving.service.problems import ClientLeft, bad_images, overloaded
from glasshouse.serving.service.prometheus import Metrics
from glasshouse.serving.service.served_models import Models, ModelSource, ServedModel, load_served

if TYPE_CHECKING:
    from glasshouse.workflow.use.photo_and_run import Resemblance

_DECODED_PER_TURN = 8
# The seconds for which a lone caller's image may block the event loop. From another thread, the
# answer of a small network would take a third longer.
_MOMENT = 0.005


@dataclass(frozen=True)
class Scores:
    """The output for one image: logits and calibrated probabilities, each ``(k,)``.

    resemblance: to the images of the model's run, where that was asked for.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    resemblance: "Resemblance | None" = None


@dataclass(frozen=True)
class ToClassify:
    """An image ``(3, h, w)`` at the input size of the model that is to classify it.

    make: a function that returns it, or raises BadImage. is_compared: whether it is compared with
    the images of the model's run, which the model can then do.
    """

    model: ServedModel
    make: Callable[[], NDArray[Any]]
    is_compared: bool = False


class Callers:
    """Who asks for classifications: only for the thread of the event loop."""

    def __init__(self) -> None:
        self._last: object = None

    def is_same(self, request: Request) -> bool:
        """Whether the last request came on the same connection; notes this one."""
        # A proxy that names its client cannot name the port: many may ask through it at once.
        known = request.client if request.client and request.client.port else None
        is_same = known is not None and known == self._last
        self._last = known
        return is_same


@dataclass(frozen=True)
class Service:
    """Models and what they share: threads, queues and limits.

    reader decodes what takes long to decode, predictor runs the networks, explainer explains,
    loader loads. capacity, explain_capacity: what is in flight. callers: who asks. peers: of a
    worker, the others.
    """

    models: Models
    limits: Limits
    metrics: Metrics
    capacity: Capacity
    explain_capacity: Capacity
    reader: WorkBatcher
    predictor: Batcher[ToClassify, Scores]
    explainer: WorkBatcher
    loader: WorkBatcher
    is_closing: threading.Event
    callers: Callers
    peers: Peers | None = None


def make_service(classifier: Classifier, name: str, limits: Limits | None = None) -> Service:
    """A service for one classifier, warmed up; the classifier itself is not changed."""
    return service_of([ModelSource(name, lambda: classifier)], limits)


def service_of(
    sources: Sequence[ModelSource], limits: Limits | None = None, peers: Peers | None = None
) -> Service:
    """A service for several models, all loaded; raises what their sources raise.

    peers: the other processes that serve the same models, if there are any.
    """
    limits = limits or Limits()
    metrics = Metrics()
    reader = WorkBatcher(name="reader", max_batch=_DECODED_PER_TURN)

    def classify(items: Sequence[ToClassify]) -> list[Scores | Exception]:
        is_alone = predictor.load == len(items)
        if is_alone and len(items) == 1 and not items[0].is_compared:
            return [_classify_alone(limits, metrics, items[0])]
        _use_threads(limits, is_wide=is_alone)
        return _classify(metrics, items)

    predictor: Batcher[ToClassify, Scores] = Batcher(
        classify,
        name="predictor",
        max_batch=limits.max_batch,
        max_wait=limits.max_wait,
        threads=limits.passes,
        is_more_coming=lambda: reader.load > 0,
        group=lambda item: (id(item.model), item.is_compared),
    )
    service = Service(
        models=Models(sources),
        limits=limits,
        metrics=metrics,
        capacity=Capacity(limits.max_queue, limits.max_held),
        explain_capacity=Capacity(limits.explain_queue, limits.max_held),
        reader=reader,
        predictor=predictor,
        explainer=WorkBatcher(name="explainer"),
        loader=WorkBatcher(name="loader"),
        is_closing=threading.Event(),
        callers=Callers(),
        peers=peers,
    )
    for source in sources:
        service.models.put(load_served(source, limits.max_batch))
    _add_gauges(service)
    return service


async def close_service(service: Service) -> None:
    """Answer every accepted request, and end the threads."""
    for batcher in (service.reader, service.predictor, service.explainer, service.loader):
        await batcher.close()


@asynccontextmanager
async def while_awaited(
    request: Request, seconds: float, capacity: Capacity
) -> AsyncIterator[None]:
    """Stop waiting when the client leaves or the time is over; raises ClientLeft or Problem 503.

    What is still queued is then not computed. Only for requests whose body has been read.
    """
    has_left = False

    async def watch(timer: asyncio.Timeout) -> None:
        nonlocal has_left
        # After the body, the server has nothing to report but the end of the connection.
        while (await request.receive())["type"] != "http.disconnect":
            pass
        has_left = True
        if not timer.expired():
            timer.reschedule(asyncio.get_running_loop().time())

    try:
        async with asyncio.timeout(seconds) as timer:
            watcher = asyncio.create_task(watch(timer))
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError as error:
        if has_left:
            raise ClientLeft from error
        detail = f"The response was not ready within the deadline of {seconds:g} seconds."
        raise overloaded(detail, capacity.retry_after()) from error


async def score_images(
    service: Service,
    model: ServedModel,
    request: Request,
    slot: Slot,
    images: Sequence[ImageWork],
    *,
    is_compared: bool = False,
) -> list[Scores]:
    """Decode and classify; is_compared: as in ToClassify.

    Raises Full, ClientLeft, what decoding raised, and Problem 503 at the deadline.
    """
    slot.grow(images=len(images) - slot.images)
    is_same = service.callers.is_same(request)
    if is_same and len(images) == 1 and not is_compared:
        scores = _scores_at_once(service, model, images[0])
        if scores is not None:
            return [scores]
    async with while_awaited(request, service.limits.deadline, service.capacity):
        return await _all_of(
            [_classify_one(service, image, ToClassify(model, image.make, is_compared))
             for image in images]
        )  # fmt: skip


def _scores_at_once(service: Service, model: ServedModel, image: ImageWork) -> Scores | None:
    """Decode and classify an image in the event loop, if that is quick and nothing else is done.

    Raises what the network raises, and NotFinite.
    """
    threads = (service.reader, service.predictor, service.explainer, service.loader)
    others = service.capacity.images - 1 + sum(each.load for each in threads)
    is_slow = model.stopwatch.seconds > _MOMENT or not image.is_quick
    if others or is_slow or image.make_small is None:
        return None
    item = ToClassify(model, image.make_small)
    found = _classify_alone(service.limits, service.metrics, item)
    if isinstance(found, BadImage):
        return None  # whoever decodes it next says why, if it is not only too large for here
    if isinstance(found, Exception):
        raise found
    return found


async def _classify_one(service: Service, image: ImageWork, item: ToClassify) -> Scores:
    if not image.is_quick:
        pixels = await service.reader.submit(image.make)
        item = replace(item, make=lambda: pixels)
    return await service.predictor.submit(item)


async def _all_of(waiting: Sequence[Coroutine[Any, Any, Scores]]) -> list[Scores]:
    if len(waiting) == 1:
        return [await waiting[0]]
    # Waits for all of them: the response names every bad image, not just the first.
    found = await asyncio.gather(*waiting, return_exceptions=True)
    bad = [each for each in found if isinstance(each, BadImage)]
    if bad:
        raise bad_images(bad)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [each for each in found if isinstance(each, Scores)]


def _use_threads(limits: Limits, *, is_wide: bool) -> None:
    """Choose how many threads the next forward pass of this thread has; is_wide: twice as many."""
    if limits.threads is not None:
        # Of this thread alone, and in less than a microsecond.
        torch.set_num_threads(limits.threads * (2 if is_wide and limits.passes > 1 else 1))


def _classify_alone(limits: Limits, metrics: Metrics, item: ToClassify) -> Scores | Exception:
    """One image, with the threads that are fastest; its time is noted."""
    stopwatch = item.model.stopwatch
    is_wide = stopwatch.is_wide_faster()
    _use_threads(limits, is_wide=is_wide)
    began, found = time.monotonic(), None
    try:
        (found,) = _classify(metrics, [item])
    finally:
        seconds, has_answer = time.monotonic() - began, isinstance(found, Scores)
        stopwatch.note(seconds, is_wide=is_wide, has_answer=has_answer)
    return found


def _classify(metrics: Metrics, items: Sequence[ToClassify]) -> list[Scores | Exception]:
    """Those of one group."""
    model, made = items[0].model, [result_of(each.make) for each in items]
    classifier = model.fast
    images = [each for each in made if not isinstance(each, Exception)]
    if not images:
        return made
    # Pixels are uint8, or float32 from the inference protocol; one float image makes the whole
    # batch float, which changes no value.
    batch = np.stack(images)
    count = len(batch)
    began = time.monotonic()
    logits = logits_of_few(
        classifier.net, classifier.preprocessing, batch, views=classifier.views
    ).numpy()
    metrics.forward_seconds.observe(time.monotonic() - began)
    metrics.batch_sizes.observe(count)
    metrics.images.inc(count)
    found: list[Resemblance | None] = [None] * count
    if items[0].is_compared and model.comparison is not None:
        # An image without an answer fails alone, below.
        answered = np.flatnonzero(np.isfinite(logits).all(axis=1))
        compared = model.comparison.compare(batch[answered], logits[answered])
        for row, each in zip(answered, compared, strict=True):
            found[row] = each
    # Of all images at once: after each operation, this thread has to wait for its turn.
    shares = classifier.to_probabilities(logits)
    answers = iter(map(_scores, logits, shares, found))
    return [each if isinstance(each, Exception) else next(answers) for each in made]


def _scores(
    logits: NDArray[np.float32],
    probabilities: NDArray[np.float64],
    resemblance: "Resemblance | None",
) -> Scores | NotFinite:
    # An error of its own: other images of the batch may belong to other callers.
    if not np.isfinite(logits).all():
        return NotFinite("the network has no answer for this image: its logits are NaN or infinite")
    return Scores(logits, probabilities, resemblance)


def _add_gauges(service: Service) -> None:
    gauges: dict[str, tuple[str, Callable[[], float]]] = {
        "glasshouse_images_in_flight": (
            "Images received and not answered yet.", lambda: service.capacity.images,
        ),
        "glasshouse_images_in_flight_limit": (
            "Limit of images in flight; more are rejected.", lambda: service.capacity.max_images,
        ),
        "glasshouse_request_body_bytes": (
            "Bytes of request bodies in memory.", lambda: service.capacity.bytes),
        "glasshouse_models_loaded": ("Models loaded.", lambda: len(service.models.loaded())),
        "glasshouse_explanations_in_flight": (
            "Images to explain, received and not answered yet.",
            lambda: service.explain_capacity.images,
        ),
    }  # fmt: skip
    for name, (text, value) in gauges.items():
        service.metrics.add_gauge(name, text, value)
