"""What the options of `serve` become; the server itself is not started."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from glasshouse.serving.service import server
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.service import Service
from tests.journeys.command import glasshouse_here
from tests.serving.service.conftest import Caller, png


@dataclass(frozen=True)
class Started:
    """What the command would have run."""

    ask: Caller
    service: Service
    policy: server.ShutdownPolicy


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that runs the command up to the point where it would listen."""
    started: list[Started] = []

    def note(app: Any, service: Service, listener: Any, policy: server.ShutdownPolicy) -> None:
        started.append(Started(Caller(app), service, policy))

    def run(*options: str) -> Started:
        code, output, errors = glasshouse_here(
            ["serve", "cifar10-small", "--port", "0", *options], capsys
        )
        assert code == 0, errors
        assert output.startswith("http://")
        return started.pop()

    monkeypatch.setattr(server, "run", note)
    # The command sets it for good; this gives it back.
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("GLASSHOUSE_API_KEY", raising=False)
    return run


def statuses(started: Started, *hosts: str) -> list[int]:
    return [started.ask("GET", "/healthz", headers={"host": host}).status_code for host in hosts]


def test_a_local_service_answers_under_no_foreign_name(serve: Any) -> None:
    # A page of another site whose name points to this machine would read the answers otherwise.
    local, foreign = ("127.0.0.1:80", "localhost", "[::1]:8000"), ("evil.example", "127.0.0.1.x")
    started = serve()
    assert statuses(started, *local, *foreign) == [200, 200, 200, 421, 421]
    allowed = serve("--allow-host", "photos.example", "--allow-host", "evil.example")
    assert statuses(allowed, *local, *foreign) == [200, 200, 200, 200, 421]
    assert statuses(allowed, "photos.example") == [200]


def test_a_service_with_a_key_answers_under_any_name_but_not_without_it(
    serve: Any, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    started = serve("--api-key-file", str(tmp_path / "key"))
    for host in ("evil.example", "localhost"):
        for key, status in (("s3cret", 200), ("other", 401)):
            headers = {"host": host, "x-api-key": key, "content-type": "image/png"}
            answer = started.ask("POST", "/predict", content=png(0), headers=headers)
            assert answer.status_code == status


def test_every_option_is_the_limit_it_names(serve: Any) -> None:
    options = {
        "--max-batch": 3, "--max-wait-ms": 5, "--max-queue": 40, "--deadline": 7,
        "--max-body-mb": 2, "--max-megapixels": 3, "--max-images": 6, "--drain": 9, "--threads": 1,
        "--name": "photos",
    }  # fmt: skip
    started = serve(*(str(part) for option in options.items() for part in option))
    expected = Limits(
        max_batch=3, max_wait=0.005, max_queue=40, deadline=7.0, max_body=2 * 1024 * 1024,
        max_pixels=3_000_000, max_images=6,
    )  # fmt: skip
    # Threads that were asked for are never doubled.
    assert replace(started.service.limits, passes=1) == expected
    assert started.service.limits.passes >= 1
    assert (started.service.models.names, started.policy.drain) == (["photos"], 9.0)
    assert torch.get_num_threads() == 1
    headers = {"content-type": "image/png"}
    for size, status in ((2 << 20, 422), ((2 << 20) + 1, 413)):
        answer = started.ask("POST", "/predict", content=b"x" * size, headers=headers)
        assert (answer.status_code, json.loads(answer.text)["status"]) == (status, status)


def test_the_default_limit_of_images_fits_into_a_small_queue(serve: Any) -> None:
    assert serve("--max-queue", "5").service.limits.max_images == 5
    assert serve().service.limits.max_images == 64
    assert serve().service.limits.max_body == 32 * 1024 * 1024


def test_an_origin_is_allowed_by_name_and_anything_else_is_refused(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    started = serve("--allow-origin", "https://Photos.example/")
    answer = started.ask("GET", "/healthz", headers={"origin": "https://photos.example"})
    assert answer.headers["access-control-allow-origin"] == "https://photos.example"
    for wrong in (
        "photos.example",
        "https://a.example/path",
        "https://*.example",
        "ftp://a",
        "null",
    ):
        code, _, errors = glasshouse_here(
            ["serve", "cifar10-small", "--port", "0", "--allow-origin", wrong], capsys
        )
        assert code == 2 and f"--allow-origin {wrong}: expected a scheme and a host" in errors


def test_several_models_have_names_of_their_own(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = serve("cifar10-small", "--name", "one", "--name", "two")
    assert started.service.models.names == ["one", "two"]
    weights = str(tmp_path / "w.safetensors")
    for options, words in {
        ("cifar10-small",): "two models are called 'cifar10-small'",
        ("cifar10-small", "--name", "one"): "expected a --name for each MODEL",
        ("cifar10-small", "--weights", weights): "belong to one MODEL, received 2",
    }.items():
        code, _, errors = glasshouse_here(
            ["serve", "cifar10-small", "--port", "0", *options], capsys
        )
        assert code == 2 and words in errors, errors


def test_models_are_loaded_from_this_machine_or_with_a_key_only(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret")
    key, anywhere = ("--api-key-file", str(tmp_path / "key")), ("--host", "0.0.0.0")
    # Behind a proxy, every client seems to come from this machine.
    proxied = ("--allow-host", "photos.example")
    for options, status in (
        ((), 200), (anywhere, 403), ((*anywhere, *key), 200), (proxied, 403),
        ((*proxied, *key), 200),
    ):  # fmt: skip
        headers = {"x-api-key": "s3cret"}
        if "photos.example" in options:
            headers["host"] = "photos.example"
        path = "/v2/repository/models/cifar10-small/unload"
        assert serve(*options).ask("POST", path, headers=headers).status_code == status


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_service_answers_as_predict_does_on_the_same_device(
    device: str, serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = serve("--device", device)
    model = started.service.models.find()
    for net in (model.classifier.net, model.fast.net):
        assert {p.device.type for p in net.parameters()} == {device}
    # Several at once, which are answered together, and one alone.
    images = [png(seed) for seed in range(5)]
    files = [("images", (f"{i}.png", data, "image/png")) for i, data in enumerate(images)]
    answers = started.ask("POST", "/predict?top=10", files=files).json()["predictions"]
    headers = {"content-type": "image/png"}
    lone = started.ask("POST", "/predict?top=10", content=images[0], headers=headers)
    answers += lone.json()["predictions"]
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, data in zip(paths, images, strict=True):
        path.write_bytes(data)
    command = ["predict", "cifar10-small", *map(str, [*paths, paths[0]]), "--top", "10"]
    code, output, errors = glasshouse_here([*command, "--device", device, "--json"], capsys)
    assert code == 0, errors
    for answer, offline in zip(answers, json.loads(output), strict=True):
        expected = {each["class"]: each["probability"] for each in offline["top"]}
        assert len(expected) == 10
        assert {each["class"]: each["probability"] for each in answer["top"]} == pytest.approx(
            expected, abs=1e-4
        )
