"""A folder of timm or transformers in the place of a model gets the words that load it."""

import json
import shlex
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_model
from timm.models import save_for_hf

from glasshouse.errors import UsageError
from glasshouse.models.known_names import EXAMPLE_PHOTO
from glasshouse.models.weights_folders import folder_as_model, why_no_weights
from glasshouse.workflow.use.model_names import classifier_by_name
from tests.journeys.command import glasshouse_here

NAMES = ("cat", "dog", "fox")


def test_a_folder_of_timm_names_its_network_and_the_command_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = timm.create_model("resnet10t", num_classes=3)
    save_for_hf(net, str(tmp_path / "of timm"), model_config={"label_names": NAMES})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is a folder of timm") as caught:
        classifier_by_name("of timm")
    words = shlex.split(str(caught.value).rpartition(": ")[2])
    assert words[0] == "resnet10t"
    code, output, errors = glasshouse_here(
        ["predict", *words, str(EXAMPLE_PHOTO), "--json"], capsys
    )
    assert code == 0, errors
    (answer,) = json.loads(output)
    assert {each["class"] for each in answer["top"]} == set(NAMES)


def test_a_folder_of_transformers_says_which_code_builds_its_network(tmp_path: Path) -> None:
    save_model(timm.create_model("resnet10t"), str(tmp_path / "model.safetensors"))
    config = {"architectures": ["ViTForImageClassification"], "image_size": 64, "id2label": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    levels = {"image_mean": [0.5, 0.4, 0.3], "image_std": 0.5}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(levels))
    error = str(folder_as_model(tmp_path))
    assert f'ViTForImageClassification.from_pretrained("{tmp_path}")' in error
    assert "--net nets.py:net:input_size=64,mean=0.5,0.4,0.3,std=0.5 --class-names" in error


def test_other_folders_are_no_folders_of_weights(tmp_path: Path) -> None:
    assert folder_as_model(tmp_path / "missing") is None
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    assert folder_as_model(tmp_path) is None
    (tmp_path / "config.json").write_text("[")
    (tmp_path / "model.safetensors").write_text("")
    assert folder_as_model(tmp_path) is None
    assert why_no_weights(tmp_path) == "is a folder: name a file in it, such as model.safetensors"
    assert why_no_weights(tmp_path / "missing") == "does not exist"
