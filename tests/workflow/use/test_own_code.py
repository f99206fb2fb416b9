import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.errors import ModelError, UsageError
from glasshouse.models.classifier import Classifier
from glasshouse.storage import write_tensors
from glasshouse.workflow.use.own_code import own_classifier, parse_own_code

CODE = """
from dataclasses import dataclass
import torch
from torch import nn
import part_of_own_code
import glasshouse as gh

def small(num_classes=3, width=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, num_classes),
    )

def whole():
    return gh.Classifier(small(2), gh.Preprocessing(9, 9, mean=(.5, .5, .5)), ("cat", "dog"))

@dataclass
class Sizes:
    width: int = 4

ready = small(2, Sizes().width)

def failing():
    return nn.Linear(3, undefined)

def leaving():
    raise SystemExit("no GPU")

def wrong():
    return 3
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_nets.py").write_text(CODE)
    (tmp_path / "part_of_own_code.py").write_text("")
    monkeypatch.chdir(tmp_path)
    for name in ("own_nets", "part_of_own_code"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "own_nets.py"


def expected_net(count: int, width: int = 4) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(width, count),
        ).eval()  # fmt: skip


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("is_file", [True, False])
def test_code_is_found_in_a_file_and_in_a_module(place: Path, is_file: bool) -> None:
    path = list(sys.path)
    text = f"{place if is_file else 'own_nets'}:small:width=6,input_size=9,mean=0.4,0.5,0.6,std=0.2"
    found, _ = own_classifier(text, class_names=("a", "b", "c", "d"))
    values = torch.from_numpy(image()).permute(2, 0, 1)[None] / 255
    inputs = (values - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / 0.2
    logits = expected_net(4, 6)(inputs).detach()
    assert np.allclose(found.predict(image()).logits, logits, atol=1e-5)
    assert found.class_names == ("a", "b", "c", "d")
    # Importable only while the network was built.
    assert sys.path == path


def test_weights_of_a_file_replace_those_of_the_code(place: Path) -> None:
    net = expected_net(3)
    with torch.no_grad():
        net[4].bias.add_(torch.tensor([9.0, 0, 0]))  # type: ignore[operator]
    write_tensors(Path("own.safetensors"), net.state_dict(), {})
    found, notes = own_classifier(f"{place}:small:input_size=9", weights=Path("own.safetensors"))
    assert found.predict(image()).names == ("class 0",)
    assert not any("without --weights" in note for note in notes)
    assert any("values from 0 to 1" in note for note in notes)
    _, notes = own_classifier(f"{place}:small:input_size=9")
    assert any("without --weights" in note for note in notes)


def test_a_function_may_return_a_classifier_and_a_name_may_be_a_network(place: Path) -> None:
    found, notes = own_classifier(f"{place}:whole")
    assert isinstance(found, Classifier) and found.class_names == ("cat", "dog") and not notes
    assert found.preprocessing.height == 9 and found.preprocessing.mean == (0.5, 0.5, 0.5)
    ready, _ = own_classifier(f"{place}:ready:input_size=9", class_names=("x", "y"))
    assert ready.class_names == ("x", "y")
    renamed, notes = own_classifier(f"{place}:whole", class_names=("puss", "pup"))
    assert renamed.class_names == ("puss", "pup")
    assert notes == (f"the classes of {place}:whole are renamed: cat is puss, dog is pup",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("own_nets.py", "expected FILE.py:FUNCTION"),
        ("own_nets.py:2", "expected FILE.py:FUNCTION"),
        ("none.py:small", "the file none.py does not exist"),
        ("none.such:small", "there is no module none, neither in"),
        ("own_nets.py:smal", "no function smal. Did you mean 'small'?"),
        ("own_nets.py:small", "how large are its images.*input_size=224"),
        ("own_nets.py:small:wide=3,input_size=9", "has no argument wide"),
        ("own_nets.py:small:input_size=no", "expected a number of pixels"),
        ("own_nets.py:small:input_size=9,std=0", "std=0: expected a number"),
        ("own_nets.py:small:input_size=9,mean=1,2", "mean=1,2: expected a number, or three"),
    ],
)
def test_what_does_not_name_code_is_refused(place: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        own_classifier(text)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("failing", r"failed: NameError: name 'undefined' is not defined \(own_nets.py, line 25\)"),
        ("leaving", r"failed: SystemExit: no GPU \(own_nets.py, line 28\)"),
        ("wrong", "returned an int: expected a torch.nn.Module"),
        ("small:width=0.5,input_size=9", "failed: ValueError: out_channels"),
    ],
)
def test_code_that_fails_is_named_with_its_line(place: Path, function: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        own_classifier(f"{place}:{function}")


def test_code_that_cannot_be_imported_is_named_with_its_line(place: Path) -> None:
    place.write_text("import torch\nimport no_such_module\n")
    with pytest.raises(ModelError, match=r"cannot be imported: ModuleNotFoundError.*line 2"):
        own_classifier(f"{place}:small")


def test_a_drive_of_windows_is_part_of_the_place() -> None:
    code = parse_own_code(r"C:\nets\own.py:small:input_size=9")
    assert (code.place, code.function, code.input_size) == (r"C:\nets\own.py", "small", 9)
