"""The files that pages point to: those of runs, and never anything else."""

import asyncio
import io
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from glasshouse.data.sources import load_splits
from glasshouse.models.predict import load_predictions
from glasshouse.runs.folder import read_run
from glasshouse.serving.file_routes import file_routes
from glasshouse.serving.pages.explain import files
from glasshouse.serving.run_images import class_map_png
from glasshouse.serving.workbench import Workbench

SECRET = "the secret next to the runs"


def client_of(workbench: Workbench) -> TestClient:
    app = FastAPI()
    app.include_router(file_routes(workbench))
    return TestClient(app)


def payloads(target: Path) -> list[str]:
    """A hundred ways to name a folder outside: dots, encodings, slashes, roots, null bytes."""
    ups = ["../" * n for n in range(1, 9)]
    names = [f"{up}{target.name}" for up in ups] + [f"first/{up}{target.name}" for up in ups]
    names += [str(target), f"/{target}", f"//{target}", f"file://{target}", f"~/{target.name}"]
    names += [f"first/..//{up}{target.name}" for up in ups]
    names += [name.replace("../", "..\\") for name in names[:8]]
    names += [f"{name}\0" for name in names[:8]] + [f"{name}%00" for name in names[:4]]
    names += [name.replace("../", "....//") for name in names[:8]]
    names += [name.replace("../", "..;/") for name in names[:8]]
    names += [f"./{name}" for name in names[:8]] + [f"first/./{name}" for name in names[:8]]
    names += ["..", ".", "", "...", "first/..", "first/../..", "*", "con", "a" * 5000, "\u2025/x"]
    names += [f"{name}/." for name in names[:8]] + ["link", "link/inside"]
    return names


def _plain(name: str) -> str:
    return quote(name, safe="/\\.;:~*")


def _percent(name: str) -> str:
    return "".join(f"%{byte:02x}" for byte in name.encode())


def _twice(name: str) -> str:
    return quote(quote(name, safe=""), safe="")


def ask(app: FastAPI, raw_path: str) -> tuple[int, bytes]:
    """The response to a path exactly as it is on the wire: a client would normalise it."""
    answer: dict[str, Any] = {"status": 0, "body": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        answer["status"] = message.get("status", answer["status"])
        answer["body"] += message.get("body", b"")

    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": unquote(raw_path), "raw_path": raw_path.encode(), "query_string": b"of=true",
        "headers": [], "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return answer["status"], answer["body"]


def test_no_path_leads_outside_the_folder_of_runs(full: Workbench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("recipe.toml", "report.html", "predictions.safetensors", "model.json"):
        (outside / name).write_text(SECRET, encoding="utf-8")
    (full.runs / "link").symlink_to(outside)
    names = payloads(outside)
    assert len(names) >= 100
    app = FastAPI()
    app.include_router(file_routes(full))
    for name in names:
        for encode in (_plain, _percent, _twice):
            for route in ("/report/", "/image/0/", "/map/0/"):
                status, body = ask(app, route + encode(name))
                assert status in (404, 405, 422), (name, status)
                assert SECRET.encode() not in body


def test_the_report_is_served_and_may_load_nothing(full: Workbench) -> None:
    answer = client_of(full).get("/report/sub/second")
    assert answer.status_code == 200
    assert answer.content == (full.runs / "sub" / "second" / "report.html").read_bytes()
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_an_image_is_the_test_image_at_that_position(full: Workbench) -> None:
    folder = full.runs / "first"
    predictions = load_predictions(folder / "predictions.safetensors")
    images = load_splits("digits", read_run(folder).recipe.data).test
    position = len(predictions) - 1
    answer = client_of(full).get(f"/image/{position}/first")
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    place = images.ids.tolist().index(str(predictions.ids[position]))
    assert np.array_equal(shown, images.pixels[place].transpose(1, 2, 0))


@pytest.mark.parametrize("position", ["-1", "99999", "nan", "1e3"])
def test_an_invalid_position_is_not_found(full: Workbench, position: str) -> None:
    assert client_of(full).get(f"/image/{position}/first").status_code in (404, 422)


def test_maps_of_the_predicted_and_of_the_true_class_fit_the_image(full: Workbench) -> None:
    client = client_of(full)
    predictions = load_predictions(full.runs / "first" / "predictions.safetensors")
    mistake = int(np.flatnonzero(predictions.logits.argmax(1) != predictions.labels)[0])
    image = client.get(f"/image/{mistake}/first").content
    shape = np.asarray(Image.open(io.BytesIO(image))).shape[:2]
    found = {
        of: client.get(f"/map/{mistake}/first?of={of}").content for of in ("predicted", "true")
    }
    assert found["predicted"] != found["true"]
    for of, content in found.items():
        assert np.asarray(Image.open(io.BytesIO(content))).shape == (*shape, 4)
        # tests/serving/test_run_images.py compares these with the maps of `explain_page`.
        assert content == class_map_png(full, "first", mistake, of)
    assert client.get("/map/3/first?of=else").status_code == 422


def test_files_of_an_answer_that_was_forgotten_say_what_to_do(full: Workbench) -> None:
    app = FastAPI()
    app.include_router(files.routes(full))
    answer = TestClient(app).get("/explain/answers/0123456789abcdef/photo")
    assert answer.status_code == 404
    assert answer.text == "This file is no longer available: explain the image again."
