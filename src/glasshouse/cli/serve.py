"""`glasshouse serve`: a classifier as an HTTP service."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import Model, Offline, Weights

if TYPE_CHECKING:
    import socket

    from glasshouse.serving.service.limits import Limits
    from glasshouse.serving.service.service import Service

_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="the address to listen at")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one")] = 8000,
    name: Annotated[str | None, typer.Option(help="the model's name [of its folder]")] = None,
    weights: Weights = None,
    offline: Offline = False,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="a file with the key that callers must send [env: GLASSHOUSE_API_KEY]"),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="another name that callers use; may be repeated")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=1024, help="images in one pass")] = 16,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, max=1000, help="how long a batch waits for more images")
    ] = 2.0,
    max_queue: Annotated[
        int, typer.Option(min=1, help="images that may be waiting; one more is answered 503")
    ] = 256,
    deadline: Annotated[
        float, typer.Option(min=0.01, help="seconds for an answer, after which it is 503")
    ] = 10.0,
    max_body_mb: Annotated[int, typer.Option(min=1, help="MiB of one request")] = 32,
    max_megapixels: Annotated[int, typer.Option(min=1, max=100, help="of one image")] = 50,
    max_images: Annotated[int, typer.Option(min=1, help="in one request")] = 64,
    drain: Annotated[
        float, typer.Option(min=0, help="seconds of not being ready before the stop")
    ] = 0.0,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="of one pass, of which as many run as fill the cores [cores / 4]"),
    ] = None,
) -> None:
    """Answer over HTTP what MODEL says of images, and why; Ctrl+C ends it."""
    from glasshouse.errors import UsageError
    from glasshouse.serving.service.limits import Limits

    key = _api_key(api_key_file)
    cores = os.cpu_count() or 1
    # Passes beside each other never wait for each other, as the threads of one pass do.
    threads = threads or max(1, cores // 4)
    limits = Limits(
        passes=max(1, cores // threads),
        max_batch=max_batch,
        max_wait=max_wait_ms / 1000,
        max_queue=max_queue,
        deadline=deadline,
        max_body=max_body_mb << 20,
        max_pixels=max_megapixels * 10**6,
        max_images=max_images,
    )
    if max_images > max_queue:
        raise UsageError(f"--max-images {max_images} is more than --max-queue {max_queue}")
    hosts = _LOCAL if host in _LOCAL and key is None else frozenset()
    with _reserve(host, port) as listener:
        service = _service((model, weights, offline), name, limits, threads)
        _serve(service, listener, (key, hosts | frozenset(allow_host or ()), drain))


def _api_key(file: Path | None) -> str | None:
    from glasshouse.errors import UsageError

    if file is None:
        return os.environ.get("GLASSHOUSE_API_KEY") or None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the API key from {file}: {error}") from error
    if not key:
        raise UsageError(f"{file} is empty: expected the API key in it")
    return key


def _reserve(host: str, port: int) -> "socket.socket":
    from glasshouse.errors import UsageError
    from glasshouse.serving.service.server import reserve

    try:
        return reserve(host, port)
    except OSError as error:
        raise UsageError(
            f"cannot listen at {host}:{port}: {error.strerror or error}. Name another --port, or 0 "
            "for any that is free."
        ) from error


def _service(
    model: tuple[str, Path | None, bool],
    name: str | None,
    limits: "Limits",
    threads: int,
) -> "Service":
    # Threads that spin while they wait for each other would take the cores from everybody else;
    # read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from glasshouse.serving.service.service import make_service
    from glasshouse.workflow.use.model_names import classifier_by_name

    torch.set_num_threads(threads)
    source, weights, offline = model
    classifier = classifier_by_name(source, weights=weights, offline=offline)
    usual = Path(source).resolve().name if Path(source).is_dir() else source.partition(":")[0]
    return make_service(classifier, name or usual, limits)


def _serve(
    service: "Service", listener: "socket.socket", rules: tuple[str | None, frozenset[str], float]
) -> None:
    from glasshouse.cli.progress_bars import say
    from glasshouse.serving.service.api import create_api
    from glasshouse.serving.service.middleware import AccessRules
    from glasshouse.serving.service.server import BACKLOG, ShutdownPolicy, run

    key, hosts, drain = rules
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    if host not in _LOCAL and key is None:
        say("warning: anybody who can reach this address can ask; set a key with --api-key-file")
    names = service.classifier.class_names
    # Whoever reads the line may ask at once.
    listener.listen(BACKLOG)
    print(
        f"http://{shown}:{port}/  {service.name}, {len(names)} classes  (Ctrl+C ends it)",
        flush=True,
    )
    run(
        create_api(service, AccessRules(key, hosts)), service, listener, ShutdownPolicy(drain=drain)
    )
    say("stopped; everything that was accepted is answered")
