import json
from pathlib import Path
from typing import Any

import pytest
import torch

from glasshouse.storage import write_tensors
from glasshouse.workflow.compare.reproduce import FileComparison, _same_json, _same_tensors

WEIGHTS = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0]])}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("before", "now"):
        (tmp_path / name).mkdir()
    return tmp_path / "before", tmp_path / "now"


@pytest.mark.parametrize(
    ("now", "metadata", "said"),
    [
        ({**WEIGHTS, "a": torch.tensor([1.0, 2.5])}, {}, "1 of 2 tensors differ, by 0.5 at most"),
        ({**WEIGHTS, "a": torch.tensor([1.0, torch.nan])}, {}, "1 of 2 tensors differ, by nan"),
        ({**WEIGHTS, "b": torch.tensor([3.0])}, {}, "different shapes: b"),
        ({**WEIGHTS, "b": torch.tensor([[3]])}, {}, "different types: b"),
        ({"a": WEIGHTS["a"]}, {}, "different tensors: b"),
        (WEIGHTS, {"key": 2}, "key was 1 and is now 2"),
        (WEIGHTS, {}, "the same tensors, but written in another way"),
    ],
)
def test_the_difference_of_two_files_of_tensors_is_named(
    folders: tuple[Path, Path], now: dict[str, torch.Tensor], metadata: dict[str, int], said: str
) -> None:
    before, again = folders
    write_tensors(before / "w", WEIGHTS, {"key": 1})
    write_tensors(again / "w", now, {"key": 1, **metadata})
    # As another library might write it: with spaces behind the header.
    data = (again / "w").read_bytes()
    length = int.from_bytes(data[:8], "little")
    padded = (length + 8).to_bytes(8, "little") + data[8 : 8 + length] + b" " * 8
    (again / "w").write_bytes(padded + data[8 + length :])
    found = _same_tensors(before, again, "w")
    assert not found.agrees and said in found.detail


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"a": [1, {"b": 2.5}], "c": 1}, "a[1].b was 2 and is now 2.5"),
        ({"a": [1, {"b": 2.0}], "c": 1}, "a[1].b was 2 and is now 2.0"),
        ({"a": [1, {"b": 2}], "c": True}, "c was 1 and is now True"),
        ({"c": 1, "a": [1, {"b": 2}]}, "top level: the same values in another order"),
        ({"a": [1], "c": 1}, "a: 2 entries before, 1 now"),
        ({"a": [1, {"b": 2}]}, "top level: different keys: c"),
    ],
)
def test_the_first_difference_of_two_json_files_is_named(
    folders: tuple[Path, Path], now: dict[str, Any], said: str
) -> None:
    before, again = folders
    (before / "e").write_text(json.dumps({"a": [1, {"b": 2}], "c": 1}))
    (again / "e").write_text(json.dumps(now))
    assert _same_json(before, again, "e") == FileComparison("e", False, said)


def test_nan_equals_nan(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        (folder / "e").write_text('{"loss": NaN, "epochs": 1}')
    (folders[1] / "e").write_text('{"epochs": 1, "loss": NaN}')
    found = _same_json(*folders, "e")
    assert found.detail == "top level: the same values in another order"
