"""What a monitoring system reads of a service, in the text format of Prometheus."""

from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


@dataclass(frozen=True)
class Metrics:
    """Counters of one service; two services in one process share none."""

    registry: CollectorRegistry = field(default_factory=_registry)
    requests: Counter = field(init=False)
    seconds: Histogram = field(init=False)
    images: Counter = field(init=False)
    batches: Histogram = field(init=False)
    compute: Histogram = field(init=False)

    def __post_init__(self) -> None:
        """Register each once."""
        own = {
            "requests": Counter(
                "glasshouse_requests", "Answered requests.", ("route", "method", "status"),
                registry=self.registry,
            ),
            "seconds": Histogram(
                "glasshouse_request_seconds", "From the request's head to the answer's.",
                ("route",), buckets=_SECONDS, registry=self.registry,
            ),
            "images": Counter(
                "glasshouse_images", "Images that were classified.", registry=self.registry
            ),
            "batches": Histogram(
                "glasshouse_batch_images", "Images in one forward pass.",
                buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=self.registry,
            ),
            "compute": Histogram(
                "glasshouse_forward_seconds", "Of one forward pass.", buckets=_SECONDS,
                registry=self.registry,
            ),
        }  # fmt: skip
        for name, metric in own.items():
            object.__setattr__(self, name, metric)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of them, as /metrics shows them."""
        return generate_latest(self.registry)
