"""`glasshouse serve`: a classifier as an HTTP service."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.named_classifier import NamedModel, classifier_named
from glasshouse.cli.options import ClassNamesFile, Model, Net, Offline, Weights

if TYPE_CHECKING:
    import socket

    from glasshouse.serving.service.access import AccessRules
    from glasshouse.serving.service.limits import Limits
    from glasshouse.serving.service.service import Service

_MAX_IMAGES = 64
_ORIGIN = re.compile(r"https?://[^/\s?#@*]+/?", re.IGNORECASE)
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})

ServedName = Annotated[
    str | None, typer.Option(help="Model name in responses. Default: the name of its folder.")
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(help="File with the key that clients must send. Or set GLASSHOUSE_API_KEY."),
]
AllowedHosts = Annotated[
    list[str] | None, typer.Option(help="Further host name to accept; repeatable.")
]
AllowedOrigins = Annotated[
    list[str] | None,
    typer.Option(
        help="Origin whose web pages may use the service, as https://photos.example; repeatable, "
        "* for any."
    ),
]
PassThreads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads per forward pass. Default: a quarter of the cores."),
]


def serve(
    model: Model = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free port.")] = 8000,
    name: ServedName = None,
    net: Net = None,
    weights: Weights = None,
    class_names: ClassNamesFile = None,
    offline: Offline = False,
    api_key_file: ApiKeyFile = None,
    allow_host: AllowedHosts = None,
    allow_origin: AllowedOrigins = None,
    max_batch: Annotated[int, typer.Option(min=1, max=1024, help="Images per forward pass.")] = 16,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, max=1000, help="Longest wait for a larger batch.")
    ] = 2.0,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Images in flight; requests beyond that get 503.")
    ] = 256,
    deadline: Annotated[
        float, typer.Option(min=0.01, help="Seconds per request; after that it gets 503.")
    ] = 10.0,
    max_body_mb: Annotated[int, typer.Option(min=1, help="MiB per request.")] = 32,
    max_megapixels: Annotated[int, typer.Option(min=1, max=100, help="Size per image.")] = 50,
    max_images: Annotated[
        int | None,
        typer.Option(min=1, help="Images per request. Default: 64, or --max-queue if smaller."),
    ] = None,
    drain: Annotated[
        float, typer.Option(min=0, help="Seconds from reporting not ready to shutting down.")
    ] = 0.0,
    threads: PassThreads = None,
) -> None:
    """Serve predictions and explanations of MODEL over HTTP; Ctrl+C stops it."""
    from glasshouse.errors import UsageError
    from glasshouse.serving.service.access import AccessRules
    from glasshouse.serving.service.limits import Limits

    named = NamedModel(model, net, weights, class_names, offline).checked()
    key = _api_key(api_key_file)
    cores = os.cpu_count() or 1
    # The threads of one pass wait for each other after every layer; separate passes never do, so
    # several narrow passes fill the cores better than one wide one.
    threads = threads or max(1, cores // 4)
    limits = Limits(
        passes=max(1, cores // threads),
        max_batch=max_batch,
        max_wait=max_wait_ms / 1000,
        max_queue=max_queue,
        deadline=deadline,
        max_body=max_body_mb << 20,
        max_pixels=max_megapixels * 10**6,
        max_images=min(_MAX_IMAGES, max_queue) if max_images is None else max_images,
    )
    if limits.max_images > max_queue:
        raise UsageError(
            f"--max-images {limits.max_images} is more than --max-queue {max_queue}: requests of "
            "that size would never be accepted"
        )
    hosts = _LOCAL if host in _LOCAL and key is None else frozenset()
    rules = AccessRules(key, hosts | frozenset(allow_host or ()), _origins(allow_origin or []))
    with _reserve(host, port) as listener:
        service = _service(named, name, limits, threads)
        _serve(service, listener, rules, drain)


def _api_key(file: Path | None) -> str | None:
    from glasshouse.errors import UsageError

    if file is None:
        return os.environ.get("GLASSHOUSE_API_KEY") or None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the API key from {file}: {error}") from error
    if not key:
        raise UsageError(f"{file} is empty: expected an API key")
    return key


def _origins(given: list[str]) -> frozenset[str]:
    from glasshouse.errors import UsageError

    for origin in given:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise UsageError(
                f"--allow-origin {origin}: expected a scheme and a host without a path, as "
                "https://photos.example or http://localhost:3000, or * for any"
            )
    return frozenset(origin.rstrip("/").lower() for origin in given)


def _reserve(host: str, port: int) -> "socket.socket":
    from glasshouse.errors import UsageError
    from glasshouse.serving.service.server import reserve

    try:
        return reserve(host, port)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port, or "
            "0 for a free one."
        ) from error


def _service(
    named: NamedModel,
    name: str | None,
    limits: "Limits",
    threads: int,
) -> "Service":
    # OpenMP threads spin while they wait for each other, which takes the cores from the event loop
    # and the other passes. Read when torch is imported, so it is set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from glasshouse.serving.service.service import make_service

    torch.set_num_threads(threads)
    classifier = classifier_named(named)
    source = named.shown
    usual = Path(source).resolve().name if Path(source).is_dir() else source.partition(":")[0]
    return make_service(classifier, name or usual, limits)


def _serve(
    service: "Service", listener: "socket.socket", rules: "AccessRules", drain: float
) -> None:
    from glasshouse.cli.progress_bars import say
    from glasshouse.serving.service.api import create_api
    from glasshouse.serving.service.server import BACKLOG, ShutdownPolicy, run

    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    if host not in _LOCAL and rules.api_key is None:
        say("warning: anyone who can reach this address can use the service; set --api-key-file")
    names = service.classifier.class_names
    # Before the line is printed: whoever reads it may connect at once.
    listener.listen(BACKLOG)
    print(
        f"http://{shown}:{port}/  {service.name}, {len(names)} classes  (Ctrl+C stops it)",
        flush=True,
    )
    run(create_api(service, rules), service, listener, ShutdownPolicy(drain=drain))
    say("stopped; every accepted request was answered")
