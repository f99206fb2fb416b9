"""A file or a command line cannot make a library run, load or download anything."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from glasshouse.errors import ModelError
from glasshouse.models.classifier import load_classifier, save_classifier
from glasshouse.models.net_arguments import parsed_arguments, require_shaping, split_name
from glasshouse.models.pretrained import build_net
from glasshouse.models.zoo import create
from glasshouse.settings import PretrainedSettings

HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("mobilenetv2_035", {"checkpoint_path": "evil/x.pth"}),
    ("mobilenetv2_035", {"pretrained": True}),
    ("mobilenetv2_035", {"pretrained_cfg": {"file": "evil/x.pth"}}),
    ("mobilenetv2_035", {"pretrained_cfg_overlay": {"url": "http://127.0.0.1:9/x.pth"}}),
    ("mobilenetv2_035", {"cache_dir": "evil"}),
    ("mobilenetv2_035", {"features_only": True}),
    ("torchvision/squeezenet1_0", {"weights": "IMAGENET1K_V1"}),
    ("torchvision/squeezenet1_0", {"pretrained": True}),
    ("torchvision/googlenet", {"weights_backbone": "IMAGENET1K_V1"}),
]


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return Path.write_text, (Path("executed"), "x")  # type: ignore[return-value]


@pytest.mark.parametrize(("name", "arguments"), HOSTILE)
def test_an_argument_that_does_not_shape_the_network_is_refused(
    name: str, arguments: dict[str, Any]
) -> None:
    (key,) = arguments
    with pytest.raises(ModelError, match=f"'{key}' cannot be set. Expected an argument that sh"):
        build_net(name, 2, arguments)
    with pytest.raises(ModelError, match=f"'{key}' cannot be set"):
        create(name, ("a", "b"), weights="none", arguments=arguments)


def test_a_name_with_arguments_is_held_to_the_same_list() -> None:
    with pytest.raises(ModelError, match="'checkpoint_path' cannot be set"):
        create("mobilenetv2_035:checkpoint_path=evil.pth", ("a", "b"), weights="none")


def test_a_saved_model_runs_nothing_and_reads_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    classifier = create("mobilenetv2_035", ("a", "b"), weights="none").classifier
    save_classifier(classifier, tmp_path / "run")
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Evil()))
    record = json.loads((tmp_path / "run" / "model.json").read_text())
    for arguments in ({"checkpoint_path": "x.pth"}, {"pretrained": True}):
        record["architecture"]["arguments"] = arguments
        (tmp_path / "run" / "model.json").write_text(json.dumps(record))
        with pytest.raises(ModelError, match="cannot be set"):
            load_classifier(tmp_path / "run")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "value", ["../x", "a.pth", "http://a", "a:b", {"a": 1}, [["a/b"]], "a" * 40]
)
def test_values_are_numbers_plain_words_and_lists_of_them(value: object) -> None:
    with pytest.raises(ModelError, match=r"act_layer=.* is refused; expected a number"):
        require_shaping("resnet18", {"act_layer": value})


def test_usual_arguments_pass() -> None:
    given = {"pad_type": "same", "drop_rate": 0.1, "aux_logits": False, "layers": [2, [2, None]]}
    require_shaping("resnet18", given)
    require_shaping("resnet18", PretrainedSettings(name="resnet18").arguments)


def test_a_similar_name_is_suggested() -> None:
    with pytest.raises(ModelError, match="Did you mean 'pad_type'"):
        require_shaping("resnet18", {"pad_typ": "same"})


def test_wrong_values_are_named_whatever_the_constructor_raises() -> None:
    with pytest.raises(ModelError, match="cannot be built with"):
        build_net("timm/resnet18", 2, {"layers": 3})


def test_several_values_of_one_key_are_a_list() -> None:
    found = parsed_arguments("net:...", "mean=0.485,0.456,0.406,pad_type=same,width=2,std=0.5")
    assert found == {"mean": [0.485, 0.456, 0.406], "pad_type": "same", "width": 2, "std": 0.5}
    with pytest.raises(ModelError, match=r"received '0\.4' after the colon"):
        parsed_arguments("net:0.4", "0.4")


def test_arguments_may_follow_the_name() -> None:
    assert split_name("a:pad_type=same,drop_rate=0.2", {"x": 1}) == (
        "a",
        {"x": 1, "pad_type": "same", "drop_rate": 0.2},
    )
    assert split_name("a", {}) == ("a", {})
    with pytest.raises(ModelError, match="expected NAME:key=value, received 'pad_type'"):
        split_name("a:pad_type", {})
