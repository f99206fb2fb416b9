"""What concerns all workers of a service, whichever of them is asked: models and metrics."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from glasshouse.serving.service.model_loading import load_by_name
from glasshouse.serving.service.peers import Message, first_error
from glasshouse.serving.service.problems import Problem
from glasshouse.serving.service.service import Service


async def load_everywhere(service: Service, name: str) -> None:
    """Load a model in every worker; raises Problem 404, 422 or 503."""
    await load_by_name(service, name)
    if service.peers is not None:
        error = first_error(await service.peers.ask({"do": "load", "name": name}))
        if error is not None:
            raise Problem(503, "not-loaded", f"One worker could not do it: {error}")


async def unload_everywhere(service: Service, name: str) -> None:
    """Let no further request be answered by a model, in any worker; raises Problem 404."""
    service.models.remove(service.models.source(name).name)
    if service.peers is not None:
        await service.peers.ask({"do": "unload", "name": name})


async def metrics_everywhere(service: Service) -> bytes:
    """The metrics of every worker, with the label ``worker`` where there are several."""
    peers = service.peers
    if peers is None:
        return service.metrics.text()
    others = await peers.ask({"do": "metrics"})
    texts = {peers.number: service.metrics.text().decode()}
    texts |= {int(each["worker"]): str(each["text"]) for each in others}
    return _labelled([texts[number] for number in sorted(texts)], sorted(texts))


async def join_others(service: Service) -> None:
    """Unload what the others have unloaded, in a worker that takes the place of one that ended."""
    if service.peers is None:
        return
    for each in (await service.peers.ask({"do": "state"}))[:1]:
        for name in each["unloaded"]:
            service.models.remove(name)


async def answer_worker(service: Service, message: Message) -> Message:
    """What another worker wants of this one."""
    models = service.models
    if message["do"] == "metrics":
        return {"text": service.metrics.text().decode()}
    if message["do"] == "state":
        loaded = {each.name for each in models.loaded()}
        return {"unloaded": [name for name in models.names if name not in loaded]}
    if message["do"] == "unload":
        models.remove(message["name"])
        return {}
    try:
        await load_by_name(service, message["name"])
    except Problem as problem:
        return {"error": problem.detail}
    return {}


class _Merged(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Sequence[Metric]:
        return self._metrics


def _labelled(texts: Sequence[str], workers: Sequence[int]) -> bytes:
    """Several expositions as one, in which each sample names its worker."""
    found: dict[str, Metric] = {}
    for text, worker in zip(texts, workers, strict=True):
        for family in text_string_to_metric_families(text):
            merged = found.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            merged.samples += [
                sample._replace(labels={**sample.labels, "worker": str(worker)})
                for sample in family.samples
            ]
    registry = CollectorRegistry()
    registry.register(_Merged(list(found.values())))
    return generate_latest(registry)
