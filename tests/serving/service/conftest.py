"""A small classifier whose class names try to be HTML, as a service, with and without a socket."""

import asyncio
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.serving.connections import ConnectionLimits
from glasshouse.serving.service import model_loading
from glasshouse.serving.service.access import AccessRules
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.server import BACKLOG, Server, ShutdownPolicy, reserve
from glasshouse.serving.service.service import Service, make_service

CLASS_NAMES = ("cat", "dog", "<script>alert(1)</script>", "a & b \N{SNOWMAN}")


@pytest.fixture(autouse=True)
def replaced_models_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look for what nobody needs takes long among all that the tests have loaded."""
    monkeypatch.setattr(model_loading, "_free_replaced", lambda: None)


def black() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 20)).save(buffer, "PNG")
    return buffer.getvalue()


class NoneForBlack(torch.nn.Module):
    """No answer for black images."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        spread = inputs.flatten(1).std(dim=1, keepdim=True)
        logits: torch.Tensor = self.net(inputs) * (spread / spread)
        return logits


def png(seed: int, size: tuple[int, int] = (20, 24)) -> bytes:
    """An image file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Caller:
    """Sends requests to an application without a socket."""

    app: Any

    def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request."""
        return self.together([(method, path, more)])[0]

    def together(self, requests: list[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """Several requests at once."""

        async def ask() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1"
            ) as client:
                asked = [client.request(method, path, **more) for method, path, more in requests]
                return await asyncio.gather(*asked)

        return asyncio.run(ask())


@dataclass(frozen=True)
class Running:
    """A server in a thread of its own."""

    server: Server
    port: int
    thread: threading.Thread

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Stop it as a signal would."""
        self.server.handle_exit(15, None)


@contextmanager
def running(
    service: Service,
    rules: AccessRules | None = None,
    policy: ShutdownPolicy | None = None,
    connections: ConnectionLimits | None = None,
) -> Iterator[Running]:
    """The service on a free port, stopped at the end."""
    listener = reserve("127.0.0.1", 0)
    listener.listen(BACKLOG)
    port = listener.getsockname()[1]
    app = create_api(service, rules)
    server = Server(app, service, policy or ShutdownPolicy(), connections)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        _wait_for(port)
        yield Running(server, port, thread)
    finally:
        if not service.is_closing.is_set():
            server.handle_exit(15, None)
        thread.join(120)
    assert not thread.is_alive()


def _wait_for(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.fixture
def classifier(tiny_net: torch.nn.Sequential) -> Classifier:
    """For images of 16x16."""
    return Classifier(tiny_net.eval(), Preprocessing(16, 16), CLASS_NAMES, temperature=1.5)


@pytest.fixture
def service(classifier: Classifier) -> Service:
    """With small limits."""
    limits = Limits(
        max_queue=80, max_body=1 << 20, max_pixels=10_000, max_images=8, explain_images=2
    )
    return make_service(classifier, "tiny", limits)


@pytest.fixture
def ask(service: Service) -> Caller:
    """Sends requests to the service."""
    return Caller(create_api(service))
