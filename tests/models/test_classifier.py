import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.errors import ModelError
from glasshouse.models.architecture import architecture_of
from glasshouse.models.classifier import (
    WEIGHTS_FILE,
    Classifier,
    Preprocessing,
    load_classifier,
    save_classifier,
    saved_conformity,
)
from glasshouse.models.conformity import conformity_scores
from glasshouse.models.conformity_file import CONFORMITY_FILE
from glasshouse.models.layers import build
from glasshouse.settings import ModelSettings
from glasshouse.storage import read_tensors, sha256_of_file, write_tensors


@pytest.fixture
def classifier() -> Classifier:
    settings = ModelSettings(preset="tutorial-wide-bn")
    net = build(settings, 3, (3, 16, 16), seed=0)
    net(torch.rand(8, 3, 16, 16))  # moves the batch statistics away from their start
    preprocessing = Preprocessing(16, 16, "letterbox", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 0.9)
    preprocessing = replace(preprocessing, interpolation="bilinear", rounding="torchvision")
    architecture = architecture_of(settings, 3, (3, 16, 16))
    return Classifier(net, preprocessing, ("a", "ü", "c"), 1.5, architecture)


def test_a_saved_classifier_is_loaded_completely(classifier: Classifier, tmp_path: Path) -> None:
    save_classifier(classifier, tmp_path)
    again = load_classifier(tmp_path)
    assert replace(again, net=classifier.net) == classifier
    assert not any(module.training for module in again.net.modules())
    images = torch.rand(4, 3, 16, 16)
    assert torch.equal(again.net(images), classifier.net.eval()(images))


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_either_file_can_be_given_in_place_of_the_folder(
    classifier: Classifier, tmp_path: Path, name: str
) -> None:
    save_classifier(classifier, tmp_path)
    assert load_classifier(tmp_path / name).class_names == classifier.class_names


def test_equal_classifiers_give_equal_bytes(classifier: Classifier, tmp_path: Path) -> None:
    save_classifier(classifier, tmp_path / "first")
    save_classifier(load_classifier(tmp_path / "first"), tmp_path / "second")
    for name in ("model.json", "model.safetensors"):
        first, second = (tmp_path / folder / name for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_saving_leaves_the_net_as_it_was(classifier: Classifier, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in classifier.net.state_dict().items()}
    save_classifier(classifier, tmp_path)
    assert classifier.net.training
    assert all(torch.equal(v, before[k]) for k, v in classifier.net.state_dict().items())


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.second(self.first(images.mean((2, 3))))
        return answer


def test_a_custom_network_must_be_given(classifier: Classifier, tmp_path: Path) -> None:
    own = replace(classifier, net=_Tied(), architecture=None)
    save_classifier(own, tmp_path)
    with pytest.raises(ModelError, match=r"load_classifier\(folder, net="):
        load_classifier(tmp_path)
    again = load_classifier(tmp_path, net=_Tied())
    assert torch.equal(
        again.net.state_dict()["second.weight"], own.net.state_dict()["first.weight"]
    )


def test_another_net_is_refused_by_the_names_of_its_keys(
    classifier: Classifier, tmp_path: Path
) -> None:
    save_classifier(classifier, tmp_path)
    net = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(
        ModelError, match=r"2 missing: 0.weight, 0.bias; \d+ unexpected: batch_norm1"
    ):
        load_classifier(tmp_path, net=net)


def test_a_missing_tensor_is_named(classifier: Classifier, tmp_path: Path) -> None:
    save_classifier(classifier, tmp_path)
    weights, record = tmp_path / "model.safetensors", tmp_path / "model.json"
    tensors, _ = read_tensors(weights)
    del tensors["conv2.weight"]
    write_tensors(weights, tensors)
    values = json.loads(record.read_text())
    values["weights"]["sha256"] = sha256_of_file(weights)
    record.write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"1 missing: conv2\.weight"):
        load_classifier(tmp_path)


def test_other_weights_than_described_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    save_classifier(classifier, tmp_path)
    weights = tmp_path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256"):
        load_classifier(tmp_path)


def test_a_file_far_larger_than_the_network_is_refused_before_it_is_read(
    classifier: Classifier, tmp_path: Path
) -> None:
    save_classifier(classifier, tmp_path)
    # Sparse: it takes no room on the disk, but reading it would take minutes.
    os.truncate(tmp_path / WEIGHTS_FILE, 1 << 38)
    with pytest.raises(ModelError, match=r"is 274,878 MB, but its network has .* MB of weights"):
        load_classifier(tmp_path)


def test_a_net_with_other_state_than_tensors_is_refused(
    classifier: Classifier, tmp_path: Path
) -> None:
    class Extra(nn.Module):
        def get_extra_state(self) -> str:
            return "words"

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    with pytest.raises(ModelError, match="_extra_state of its state is not a tensor"):
        save_classifier(replace(classifier, net=Extra()), tmp_path)


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("class_names"), "class_names: it is missing"),
        (lambda record: record.update(temperature=-1), "temperature: expected more than 0"),
        (lambda record: record.update(format=2), "format"),
        (lambda record: record["preprocessing"].pop("height"), "preprocessing.height"),
        (lambda record: record["architecture"].pop("layers"), "does not describe a network"),
    ],
)
def test_a_broken_record_is_refused_by_its_key(
    classifier: Classifier,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    message: str,
) -> None:
    save_classifier(classifier, tmp_path)
    path = tmp_path / "model.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError, match=message):
        load_classifier(tmp_path)


def test_a_folder_without_a_model_is_reported(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model\.json"):
        load_classifier(tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        load_classifier(tmp_path / "nowhere")
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        load_classifier(tmp_path)
    save_classifier(classifier, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        load_classifier(tmp_path)


def test_half_precision_halves_the_file_and_is_loaded_as_float32(
    classifier: Classifier, tmp_path: Path
) -> None:
    save_classifier(classifier, tmp_path / "whole")
    save_classifier(classifier, tmp_path / "half", half=True)
    sizes = [(tmp_path / name / WEIGHTS_FILE).stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.62 * sizes[0]
    again = load_classifier(tmp_path / "half").net.state_dict()
    for name, value in classifier.net.state_dict().items():
        assert again[name].dtype == value.dtype
        torch.testing.assert_close(again[name], value, rtol=1e-3, atol=1e-6)


def test_the_text_of_a_classifier_is_one_line_even_with_a_lazy_layer() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.LazyLinear(2))
    text = repr(Classifier(net, Preprocessing(2, 2), ("a", "b")))
    assert text == "Classifier(Sequential with 47 parameters, 2 classes)"


@pytest.fixture
def calibrated(classifier: Classifier) -> Classifier:
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    scores = conformity_scores(
        shares, np.arange(50) % 3, temperature=classifier.temperature, source="a test"
    )
    return replace(classifier, conformity=scores)


def test_conformity_scores_are_saved_and_loaded(calibrated: Classifier, tmp_path: Path) -> None:
    save_classifier(calibrated, tmp_path)
    again = load_classifier(tmp_path)
    assert calibrated.conformity is not None and again.conformity is not None
    assert again.conformity.rule(0.9) == calibrated.conformity.rule(0.9)
    alone = saved_conformity(tmp_path)
    assert alone is not None and alone.rule(0.8, "aps") == again.conformity.rule(0.8, "aps")
    pixels = np.zeros((2, 16, 16, 3), dtype=np.uint8)
    found = again.prediction_sets([*pixels], coverage=0.8)
    assert [*found] == [*again.predict([*pixels]).prediction_sets(coverage=0.8)]


def test_a_classifier_without_scores_has_no_file_of_them(
    classifier: Classifier, tmp_path: Path
) -> None:
    save_classifier(classifier, tmp_path)
    assert not (tmp_path / CONFORMITY_FILE).exists()
    assert saved_conformity(tmp_path) is None


def test_scores_of_another_model_damaged_or_missing_ones_are_named(
    calibrated: Classifier, tmp_path: Path
) -> None:
    save_classifier(calibrated, tmp_path / "a")
    assert calibrated.conformity is not None
    other = replace(calibrated.conformity, source="another model")
    save_classifier(replace(calibrated, conformity=other), tmp_path / "b")
    path = tmp_path / "a" / CONFORMITY_FILE
    path.write_bytes((tmp_path / "b" / CONFORMITY_FILE).read_bytes())
    with pytest.raises(ModelError, match=r"conformity\.safetensors is not the file that"):
        load_classifier(tmp_path / "a")
    path.unlink()
    with pytest.raises(ModelError, match=r"conformity\.safetensors is missing"):
        load_classifier(tmp_path / "a")


def test_scores_of_another_temperature_are_refused(calibrated: Classifier, tmp_path: Path) -> None:
    save_classifier(calibrated, tmp_path)
    record = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**record, "temperature": 2.5}))
    with pytest.raises(ModelError, match="has the scores of another classifier"):
        load_classifier(tmp_path)


def test_scores_are_dropped_with_another_temperature(calibrated: Classifier) -> None:
    assert replace(calibrated, temperature=2.0).conformity is None
    assert replace(calibrated, thresholds=(0.5, 0.5, 0.5)).conformity is None


def test_the_name_of_code_in_the_place_of_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"net='nets.py:own': expected the network itself"):
        load_classifier(tmp_path, net="nets.py:own")  # type: ignore[arg-type]
