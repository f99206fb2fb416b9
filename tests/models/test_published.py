"""Weights downloaded from a local server, by the clients that download the published ones."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save

from glasshouse.errors import ModelError
from glasshouse.models import pretrained
from glasshouse.models.pretrained import build_net, usual_weights
from glasshouse.models.published import Published, fetch
from glasshouse.models.zoo import create

WEIGHTS = save(build_net("test_resnet", 7, {}, seed=5).state_dict())
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def served() -> Iterator[tuple[str, dict[str, bytes], list[str]]]:
    """An address, the files that it serves by path, and the requested ones."""
    files: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            if self.path in files:
                asked.append(self.path)
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if with_body:
                self.wfile.write(content or b"")

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", files, asked
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))


def _hub_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)


def test_a_plain_file_is_downloaded_once_with_progress(
    served: tuple[str, dict[str, bytes], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    address, files, asked = served
    digest = hashlib.sha256(WEIGHTS).hexdigest()[:8]
    files[f"/net-{digest}.safetensors"] = WEIGHTS
    published = Published("net", f"{address}/net-{digest}.safetensors")
    found = fetch(published, offline=False)
    assert found.read_bytes() == WEIGHTS
    assert "100%" in capsys.readouterr().err
    assert fetch(published, offline=True) == found
    assert len(asked) == 1


def test_a_file_that_is_not_the_one_that_its_name_says_is_refused(
    served: tuple[str, dict[str, bytes], list[str]],
) -> None:
    address, files, _ = served
    files["/net-00000000.safetensors"] = WEIGHTS
    published = Published("net", f"{address}/net-00000000.safetensors")
    with pytest.raises(ModelError, match=r"cannot be downloaded \(invalid hash.*save it as"):
        fetch(published, offline=False)
    assert not published.place.exists()


def test_a_name_without_a_digest_is_taken_as_it_is(
    served: tuple[str, dict[str, bytes], list[str]],
) -> None:
    address, files, _ = served
    files["/big-net.safetensors"] = WEIGHTS
    assert fetch(Published("net", f"{address}/big-net.safetensors"), offline=False).is_file()


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_the_hubs_files_arrive_in_its_own_cache_and_fill_the_net(
    served: tuple[str, dict[str, bytes], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
) -> None:
    address, files, asked = served
    content = WEIGHTS
    if file.endswith(".bin"):
        torch.save(build_net("test_resnet", 7, {}, seed=5).state_dict(), tmp_path / "w")
        content = (tmp_path / "w").read_bytes()
    repository = pretrained._timm_config("test_resnet").hf_hub_id
    files[f"/{repository}/resolve/main/{file}"] = content
    _hub_at(address, monkeypatch)
    found = usual_weights("test_resnet", offline=False)
    assert found.is_relative_to(tmp_path / "hf")
    assert usual_weights("test_resnet", offline=True) == found
    assert len(asked) == 1
    net = create("test_resnet", ("a", "b"), offline=True).classifier.net
    wanted = build_net("test_resnet", 7, {}, seed=5)
    assert torch.equal(net.state_dict()["conv1.0.weight"], wanted.state_dict()["conv1.0.weight"])


def test_offline_the_file_may_be_put_where_the_error_says(tmp_path: Path) -> None:
    for name in ("test_resnet", "resnet18"):
        with pytest.raises(ModelError, match="are not on this machine") as caught:
            usual_weights(name, offline=True)
        place = Path(str(caught.value).partition("save it as ")[2].partition(",")[0])
        assert place.is_relative_to(tmp_path / "hub")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(WEIGHTS)
        assert usual_weights(name, offline=True) == place
    assert create("test_resnet", tuple("abcdefg"), offline=True).notes == ()


def test_weight_names_of_the_original_authors_are_translated(tmp_path: Path) -> None:
    net = build_net("swin_tiny_patch4_window7_224", 5, {})
    state = dict(net.state_dict())
    # The files of the authors include tables that the network computes itself.
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49)
    (tmp_path / "w.safetensors").write_bytes(save(state))
    created = create(
        "swin_tiny_patch4_window7_224", tuple("abcde"), weights=tmp_path / "w.safetensors"
    )
    assert created.notes == ()
