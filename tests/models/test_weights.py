import copy
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from glasshouse.errors import ModelError
from glasshouse.models.weights import load_weights, read_weights


def _net(classes: int = 3) -> Any:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, classes))


def _state(classes: int = 3) -> dict[str, Tensor]:
    return {key: torch.rand(v.shape) for key, v in _net(classes).state_dict().items()}


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


def test_wrappers_and_prefixes_are_removed_with_a_note(tmp_path: Path) -> None:
    inner = {f"module.{key}": value for key, value in _state().items()}
    torch.save({"epoch": 3, "state_dict": inner}, tmp_path / "w.pt")
    weights, notes = read_weights(tmp_path / "w.pt")
    assert weights.keys() == _state().keys()
    assert notes == (
        "the weights were read from 'state_dict' in w.pt",
        "'module.' was removed from each key of w.pt",
    )


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
        ("w.safetensors", b"nonsense", "not a safetensors file"),
        ("w.pt", b"nonsense", "more than tensors|damaged"),
        ("w.pt", b"", "damaged"),
        ("w.h5", b"", "expected a weights file of type .safetensors"),
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


def test_weights_are_copied_in_the_precision_of_the_net() -> None:
    net, state = _net(), {key: value.half() for key, value in _state().items()}
    assert load_weights(net, state, "file") == ()
    assert net[0].weight.dtype == torch.float32
    assert torch.equal(net[0].weight, state["0.weight"].float())


def test_keys_that_do_not_fit_are_named_and_the_net_is_left_alone() -> None:
    net, state = _net(), _state()
    before = net[2].weight.clone()
    state["more"] = state.pop("0.bias")
    state["0.weight"] = torch.zeros(5, 7)
    with pytest.raises(ModelError) as caught:
        load_weights(net, state, "file.pt")
    message = str(caught.value)
    for part in (
        "file.pt",
        "missing: 0.bias",
        "unexpected: more",
        "0.weight is 5x7, expected 5x4",
    ):
        assert part in message
    assert torch.equal(net[2].weight, before)


def test_only_the_first_keys_are_listed() -> None:
    with pytest.raises(ModelError, match=r"missing: 0\.weight, 0\.bias, 1\.weight, and 5 more"):
        load_weights(_net(), {}, "file")


def test_a_head_for_other_classes_keeps_its_own_values() -> None:
    net, state = _net(3), _state(9)
    own = net[2].weight.clone()
    notes = load_weights(net, state, "file", replaceable=("2.weight", "2.bias"))
    assert notes == ("the head was replaced and is untrained (9 -> 3 classes): 2.weight, 2.bias",)
    assert torch.equal(net[2].weight, own)
    assert torch.equal(net[0].weight, state["0.weight"])


def test_a_head_that_is_not_in_the_file_is_noted() -> None:
    state = {key: value for key, value in _state().items() if not key.startswith("2.")}
    notes = load_weights(_net(), state, "file", replaceable=("2.weight", "2.bias"))
    assert "the file has no head" in notes[0]


def test_old_files_without_counters_are_taken() -> None:
    state = _state()
    del state["1.num_batches_tracked"]
    assert load_weights(_net(), state, "file") == ()


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
        (torch.empty(1 << 30, device="meta"), "of another kind"),
        (torch.eye(3).to_sparse(), "of another kind"),
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
