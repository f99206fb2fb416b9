from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glasshouse.errors import GlasshouseWarning, ModelError
from glasshouse.models.backbone import backbone_of
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import load_classifier, save_classifier
from glasshouse.models.preprocessing import preprocess, scale
from glasshouse.models.pretrained import build_net, usual_class_names
from glasshouse.models.weight_files import read_weights
from glasshouse.models.weights import load_weights
from glasshouse.models.zoo import create
from glasshouse.settings import PretrainedSettings
from glasshouse.training.adapting import adapt
from tests.conftest import make_images

NAMES = ("ant", "bee")


def _file(folder: Path, name: str = "test_resnet", classes: int = 7) -> Path:
    path = folder / "weights.safetensors"
    state = build_net(name, classes, {}, seed=5).state_dict()
    save_file({key: value.half() if value.is_floating_point() else value
               for key, value in state.items()}, path)  # fmt: skip
    return path


def test_a_file_fills_the_backbone_and_the_head_is_replaced(tmp_path: Path) -> None:
    file = _file(tmp_path)
    created = create("test_resnet", NAMES, weights=file)
    assert "(7 -> 2 classes)" in created.notes[0]
    net, wanted = created.classifier.net, build_net("test_resnet", 7, {}, seed=5)
    ours, theirs = net.state_dict(), wanted.state_dict()
    assert torch.equal(ours["conv1.0.weight"], theirs["conv1.0.weight"].half().float())
    assert not net.training
    assert net(torch.rand(1, 3, 64, 64)).shape == (1, 2)


def test_the_head_of_the_file_is_kept_for_the_same_number_of_classes(tmp_path: Path) -> None:
    created = create("test_resnet", tuple("abcdefg"), weights=_file(tmp_path))
    assert created.notes == ()
    theirs = build_net("test_resnet", 7, {}, seed=5).state_dict()["fc.weight"]
    assert torch.equal(created.classifier.net.state_dict()["fc.weight"], theirs.half().float())


def test_without_weights_the_head_is_decided_by_the_seed() -> None:
    first, again, other = (
        create("test_resnet", NAMES, weights="none", seed=seed).classifier.net.state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(first["fc.weight"], again["fc.weight"])
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_without_class_names_the_usual_ones_are_taken() -> None:
    created = create("test_resnet", weights="none")
    assert created.classifier.class_names == usual_class_names("test_resnet", 1000)


def test_weights_of_another_net_are_refused_by_their_keys(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"weights\.safetensors does not match.*missing.*unexpected"
    ):
        create("test_vit", NAMES, weights=_file(tmp_path))


def test_a_created_classifier_is_saved_and_loaded(tmp_path: Path) -> None:
    name = "mobilenetv2_035:pad_type=same"
    classifier = create(name, NAMES, weights="none").classifier
    save_classifier(classifier, tmp_path)
    again = load_classifier(tmp_path)
    assert again.architecture == {
        "pretrained": "timm/mobilenetv2_035",
        "arguments": {"pad_type": "same"},
        "class_count": 2,
    }
    assert again.preprocessing == classifier.preprocessing
    images = torch.rand(1, 3, 33, 33)
    assert torch.equal(again.net(images), classifier.net(images))


def test_resnet50_takes_a_local_file_of_1000_classes(tmp_path: Path) -> None:
    file = _file(tmp_path, "resnet50", 1000)
    created = create("resnet50", NAMES, weights=file, offline=True)
    file.unlink()
    assert created.notes == (
        "the head was replaced by an untrained one (1000 -> 2 classes): fc.weight, fc.bias",
    )
    assert created.classifier.preprocessing.mean == (0.485, 0.456, 0.406)
    assert created.classifier.net(torch.rand(1, 3, 32, 32)).shape == (1, 2)


def test_auxiliary_heads_in_a_file_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    arguments = {"aux_logits": True}
    save_file(build_net("googlenet", 5, arguments).state_dict(), path)
    created = create("googlenet", tuple("abcde"), weights=path)
    assert created.notes == ("the auxiliary heads, which only training uses, were dropped",)


def test_a_bundled_model_is_a_backbone_for_other_classes() -> None:
    known, created = load_bundled("cifar10-small"), create("cifar10-small", NAMES)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    own = backbone_of(created.classifier.net)
    # The original network up to its head: all but the dense layer and the scaling behind it.
    theirs = known.net[:-2]  # type: ignore[index]
    assert torch.equal(own(images), theirs(images))
    assert created.classifier.net(images).shape == (2, 2)
    assert created.classifier.temperature == 1.0 and not created.classifier.mirror
    assert created.classifier.class_names == NAMES
    assert created.notes == (
        "The weights are those of cifar10-small, which comes with Glasshouse; its head is new.",
    )


def test_a_bundled_backbone_is_saved_and_loaded_at_any_size_of_images(tmp_path: Path) -> None:
    for size in (32, 48):
        settings = PretrainedSettings(name="cifar10-small", input_size=32)
        images = make_images(8, size=size)
        ours = adapt(settings, images, offline=True).classifier
        save_classifier(ours, tmp_path / str(size))
        again = load_classifier(tmp_path / str(size))
        batch = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
        assert torch.equal(again.net(batch), ours.net(batch))


def test_a_bundled_backbone_takes_no_other_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="comes with its weights"):
        create("cifar10-small", NAMES, weights=_file(tmp_path))
    with pytest.raises(ModelError, match="takes no other weights or arguments"):
        create("cifar10-small:width=2", NAMES)


@pytest.mark.filterwarnings("ignore:The network has one output")
def test_a_file_with_one_output_tells_two_classes_apart(tmp_path: Path) -> None:
    file = _file(tmp_path, classes=1)
    classifier = create("test_resnet", weights=file).classifier
    assert classifier.class_names == ("class 0", "class 1")
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    (shares,) = classifier.predict(image).probabilities
    save_classifier(classifier, tmp_path / "saved")
    again = load_classifier(tmp_path / "saved").predict(image).probabilities
    net = build_net("test_resnet", 1, {})
    load_weights(net, read_weights(file)[0], file)
    inputs = scale(torch.from_numpy(preprocess(image, classifier.preprocessing)[None]),
                   classifier.preprocessing)  # fmt: skip
    with torch.inference_mode():
        expected = float(net.eval()(inputs).sigmoid())
    assert shares.tolist() == pytest.approx([1 - expected, expected], abs=1e-6)
    assert again[0].tolist() == pytest.approx(shares.tolist())


def test_a_head_as_weight_norm_or_under_another_name_is_the_head(tmp_path: Path) -> None:
    state = build_net("test_resnet", 3, {}, seed=5).state_dict()
    weight, bias = state.pop("fc.weight"), state.pop("fc.bias")
    length = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    save_file(
        {**state, "fc.weight_g": length, "fc.weight_v": 2 * weight, "fc.bias": bias},
        tmp_path / "norm",
    )
    named = {f"body.{key}": value for key, value in state.items()}
    save_file({**named, "cls.weight": weight, "cls.bias": bias}, tmp_path / "named")
    first = create("test_resnet", weights=tmp_path / "norm").classifier.net.state_dict()
    with pytest.warns(GlasshouseWarning, match="parts were found by their tensors"):
        second = create("test_resnet", weights=tmp_path / "named").classifier.net.state_dict()
    for found in (first, second):
        assert torch.allclose(found["fc.weight"], weight) and torch.equal(found["fc.bias"], bias)
        assert torch.equal(found["conv1.0.weight"], state["conv1.0.weight"])


def test_a_quantised_head_is_not_called_missing(tmp_path: Path) -> None:
    state = build_net("test_resnet", 3, {}).state_dict()
    del state["fc.weight"], state["fc.bias"]
    save_file({**state, "fc.scale": torch.ones(1)}, tmp_path / "w")
    with pytest.raises(
        ModelError, match=r"has fc\.scale in the place of fc\.bias, as of a head that is"
    ):
        create("test_resnet", weights=tmp_path / "w")
