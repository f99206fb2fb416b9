"""Images a second over HTTP: glasshouse serve beside a plain FastAPI handler and LitServe.

    [DEVICE=cuda] python bench/serving.py small|mobilenet [--rounds 5] [--servers ours,plain,...]

Claims: 1.0x, 1.5x and 2.2x a plain FastAPI handler with torch's eager mode (an async one or one on
FastAPI's thread pool, whichever is faster) at 1, 8 and 64 clients, round by round, and 2x LitServe
at 64; every answer is the offline one; under overload the refusals come within 100 ms; a stop loses
nothing. All servers get the same forms with the same files, from wrk (Debian's package) on this
machine, which takes a share of the cores from each alike. Reads photos, weights and CIFAR-10 from
GLASSHOUSE_DATA.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import psutil
from contest import BENCH, data_folder, judge, judge_rounds, machine, ratios, require

HERE = Path(__file__).parent
DATA = data_folder()
# Where all servers compute, such as cuda.
DEVICE = os.environ.get("DEVICE", "cpu")
WEIGHTS = DATA / "weights/imagenet/mobilenetv2_100_tfsame.fp16.safetensors"
MOBILENET = "mobilenetv2_100:pad_type=same,mean=0.5,std=0.5"
FILES = 16
# How many times as fast as the better plain handler, by the number of clients.
CLAIMS = {1: 1.0, 8: 1.5, 64: 2.2}
# And as LitServe, where more than 1.0 is claimed.
LITSERVE = {64: 2.0}


def model_arguments(model: str, folder: Path) -> list[str]:
    """What follows `glasshouse serve` and `glasshouse predict`."""
    if model == "mobilenet":
        return [MOBILENET, "--weights", str(WEIGHTS)]
    if not (folder / "small").exists():
        save_small(folder / "small")
    return [str(folder / "small")]


def save_small(folder: Path, seed: int = 0) -> None:
    """The preset small-residual with random weights: their values make no difference in time."""
    from glasshouse.models.architecture import architecture_of
    from glasshouse.models.classifier import Classifier, Preprocessing, save_classifier
    from glasshouse.models.layers import build
    from glasshouse.settings import ModelSettings

    settings, shape = ModelSettings(preset="small-residual"), (3, 32, 32)
    names = tuple(f"class {number}" for number in range(10))
    save_classifier(
        Classifier(
            build(settings, 10, shape, seed=seed).eval(),
            Preprocessing(32, 32, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26)),
            names,
            architecture=architecture_of(settings, 10, shape),
        ),
        folder,
    )


def write_files(model: str, folder: Path) -> list[Path]:
    """Sixteen real images: photos as they are, or images of CIFAR-10 as PNG files."""
    if model == "mobilenet":
        photos = sorted((DATA / "photos/imagenet").glob("*.JPEG"))[:FILES]
        paths = [folder / f"{i}.jpg" for i in range(FILES)]
        for path, photo in zip(paths, photos, strict=True):
            path.write_bytes(photo.read_bytes())
        return paths
    from PIL import Image

    from glasshouse.data.sources import load_splits
    from glasshouse.settings import DataSettings

    images = load_splits("cifar10", DataSettings(), data_dir=DATA, offline=True).test.pixels
    paths = [folder / f"{i}.png" for i in range(FILES)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return paths


def write_script(paths: list[Path], folder: Path) -> Path:
    """What wrk asks, in turns, and a count of every different answer."""
    for path in paths:
        head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n'
        kind = "Content-Type: application/octet-stream\r\n\r\n"
        body = (head + kind).encode() + path.read_bytes() + b"\r\n--b--\r\n"
        path.with_suffix(".form").write_bytes(body)
    forms = ", ".join(json.dumps(str(path.with_suffix(".form"))) for path in paths)
    script = folder / "ask.lua"
    script.write_text((HERE / "serving.lua").read_text().replace("FORMS", forms))
    return script


# The servers.


def build_net(model: str, folder: Path) -> tuple[Any, Any, Any]:
    """Net, torchvision's transform and class names, for the peers."""
    from glasshouse.models.libraries import torchvision_library
    from glasshouse.workflow.use.model_names import classifier_by_name

    transforms = torchvision_library().transforms
    name, *rest = model_arguments(model, folder)
    classifier = classifier_by_name(name, weights=Path(rest[1]) if rest else None)
    wanted = classifier.preprocessing
    steps: list[Any] = []
    if model == "mobilenet":
        cubic = transforms.InterpolationMode.BICUBIC
        steps = [transforms.Resize(256, interpolation=cubic), transforms.CenterCrop(224)]
    steps += [transforms.ToTensor(), transforms.Normalize(wanted.mean, wanted.std)]
    return classifier.net.eval().to(DEVICE), transforms.Compose(steps), classifier.class_names


def top_five(row: Any, names: Any) -> list[dict[str, Any]]:
    """As the service's answers."""
    values, classes = row.softmax(0).topk(5)
    found = zip(values.tolist(), classes.tolist(), strict=True)
    return [{"class": names[k], "probability": round(value, 6)} for value, k in found]


def serve_plain(model: str, folder: Path, port: int, *, on_threads: bool) -> None:
    """What a tutorial would write."""
    import torch
    import uvicorn
    from fastapi import FastAPI, UploadFile
    from PIL import Image

    net, transform, names = build_net(model, folder)
    app = FastAPI()

    def answer(file: UploadFile) -> dict[str, Any]:
        image = transform(Image.open(file.file).convert("RGB"))
        with torch.inference_mode():
            row = net(image[None].to(DEVICE))[0]
            return {"image": file.filename, "top": top_five(row, names)}

    async def answer_here(file: UploadFile) -> dict[str, Any]:
        return answer(file)

    app.post("/predict")(answer if on_threads else answer_here)
    uvicorn.run(app, port=port, log_level="warning")


@contextmanager
def running(
    name: str, model: str, folder: Path, options: tuple[str, ...] = ()
) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """A server as a process, ready to answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if name == "ours":
        command = [sys.executable, "-m", "glasshouse", "serve", *model_arguments(model, folder)]
        command += ["--port", str(port), "--device", DEVICE, *options]
    else:
        script = HERE / "serving_litserve.py" if name == "litserve" else __file__
        command = [sys.executable, str(script), model, "--peer", name, str(folder), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        asyncio.run(until_ready(port, folder))
        yield port, process
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a server and the processes that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)


# The callers.


def request_of(form: bytes) -> bytes:
    """The whole request, as wrk sends it."""
    return (
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: %d\r\n\r\n" % len(form)
    ) + form


async def exchange(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes
) -> tuple[int, bytes]:
    """One request on an open connection: status, and the head of the answer."""
    reader, writer = streams
    writer.write(data)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    return int(head[9:12]), head


async def until_ready(port: int, folder: Path) -> None:
    """Ask until an image is answered."""
    data = request_of(next(folder.glob("*.form")).read_bytes())
    for _ in range(300):
        try:
            streams = await asyncio.open_connection("127.0.0.1", port)
            status, _ = await exchange(streams, data)
            streams[1].close()
            if status == 200:
                return
        except (OSError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(0.2)
    raise SystemExit("the server did not come up")


def load(port: int, script: Path, clients: int, seconds: int) -> tuple[float, str, dict[str, int]]:
    """Answers a second, the median and 99th percentile of their time, and every answer's count."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "20s", "-s", str(script)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/predict"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout[done.stdout.index("RESULT") + 6 :])
    words = f"p50 {found['p50'] / 1000:7.1f} ms, p99 {found['p99'] / 1000:7.1f} ms"
    if found["failed"]:
        words += f", {found['failed']} FAILED"
    return found["answers"] / (found["microseconds"] / 1e6), words, found["bodies"]


def until_idle() -> None:
    """Wait until no server computes any more what nobody waits for."""
    for _ in range(50):
        if psutil.cpu_percent(0.2) < 5:
            return
    print("  other work is running beside what follows", flush=True)


def offline_answers(model: str, folder: Path, paths: list[Path]) -> dict[str, dict[str, float]]:
    """Every class's probability for each file, as the command line gives it."""
    command = [sys.executable, "-m", "glasshouse", "predict", *model_arguments(model, folder)]
    done = subprocess.run(
        [*command, *map(str, paths), "--json", "--top", "1000"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {
        Path(each["image"]).name: {top["class"]: top["probability"] for top in each["top"]}
        for each in json.loads(done.stdout)
    }


def compare(bodies: dict[str, int], expected: dict[str, dict[str, float]]) -> tuple[int, float]:
    """How many answers there were, and the largest difference of a probability from offline."""
    worst = 0.0
    for body in bodies:
        for each in json.loads(body)["predictions"]:
            wanted = expected[each["image"]]
            best = sorted(wanted.values(), reverse=True)[: len(each["top"])]
            for top, probability in zip(each["top"], best, strict=True):
                worst = max(worst, abs(top["probability"] - wanted[top["class"]]))
                worst = max(worst, abs(top["probability"] - probability))
    return sum(bodies.values()), worst


async def overload(port: int, data: bytes, clients: int, seconds: float) -> list[tuple[int, float]]:
    """Status and seconds of each answer, all clients asking without a pause."""
    ends = time.perf_counter() + seconds
    found = []

    async def ask() -> None:
        streams = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < ends:
            began = time.perf_counter()
            status, _ = await exchange(streams, data)
            found.append((status, time.perf_counter() - began))
            if status == 503:
                await asyncio.sleep(0.5)  # what a caller does that is told to try again later
        streams[1].close()

    await asyncio.gather(*(ask() for _ in range(clients)))
    return found


async def stop_in_the_midst(port: int, pid: int, data: bytes) -> tuple[int, int]:
    """Requests that were sent on open connections, and those that got no answer."""
    sent, lost = 0, 0

    async def ask() -> None:
        nonlocal sent, lost
        streams = await asyncio.open_connection("127.0.0.1", port)
        while True:
            sent += 1
            try:
                _, head = await exchange(streams, data)
            except (OSError, asyncio.IncompleteReadError):
                lost += 1
                return
            if b"connection: close" in head.lower():
                return

    async def stop() -> None:
        await asyncio.sleep(2)
        os.kill(pid, signal.SIGTERM)

    await asyncio.gather(stop(), *(ask() for _ in range(64)))
    return sent, lost


# The contest.


def contest(options: argparse.Namespace, folder: Path) -> bool:
    """All servers in turn, then what only ours promises; whether every claim holds."""
    require("wrk", "apt install wrk")
    if "litserve" in options.servers:
        require("litserve", f"{BENCH}; or leave it out of --servers")
    paths = write_files(options.model, folder)
    script = write_script(paths, folder)
    expected = offline_answers(options.model, folder, paths)
    print(f"{options.model}, {options.seconds} s each; {machine()}", flush=True)
    speeds: dict[str, dict[int, list[float]]] = {}
    total, worst = 0, 0.0
    names, numbers = options.servers.split(","), [int(n) for n in options.clients.split(",")]
    with ExitStack() as servers:
        # All at once, so that what is compared is measured within seconds of each other.
        ports = {
            name: servers.enter_context(running(name, options.model, folder))[0] for name in names
        }
        for port in ports.values():
            load(port, script, 8, 2)
        for clients, name in options.rounds * list(product(numbers, names)):
            until_idle()
            speed, words, bodies = load(ports[name], script, clients, options.seconds)
            speeds.setdefault(name, {}).setdefault(clients, []).append(speed)
            print(f"  {name:<14} {clients:>3} clients {speed:8.1f} /s  {words}", flush=True)
            if name == "ours":
                count, difference = compare(bodies, expected)
                total, worst = total + count, max(worst, difference)
    held = []
    if "ours" in speeds:
        print(f"  {total:,} answers of ours compared with the offline ones")
        claim = "largest difference of a probability, in millionths"
        held.append(judge(claim, worst * 1e6, 10, at_least=False))
        held.append(promises(options.model, folder, paths[0].with_suffix(".form").read_bytes()))
    return all([*held, report(speeds)])


def report(speeds: dict[str, dict[int, list[float]]]) -> bool:
    """The ratios, and whether their claims hold."""
    held = []
    for clients, ours in speeds.get("ours", {}).items():
        plain = [speeds[n][clients] for n in ("plain", "plain-threads") if n in speeds]
        who = f"{clients} client{'s' * (clients > 1)}"
        if plain and clients in CLAIMS:
            found = ratios(ours, *plain)
            held.append(judge_rounds(f"{who}, x the better plain handler", found, CLAIMS[clients]))
        if "litserve" in speeds:
            found = ratios(ours, speeds["litserve"][clients])
            held.append(judge_rounds(f"{who}, x LitServe", found, LITSERVE.get(clients, 1.0)))
    return all(held)


def promises(model: str, folder: Path, form: bytes) -> bool:
    """Overload and stop, and whether their claims hold."""
    data, held = request_of(form), []
    with running("ours", model, folder, ("--max-queue", "16", "--max-images", "4")) as (port, _):
        found = asyncio.run(overload(port, data, 64, 8))
    refused = sorted(seconds for status, seconds in found if status == 503)
    served = sum(status == 200 for status, _ in found)
    if refused:
        middle = refused[len(refused) // 2] * 1000
        print(f"  64 clients, 16 in flight: {served} answered, {len(refused)} refused, median "
              f"{middle:.1f} ms")  # fmt: skip
        held.append(judge("slowest refusal, ms", refused[-1] * 1000, 100, at_least=False))
    with running("ours", model, folder) as (port, process):
        sent, lost = asyncio.run(stop_in_the_midst(port, process.pid, data))
        code = process.wait(20)
    claim = f"lost of {sent} requests when the server was stopped (it ended with {code})"
    held.append(judge(claim, lost, 0, at_least=False))
    return all(held)


def main() -> bool:
    """Command line; whether every claim holds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", choices=["small", "mobilenet"])
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", default="1,8,64")
    parser.add_argument("--servers", default="ours,plain,plain-threads,litserve")
    parser.add_argument("--peer", nargs=3)
    options = parser.parse_args()
    if options.peer:
        name, folder, port = options.peer
        on_threads = name == "plain-threads"
        serve_plain(options.model, Path(folder), int(port), on_threads=on_threads)
        return True
    with tempfile.TemporaryDirectory() as folder:
        return contest(options, Path(folder))


if __name__ == "__main__":
    sys.exit(not main())
