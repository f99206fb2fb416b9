"""Metrics of a service in the text format of Prometheus."""

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
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def _registry() -> CollectorRegistry:
    # One of our own: the library's default registry is shared by the whole process.
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


@dataclass(frozen=True)
class Metrics:
    """The metrics of one service; two services in one process share none."""

    registry: CollectorRegistry = field(default_factory=_registry)
    requests: Counter = field(init=False)
    request_seconds: Histogram = field(init=False)
    images: Counter = field(init=False)
    model_loads: Counter = field(init=False)
    batch_sizes: Histogram = field(init=False)
    forward_seconds: Histogram = field(init=False)

    def __post_init__(self) -> None:
        """Register each metric once."""
        own = {
            "requests": Counter(
                "glasshouse_requests", "HTTP requests by route, method and status.",
                ("route", "method", "status"), registry=self.registry,
            ),
            "request_seconds": Histogram(
                "glasshouse_request_duration_seconds", "Time from request to response.",
                ("route",), buckets=_SECONDS, registry=self.registry,
            ),
            "images": Counter(
                "glasshouse_images", "Images classified.", registry=self.registry
            ),
            "model_loads": Counter(
                "glasshouse_model_loads", "Loads of a model while the service runs.", ("model",),
                registry=self.registry,
            ),
            "batch_sizes": Histogram(
                "glasshouse_batch_size", "Images per forward pass.",
                buckets=_BATCH_SIZES, registry=self.registry,
            ),
            "forward_seconds": Histogram(
                "glasshouse_forward_duration_seconds", "Duration of a forward pass.",
                buckets=_SECONDS, registry=self.registry,
            ),
        }  # fmt: skip
        for name, metric in own.items():
            object.__setattr__(self, name, metric)

    def add_gauge(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is computed at each scrape."""
        Gauge(name, description, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All metrics, as /metrics returns them."""
        return generate_latest(self.registry)
