import argparse
import copy
import gzip
import pickle
import shlex
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from glasshouse.errors import GlasshouseWarning, ModelError
from glasshouse.models.weight_files import read_weights


def _state(classes: int = 3) -> dict[str, Tensor]:
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, classes))
    return {key: torch.rand(v.shape) for key, v in net.state_dict().items()}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".th"])
def test_both_kinds_of_files_are_read(tmp_path: Path, suffix: str) -> None:
    state, path = _state(), tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    weights, notes = read_weights(path)
    assert notes == ()
    assert all(torch.equal(weights[key], value) for key, value in state.items())


def test_the_old_format_of_torch_is_read(tmp_path: Path) -> None:
    torch.save(_state(), tmp_path / "old.th", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "old.th")[0].keys() == _state().keys()


@pytest.mark.parametrize(
    "wrapper", ["state_dict", "model", "net", "weights", "state_dict_ema", "model_ema", "params"]
)
def test_the_weights_of_a_checkpoint_are_found(tmp_path: Path, wrapper: str) -> None:
    state, path = _state(), tmp_path / "w.pt"
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save(
        {"epoch": 3, wrapper: state, "optimizer": optimizer, "best": torch.tensor(0.9)}, path
    )
    weights, notes = read_weights(path)
    assert all(torch.equal(weights[key], value) for key, value in state.items())
    assert notes == (f"the weights were read from '{wrapper}' in w.pt",)


def test_weights_under_an_unknown_key_are_found_at_any_depth(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "run": {"best": _state()}}, tmp_path / "w.pt")
    weights, notes = read_weights(tmp_path / "w.pt")
    assert weights.keys() == _state().keys()
    assert notes == ("the weights were read from 'run/best' in w.pt",)


def test_usual_weights_are_taken_before_averaged_ones_and_it_is_said(tmp_path: Path) -> None:
    averaged = {key: value + 1 for key, value in _state().items()}
    torch.save({"model_ema": averaged, "model": (state := _state())}, tmp_path / "w.pt")
    with pytest.warns(
        GlasshouseWarning, match="of 'model' are taken, not those of model_ema"
    ) as said:
        weights, (note,) = read_weights(tmp_path / "w.pt")
    assert torch.equal(weights["0.weight"], state["0.weight"])
    assert note == "the weights were read from 'model' in w.pt"
    weights, _ = read_weights(_follow(str(said[0].message), tmp_path))
    assert torch.equal(weights["0.weight"], averaged["0.weight"])


def test_what_is_no_tensor_is_left_out_with_a_note(tmp_path: Path) -> None:
    torch.save({**_state(), "epoch": 3}, tmp_path / "w.pt")
    weights, notes = read_weights(tmp_path / "w.pt")
    assert weights.keys() == _state().keys()
    assert notes == ("epoch in w.pt are no tensors, and were left out",)


@pytest.mark.parametrize("name", ["w.pth.tar", "w.PTH", "w", "w.safetensors", "w.anything"])
@pytest.mark.parametrize("is_old", [False, True], ids=["zip", "before zip"])
def test_the_content_decides_the_format_of_a_torch_file(
    tmp_path: Path, name: str, is_old: bool
) -> None:
    torch.save(_state(), tmp_path / name, _use_new_zipfile_serialization=not is_old)
    assert read_weights(tmp_path / name)[0].keys() == _state().keys()


@pytest.mark.parametrize("name", ["w.pth", "w.SAFETENSORS", "w"])
def test_the_content_decides_that_a_file_is_safetensors(tmp_path: Path, name: str) -> None:
    save_file(_state(), tmp_path / name)
    assert read_weights(tmp_path / name)[0].keys() == _state().keys()


def _follow(message: str, folder: Path) -> Path:
    """Run what the command that a message ends with runs; the file that it writes."""
    program, option, code = shlex.split(message[message.index("python -c") :])
    assert (program, option) == ("python", "-c")
    exec(code, {})
    (written,) = folder.glob("*-weights.pt")
    return written


def _script(path: Path) -> None:
    torch.jit.trace(nn.Sequential(nn.Linear(4, 5)), torch.zeros(1, 4)).save(path)  # type: ignore[no-untyped-call]


def _export(path: Path) -> None:
    torch.export.save(
        torch.export.export(nn.Sequential(nn.Linear(4, 5)), (torch.zeros(1, 4),)), path
    )


def _arrays(path: Path) -> None:
    torch.save({"model": {key: v.numpy() for key, v in _NET.state_dict().items()}}, path)


_NET = nn.Sequential(nn.Linear(4, 5))


class _Learner:
    """As fastai's: the network is one of its attributes, and a loss another."""

    def __init__(self) -> None:
        self.loss, self.model = nn.CrossEntropyLoss(), _NET


def _last_of_ultralytics(path: Path) -> None:
    torch.save({"epoch": 3, "model": None, "ema": _NET, "train_args": {"model": "x.yaml"}}, path)


def _weights_and_loss(path: Path) -> None:
    torch.save({"model": _NET.state_dict(), "loss": nn.CrossEntropyLoss()}, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("save", "words"),
    [
        (_script, "a TorchScript network"),
        (_export, r"a network of torch\.export"),
        (lambda path: torch.save(_NET, path), r"a whole network \(torch\.nn\.modules\.container"),
        (lambda path: torch.save({"model": _NET, "epoch": 1}, path), "a whole network"),
        (
            lambda path: torch.save(_NET, path, _use_new_zipfile_serialization=False),
            "a whole network",
        ),
        (
            lambda path: torch.save(
                {"state_dict": _NET.state_dict(), "args": argparse.Namespace()}, path
            ),
            r"more than tensors \(argparse\.Namespace\)",
        ),
        (lambda path: path.write_bytes(pickle.dumps(_NET.state_dict())), "more than tensors"),
        (_arrays, "arrays of NumPy"),
        (_last_of_ultralytics, "a whole network"),
        (_weights_and_loss, r"a whole network \(torch\.nn\.modules\.loss"),
        (lambda path: torch.save(_Learner(), path), r"a whole network \(.*_Learner\)"),
        (lambda path: torch.save({"best": _NET, "loss": nn.CrossEntropyLoss()}, path), "whole"),
    ],
    ids=[
        "script",
        "export",
        "whole",
        "whole in a dict",
        "whole, old",
        "arguments",
        "pickle",
        "arrays",
        "no model, but an average",
        "weights and a loss",
        "an object with the network",
        "another key",
    ],
)
def test_what_is_not_only_weights_is_refused_with_a_command_that_works(
    tmp_path: Path, save: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "net.of.others.pt"
    save(path)
    with pytest.raises(ModelError, match=words) as caught:
        read_weights(path)
    weights, _ = read_weights(_follow(str(caught.value), tmp_path))
    assert {key: tuple(value.shape) for key, value in weights.items()} == {
        "0.weight": (5, 4), "0.bias": (5,)
    }  # fmt: skip


def test_of_several_sets_of_weights_one_is_saved_by_the_command(tmp_path: Path) -> None:
    other = {key: value + 1 for key, value in _state().items()}
    torch.save({"generator": (state := _state()), "critic": other, "epoch": 1}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="its keys are generator, critic, epoch") as caught:
        read_weights(tmp_path / "w.pt")
    weights, _ = read_weights(_follow(str(caught.value), tmp_path))
    assert torch.equal(weights["0.weight"], state["0.weight"])


class _Marker:
    """Represents code that a file would run when it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("pwned"),)


def test_a_file_with_code_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": _Marker()}, "evil.pt")
    with pytest.raises(ModelError, match="more than tensors"):
        read_weights(Path("evil.pt"))
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.safetensors", b"nonsense", "damaged or no weights file.*Expected a safetensors file"),
        ("w.pt", b"nonsense", "damaged or no weights file"),
        ("w.pt", b"", "damaged"),
        ("w.h5", b"\x89HDF\r\n", "HDF5 file.*Expected a safetensors file, or the state_dict"),
        ("w.pt", b"<!DOCTYPE html>", "a web page, not the file: download it again"),
        ("w.pt", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("w.pt.gz", gzip.compress(b"weights", mtime=0), "compressed by gzip: unpack it first"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_weights(tmp_path / name)
    assert name in str(caught.value)


def test_a_file_without_names_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="no named tensors"):
        read_weights(tmp_path / "list.pt")
    with pytest.raises(ModelError, match=r"weights file .* does not exist"):
        read_weights(tmp_path / "none.pt")


def test_a_tar_archive_and_a_zip_file_without_weights_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "w.pth.tar", "w") as archive:
        archive.add(__file__, "inner.pth")
    with pytest.raises(ModelError, match="a tar archive: unpack it"):
        read_weights(tmp_path / "w.pth.tar")
    with zipfile.ZipFile(tmp_path / "w.keras", "w") as packed:
        packed.writestr("config.json", "{}")
    with pytest.raises(ModelError, match="a zip file without weights of torch"):
        read_weights(tmp_path / "w.keras")


def test_for_a_folder_a_file_in_it_is_suggested(tmp_path: Path) -> None:
    save_file(_state(), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"is a folder: .* such as model\.safetensors"):
        read_weights(tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("is_torch", [True, False])
def test_a_truncated_file_is_damaged(tmp_path: Path, share: float, is_torch: bool) -> None:
    path = tmp_path / "w"
    torch.save(_state(), path) if is_torch else save_file(_state(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match="damaged"):
        read_weights(path)


def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(4 << 20)}, tmp_path / "plain.pt")
    small = tmp_path / "small.pt"
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    assert small.stat().st_size < 1 << 17
    with pytest.raises(ModelError, match=r"small\.pt is compressed.*small file could fill"):
        read_weights(small)


def test_a_file_whose_entries_share_their_bytes_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "shared.pt", "w") as archive:
        archive.writestr("shared/data/0", bytes(1 << 16))
        for number in range(1, 100):
            again = copy.copy(archive.filelist[0])
            again.filename = f"shared/data/{number}"
            archive.filelist.append(again)
    with pytest.raises(ModelError, match="a small file could fill the memory"):
        read_weights(tmp_path / "shared.pt")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(1).expand(1 << 30, 4), "1073741824x4 values, but the file has fewer"),
        (torch.empty(1 << 30, device="meta"), "weight is on the meta device"),
        (torch.eye(3).to_sparse(), r"weight is sparse_coo: save .* its to_dense\(\) returns"),
    ],
    ids=["one value for all", "no values", "sparse"],
)
@pytest.mark.parametrize("is_old", [False, True], ids=["zip", "before zip"])
def test_tensors_without_their_values_are_refused(
    tmp_path: Path, tensor: Tensor, words: str, is_old: bool
) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"weight": tensor}, path, _use_new_zipfile_serialization=not is_old)
    with pytest.raises(ModelError, match=words):
        read_weights(path)


def test_weights_that_layers_share_are_read(tmp_path: Path) -> None:
    shared = torch.rand(3, 4)
    torch.save({"first": shared, "second": shared, "part": shared[1:]}, tmp_path / "w.pt")
    weights, _ = read_weights(tmp_path / "w.pt")
    assert torch.equal(weights["second"], shared) and torch.equal(weights["part"], shared[1:])
