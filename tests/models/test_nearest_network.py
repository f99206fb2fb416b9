from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glasshouse.models.nearest_network import describe_nearest, file_as_model
from glasshouse.models.pretrained import build_net
from glasshouse.models.zoo import create


def _weights(name: str, classes: int = 3, **arguments: int) -> dict[str, Tensor]:
    return build_net(name, classes, arguments).state_dict()


@pytest.mark.parametrize(
    ("of", "arguments", "given", "advised"),
    [
        ("squeezenet1_1", {}, "squeezenet1_0", "squeezenet1_1"),
        ("test_vit", {}, "squeezenet1_0", "test_vit"),
        ("convnext_atto", {}, "resnet18", "convnext_atto"),
        ("resnet50d", {}, "resnet50c", "resnet50d"),
        ("test_vit", {"img_size": 256}, "resnet18", "test_vit:img_size=256"),
        ("regnetz_b16", {"in_chans": 1}, "resnet18", "regnetz_b16:in_chans=1"),
    ],
)  # fmt: skip
def test_the_advised_name_loads_the_file(
    tmp_path: Path, of: str, arguments: Mapping[str, int], given: str, advised: str
) -> None:
    path = tmp_path / "w.pt"
    weights = {f"module.{key}": value for key, value in _weights(of, **arguments).items()}
    torch.save(weights, path)
    words = describe_nearest(given, path.name, weights)
    assert words.startswith(f"All its tensors fit {advised}: use that name.")
    loaded = create(advised, weights=path).classifier.net.state_dict()
    values = [each for key, each in weights.items() if "num_batches" not in key]
    own = [each for key, each in loaded.items() if "num_batches" not in key]
    assert all(torch.equal(one, other) for one, other in zip(values, own, strict=True))


def test_names_of_equal_structure_are_said_the_one_of_the_file_first() -> None:
    weights = _weights("timm/efficientnet_b0")
    words = describe_nearest("resnet18", "tf_efficientnet_b0_aa-827b6e33.pth", weights)
    assert words.startswith("All its tensors fit tf_efficientnet_b0: use that name. ")
    assert "the same tensors, and may differ in preprocessing, padding" in words


def test_a_changed_network_is_named_with_what_can_be_done() -> None:
    weights = _weights("resnet18")
    del weights["layer4.1.bn2.weight"]
    words = describe_nearest("resnet34", "w.pt", weights)
    assert words.startswith("The nearest structure is resnet18: 99 of the 101 tensors have shapes")
    assert words.endswith("--net FILE.py:FUNCTION --weights w.pt.")


def test_weights_of_no_known_network_need_code() -> None:
    words = describe_nearest("squeezenet1_0", "w.pt", {"my.own.weight": torch.zeros(3, 3)})
    assert words.startswith("No network of torchvision or timm has a similar structure")


def test_a_weights_file_in_the_place_of_a_model_is_told_its_network(tmp_path: Path) -> None:
    path, photo = tmp_path / "w.pt", tmp_path / "photo.png"
    photo.write_bytes(b"\x89PNG")
    torch.save(_weights("squeezenet1_1"), path)
    words = str(file_as_model(path, None))
    assert f"add --weights {path}. All its tensors fit squeezenet1_1: use that name." in words
    assert "in the place of MODEL" in str(file_as_model(photo, path))
    assert file_as_model(photo, None) is None
