"""`glasshouse serve`: a classifier as an HTTP service."""

import os
import re
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.named_classifier import NamedModel, classifier_named, is_saved
from glasshouse.cli.options import ClassNamesFile, Net, Offline, UseDevice, Weights
from glasshouse.cli.resemblance import require_run

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from glasshouse.models.classifier import Classifier
    from glasshouse.serving.service.access import AccessRules
    from glasshouse.serving.service.limits import Limits
    from glasshouse.serving.service.peers import Peers
    from glasshouse.serving.service.service import Service
    from glasshouse.serving.service.worker_processes import WorkerPlace
    from glasshouse.workflow.use.photo_and_run import RunComparison

_MAX_IMAGES = 64
_ORIGIN = re.compile(r"https?://[^/\s?#@*]+/?", re.IGNORECASE)
_STOPPED = "stopped; every accepted request was answered"
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})

ServedModels = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL",
        help="One or more run folders, bundled models, or pretrained networks from `glasshouse "
        "models`. The first answers requests that name none.",
    ),
]
ServedNames = Annotated[
    list[str] | None,
    typer.Option(
        help="Model name in responses; for several models repeat it, in their order. Default: the "
        "name of its folder."
    ),
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
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free port.")]
MaxBatch = Annotated[int, typer.Option(min=1, max=1024, help="Images per forward pass.")]
MaxWait = Annotated[
    float,
    typer.Option(
        min=0, max=1000, help="Milliseconds that an image waits for others still being decoded."
    ),
]
MaxQueue = Annotated[
    int, typer.Option(min=1, help="Images in flight; requests beyond that get 503.")
]
Deadline = Annotated[
    float, typer.Option(min=0.01, help="Seconds per request; after that it gets 503.")
]
MaxBody = Annotated[int, typer.Option(min=1, help="MiB per request.")]
MaxPixels = Annotated[int, typer.Option(min=1, max=100, help="Megapixels per image.")]
MaxImages = Annotated[
    int | None,
    typer.Option(min=1, help="Images per request. Default: 64, or --max-queue if smaller."),
]
Drain = Annotated[
    float, typer.Option(min=0, help="Seconds from reporting not ready to shutting down.")
]
Workers = Annotated[
    int,
    typer.Option(
        min=1, max=256, help="Processes that serve together, where one does not use all cores."
    ),
]
PassThreads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads per forward pass. Default: a quarter of the cores, twice as many while it is "
        "the only one, if that is faster.",
    ),
]


SimilarImages = Annotated[
    bool,
    typer.Option(
        "--similar",
        help="Requests may ask which training images an image resembles, and whether it is unlike "
        "all of them. Each MODEL is a run, whose training images are read once.",
    ),
]


def serve(
    model: ServedModels = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    name: ServedNames = None,
    net: Net = None,
    weights: Weights = None,
    class_names: ClassNamesFile = None,
    offline: Offline = False,
    api_key_file: ApiKeyFile = None,
    allow_host: AllowedHosts = None,
    allow_origin: AllowedOrigins = None,
    max_batch: MaxBatch = 16,
    max_wait_ms: MaxWait = 2.0,
    max_queue: MaxQueue = 256,
    deadline: Deadline = 10.0,
    max_body_mb: MaxBody = 32,
    max_megapixels: MaxPixels = 50,
    max_images: MaxImages = None,
    drain: Drain = 0.0,
    threads: PassThreads = None,
    workers: Workers = 1,
    similar: SimilarImages = False,
    device: UseDevice = "cpu",
) -> None:
    """Serve predictions and explanations of one MODEL or several over HTTP; Ctrl+C stops it."""
    from glasshouse.serving.service.limits import Limits
    from glasshouse.serving.service.worker_processes import this_worker

    options = NamedModel(None, net, weights, class_names, offline, device)
    named = _named(model or [], options, name or [])
    for each in named.values():
        require_run(each, similar=similar)
    cores = max(1, (os.cpu_count() or 1) // workers)
    # The threads of one pass wait for each other after every layer; separate passes never do, so
    # several narrow passes fill the cores better than one wide one.
    per_pass = threads or max(1, cores // 4)
    limits = Limits(
        passes=max(1, cores // per_pass),
        threads=per_pass if threads is None else None,
        max_batch=max_batch,
        max_wait=max_wait_ms / 1000,
        max_queue=max_queue,
        deadline=deadline,
        max_body=max_body_mb << 20,
        max_pixels=max_megapixels * 10**6,
        max_images=min(_MAX_IMAGES, max_queue) if max_images is None else max_images,
    )
    _require_room(limits)
    rules = _rules(host, _api_key(api_key_file), allow_host or [], allow_origin or [])
    worker = this_worker()
    if worker is not None:
        service = _service(named, limits, per_pass, similar, worker.peers)
        _serve_as_worker(service, worker, rules, drain)
        return
    with _reserve(host, port) as listener:
        if workers > 1:
            _serve_together(workers, listener, rules)
        else:
            _serve(_service(named, limits, per_pass, similar), listener, rules, drain)


def _require_room(limits: "Limits") -> None:
    from glasshouse.errors import UsageError

    if limits.max_images > limits.max_queue:
        raise UsageError(
            f"--max-images {limits.max_images} is more than --max-queue {limits.max_queue}: "
            "requests of that size would never be accepted"
        )


def _rules(host: str, key: str | None, hosts: list[str], origins: list[str]) -> "AccessRules":
    from glasshouse.errors import UsageError
    from glasshouse.serving.service.access import AccessRules

    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise UsageError(
                f"--allow-origin {origin}: expected a scheme and a host without a path, as "
                "https://photos.example or http://localhost:3000, or * for any"
            )
    is_local = host in _LOCAL
    return AccessRules(
        api_key=key,
        hosts=frozenset({*hosts, *(_LOCAL if is_local and key is None else ())}),
        origins=frozenset(origin.rstrip("/").lower() for origin in origins),
        # Behind a proxy, every client comes from this machine.
        may_control=key is not None or (is_local and not hosts),
    )


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


def _named(models: list[str], options: NamedModel, names: list[str]) -> dict[str, NamedModel]:
    """The models by the name under which each is served, with the options that go with it."""
    from glasshouse.errors import UsageError

    if len(models) > 1 and (options.net is not None or options.has_weights_or_names):
        raise UsageError(
            f"--net, --weights and --class-names belong to one MODEL, received {len(models)}: name "
            "the weights with the network, as NETWORK:weights=FILE, or serve run folders"
        )
    found = [replace(options, model=model).checked() for model in models]
    # Without a MODEL, --net is the code of the only one.
    found = found or [options.checked()]
    if names and len(names) != len(found):
        raise UsageError(
            f"expected a --name for each MODEL, in their order: {len(found)}, received {len(names)}"
        )
    names = names or [_usual_name(each.shown) for each in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two models are called {twice!r}: give each MODEL a --name of its own")
    return dict(zip(names, found, strict=True))


def _usual_name(source: str) -> str:
    return Path(source).resolve().name if Path(source).is_dir() else source.partition(":")[0]


def _service(
    named: dict[str, NamedModel],
    limits: "Limits",
    threads: int,
    similar: bool,
    peers: "Peers | None" = None,
) -> "Service":
    # OpenMP threads spin while they wait for each other, which takes the cores from the event loop
    # and the other passes: not at all, or with GNU's for the time between two layers only. Read
    # when torch is imported, so it is set before.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    import torch

    from glasshouse.serving.service.served_models import ModelSource
    from glasshouse.serving.service.service import service_of

    torch.set_num_threads(threads)
    shared = None if peers is None else peers.weights
    sources = [
        ModelSource(
            name,
            partial(_loaded, each, threads),
            _watched_folder(each),
            shared,
            _comparing(each) if similar else None,
        )
        for name, each in named.items()
    ]
    return service_of(sources, limits, peers)


def _loaded(named: NamedModel, threads: int) -> "Classifier":
    import torch

    found = classifier_named(named)
    # It measured how many are fastest at present, and may have been loaded amid requests.
    torch.set_num_threads(threads)
    return found


def _comparing(named: NamedModel) -> "Callable[[Classifier], RunComparison]":
    from glasshouse.workflow.use.photo_and_run import RunComparison

    return lambda classifier: RunComparison.of(
        Path(str(named.model)), classifier, offline=named.offline
    )


def _watched_folder(named: NamedModel) -> Path | None:
    return Path(named.model) if named.model is not None and is_saved(named.model) else None


def _serve(
    service: "Service", listener: "socket.socket", rules: "AccessRules", drain: float
) -> None:
    from glasshouse.cli.progress_bars import say
    from glasshouse.serving.service.api import create_api, described_models
    from glasshouse.serving.service.server import ShutdownPolicy, run

    _announce(listener, rules, described_models(service))
    run(create_api(service, rules), service, listener, ShutdownPolicy(drain=drain))
    say(_STOPPED)


def _serve_as_worker(
    service: "Service", worker: "WorkerPlace", rules: "AccessRules", drain: float
) -> None:
    from glasshouse.serving.service.api import create_api
    from glasshouse.serving.service.server import ShutdownPolicy, run
    from glasshouse.serving.service.worker_processes import end_with_parent

    threading.Thread(target=end_with_parent, args=(worker.lifeline,), daemon=True).start()
    run(create_api(service, rules), service, worker.listener, ShutdownPolicy(drain=drain))


def _serve_together(workers: int, listener: "socket.socket", rules: "AccessRules") -> None:
    from glasshouse.cli.progress_bars import say
    from glasshouse.errors import UsageError
    from glasshouse.serving.service.worker_processes import can_work, run_workers, worker_command

    if not can_work():
        raise UsageError(
            f"--workers {workers} needs Linux or macOS: leave it out, and raise --threads instead"
        )
    code = run_workers(
        worker_command(), listener, workers, tell=say,
        ready=lambda models: _announce(listener, rules, f"{models}, {workers} workers"),
    )  # fmt: skip
    if code != 0:
        raise typer.Exit(code)
    say(_STOPPED)


def _announce(listener: "socket.socket", rules: "AccessRules", models: str) -> None:
    """Say where the service is, once it can be reached."""
    from glasshouse.cli.progress_bars import say
    from glasshouse.serving.service.server import BACKLOG

    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    if host not in _LOCAL and rules.api_key is None:
        say("warning: anyone who can reach this address can use the service; set --api-key-file")
    # Before the line is printed: whoever reads it may connect at once.
    listener.listen(BACKLOG)
    print(f"http://{shown}:{port}/  {models}  (Ctrl+C stops it)", flush=True)
