import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from glasshouse.errors import ModelError
from glasshouse.models.weight_files import read_weights

STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2), "b.weight": torch.full((4,), 5.0)}


@pytest.fixture(params=["safetensors", "bin"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    stem = "model" if request.param == "safetensors" else "pytorch_model"
    names = [f"{stem}-0000{number}-of-00002.{request.param}" for number in (1, 2)]
    parts: list[dict[str, Tensor]] = [{k: STATE[k] for k in ("a.weight", "a.bias")}]
    parts.append({"b.weight": STATE["b.weight"]})
    for name, part in zip(names, parts, strict=True):
        if request.param == "safetensors":
            save_file(part, tmp_path / name)
        else:
            torch.save(part, tmp_path / name)
    listed = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    path = tmp_path / f"{stem}.{request.param}.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}))
    return path


def test_the_files_of_an_index_are_read(index: Path) -> None:
    weights, notes = read_weights(index)
    assert weights.keys() == STATE.keys()
    assert all(torch.equal(weights[key], value) for key, value in STATE.items())
    assert notes == ("the weights were read from 2 files",)


def test_one_of_several_files_is_told_its_index(index: Path) -> None:
    first = min(index.parent.glob("*-00001-of-*"))
    with pytest.raises(ModelError, match=f"name their index, {index}"):
        read_weights(first)
    index.unlink()
    with pytest.raises(ModelError, match=f"put all of them and {index.name} into one folder"):
        read_weights(first)


def test_an_index_without_its_files_or_tensors_is_refused(index: Path) -> None:
    second = min(index.parent.glob("*-00002-of-*"))
    content = json.loads(index.read_text())
    index.write_text(json.dumps({"weight_map": {**content["weight_map"], "c": second.name}}))
    with pytest.raises(ModelError, match=rf"{second.name} has c, but it has not"):
        read_weights(index)
    second.unlink()
    with pytest.raises(ModelError, match="which is missing: put it next to the index"):
        read_weights(index)


def test_an_index_reads_no_other_folder_and_other_json_is_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"weight_map": {"a": "../secret.bin"}}))
    with pytest.raises(ModelError, match="expected files next to it"):
        read_weights(path)
    path.write_text('{"weight_map": 3}')
    with pytest.raises(ModelError, match="damaged or no weights file"):
        read_weights(path)
