"""Weights that load without an error and predict wrongly, because their network needs arguments."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn

from glasshouse.data.decode import decode
from glasshouse.data.images import Splits
from glasshouse.errors import GlasshouseWarning
from glasshouse.models import argument_hints
from glasshouse.models.argument_hints import argument_hint, undecided_note, warn_of_arguments
from glasshouse.models.classifier import Classifier
from glasshouse.models.known_names import EXAMPLE_PHOTO
from glasshouse.models.preprocessing import preprocess, scale
from glasshouse.models.zoo import create
from glasshouse.settings import PretrainedSettings
from glasshouse.training.adapting import adapt
from glasshouse.workflow.train.announcement import what_was_read
from glasshouse.workflow.use.model_names import classifier_by_name

LEVELS = {"0.5": ((0.5,) * 3, (0.5,) * 3), "0..1": ((0.0,) * 3, (1.0,) * 3)}


def named(classifier: Classifier, key: str) -> Classifier:
    mean, std = LEVELS[key]
    return replace(classifier, preprocessing=replace(classifier.preprocessing, mean=mean, std=std))


@pytest.fixture(scope="module")
def usual() -> Classifier:
    """A network whose statistics were recorded on photos under its usual mean and std."""
    classifier = create("timm/resnet18", weights="none").classifier
    return recorded(classifier)


def recorded(classifier: Classifier) -> Classifier:
    photos = [decode(EXAMPLE_PHOTO), *load_sample_images().images]
    pixels = [torch.from_numpy(preprocess(photo, classifier.preprocessing)) for photo in photos]
    # Not the same views as those that the check itself takes.
    turned = torch.stack([*pixels, *[each.flip(-1) for each in pixels[:1]]])
    for module in classifier.net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        classifier.net.train()(scale(turned, classifier.preprocessing))
    classifier.net.eval()
    return classifier


def test_weights_under_the_right_normalisation_raise_no_doubt(usual: Classifier) -> None:
    assert argument_hint(usual, Path("resnet18.safetensors")) is None


@pytest.mark.parametrize("key", LEVELS)
def test_another_normalisation_than_the_recorded_one_is_told_with_the_arguments_that_fit(
    usual: Classifier, key: str
) -> None:
    hint = argument_hint(named(usual, key), Path("resnet18.safetensors"))
    assert hint is not None and "recorded under another mean and std" in hint
    # A bare name would be torchvision's network.
    assert hint.endswith("use timm/resnet18:mean=0.449,std=0.226")


@pytest.mark.parametrize("key", LEVELS)
def test_weights_recorded_under_another_normalisation_than_the_usual_one_are_told(key: str) -> None:
    other = recorded(named(create("timm/resnet18", weights="none").classifier, key))
    assert argument_hint(other, Path("w.pth")) is None
    usual = create("timm/resnet18", weights="none").classifier.preprocessing
    hint = argument_hint(replace(other, preprocessing=usual), Path("w.pth"))
    wanted = {"0.5": "mean=0.5,std=0.5", "0..1": "mean=0,std=1"}[key]
    assert hint is not None and hint.endswith(f"use timm/resnet18:{wanted}")


def test_untrained_statistics_say_nothing() -> None:
    classifier = create("timm/resnet18", weights="none").classifier
    assert argument_hint(named(classifier, "0..1"), Path("w.pth")) is None


@pytest.mark.parametrize(
    ("arguments", "key", "wanted"),
    [
        ({}, None, "mobilenetv2_100:pad_type=same,mean=0.5,std=0.5"),
        ({}, "0.5", "mobilenetv2_100:mean=0.5,std=0.5,pad_type=same"),
        ({"pad_type": "same"}, None, "mobilenetv2_100:pad_type=same,mean=0.5,std=0.5"),
        ({"pad_type": "same"}, "0.5", None),
    ],
)
def test_a_file_named_after_tensorflow_needs_its_padding_and_its_normalisation(
    arguments: dict[str, str], key: str | None, wanted: str | None
) -> None:
    classifier = create("mobilenetv2_100", weights="none", arguments=arguments).classifier
    classifier = classifier if key is None else named(classifier, key)
    hint = argument_hint(classifier, Path("mobilenetv2_100_tfsame.fp16.safetensors"))
    assert hint is None if wanted is None else hint is not None and hint.endswith(f"use {wanted}")


def test_the_config_of_timm_next_to_the_file_decides(tmp_path: Path) -> None:
    config = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    record = {"architecture": "tf_mobilenetv3_small_100", "pretrained_cfg": config}
    (tmp_path / "config.json").write_text(json.dumps(record))
    classifier = create("mobilenetv3_small_100", weights="none").classifier
    hint = argument_hint(classifier, tmp_path / "model.safetensors")
    assert hint is not None and "config.json" in hint
    assert hint.endswith("use tf_mobilenetv3_small_100")
    own = create("tf_mobilenetv3_small_100", weights="none").classifier
    assert argument_hint(own, tmp_path / "model.safetensors") is None
    config["mean"] = [0.0, 0.0, 0.0]
    (tmp_path / "config.json").write_text(json.dumps(record))
    hint = argument_hint(classifier, tmp_path / "model.safetensors")
    assert hint is not None and hint.endswith("use tf_mobilenetv3_small_100:mean=0,std=0.5")


def test_a_name_and_an_adapted_network_warn_of_the_weights_that_they_load(
    usual: Classifier, tmp_path: Path, tiny_splits: Splits
) -> None:
    path = tmp_path / "w.pth"
    torch.save(usual.net.state_dict(), path)
    wrong = {"weights": str(path), "mean": 0.5, "std": 0.5}

    def adapted(**more: Any) -> tuple[str, ...]:
        given = {"name": "timm/resnet18", "weights": str(path), "input_size": 64, **more}
        return adapt(PretrainedSettings.model_validate(given), tiny_splits.train).notes

    loads: list[Callable[[], Any]] = [
        lambda: classifier_by_name("timm/resnet18:mean=0.5,std=0.5", weights=path),
        lambda: classifier_by_name(f"timm/resnet18:weights={path},mean=0.5,std=0.5"),
        lambda: adapted(**wrong),
    ]
    for load in loads:
        with pytest.warns(GlasshouseWarning, match="recorded under another mean and std"):
            load()
    with warnings.catch_warnings(action="error"):
        classifier_by_name("timm/resnet18", weights=path)
        assert not any("recorded under another" in note for note in adapted())
        # A training may adapt it several times, at other sizes.
        notes = adapted(**wrong, input_size=32)
    # Pages and reports show it as well; what the command has printed, it does not repeat.
    assert "recorded under another mean and std" in notes[0]
    assert list(what_was_read(replace(tiny_splits, notes=notes))) == [
        f"note: {note}" for note in notes[1:]
    ]


def test_a_new_head_says_nothing_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argument_hints, "_entropies", lambda classifier: pytest.fail("asked"))
    without = create("squeezenet1_1", tuple("abcdefgh"), weights="none").classifier
    assert argument_hint(without, Path("w.pth"), has_head=False) is None


def test_what_a_file_may_need_is_a_note() -> None:
    folded = create("mobilenetv2_100", weights="none").classifier
    with pytest.warns(GlasshouseWarning, match="^note: the batch normalisation of w.pth is folded"):
        warn_of_arguments(folded, Path("w.pth"))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("w.pth", "fits mobilenetv3_small_100 and tf_mobilenetv3_small_100"),
        ("runs/mobilenetv3-small-100.pth", ""),  # its name decides, here and below
        ("timm--tf-mobilenetv3-small-100/model.safetensors", "its name says that it comes"),
    ],
)
def test_a_file_that_fits_two_networks_is_told_unless_its_path_says_which(
    path: str, found: str
) -> None:
    classifier = recorded(create("mobilenetv3_small_100", weights="none").classifier)
    file = Path(path)
    said = argument_hint(classifier, file) or undecided_note(classifier, file) or ""
    assert found in said and bool(said) == bool(found)
    assert not said or said.endswith("use tf_mobilenetv3_small_100")
    same = create("mobilenetv3_small_100:pad_type=same", weights="none").classifier
    assert undecided_note(same, file) is None
    own = create("tf_mobilenetv3_small_100", weights="none").classifier
    assert argument_hint(own, file) is None and undecided_note(own, file) is None


def test_statistics_of_tensorflow_s_levels_name_its_network_whole() -> None:
    """Padding leaves no trace, but its networks of these shapes have other levels as well."""
    theirs = recorded(create("tf_mobilenetv3_small_100", weights="none").classifier)
    plain = create("mobilenetv3_small_100", weights="none").classifier
    plain.net.load_state_dict(theirs.net.state_dict())
    hint = argument_hint(plain, Path("w.pth"))
    assert hint is not None and "recorded under another mean and std" in hint
    assert hint.endswith("use tf_mobilenetv3_small_100")


def test_folded_batch_normalisation_leaves_nothing_to_check_and_is_told() -> None:
    folded = create("mobilenetv2_100", weights="none").classifier
    note = undecided_note(folded, Path("w.pth"))
    assert note is not None and "is folded into its convolutions" in note
    assert note.endswith("use mobilenetv2_100:pad_type=same,mean=0.5,std=0.5")
    assert undecided_note(recorded(folded), Path("w.pth")) is None
    given = create("mobilenetv2_100:pad_type=same", weights="none").classifier
    assert undecided_note(given, Path("w.pth")) is None
    for name in ("timm/resnet18", "resnet18"):  # has no such argument
        assert undecided_note(create(name, weights="none").classifier, Path("w.pth")) is None


@pytest.mark.parametrize("name", ["resnet18.safetensors", "artful.pth", "outfit_tfx.pth"])
def test_letters_within_a_word_do_not_make_a_file_tensorflow_s(name: str) -> None:
    classifier = create("mobilenetv2_100", weights="none").classifier
    assert argument_hint(classifier, Path(name)) is None


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "file", "wanted"),
    [
        ("squeezenet1_0", "squeezenet1_0.fp16", None),
        ("squeezenet1_0:mean=0.5,std=0.5", "squeezenet1_0.fp16", "mean=0.449,std=0.226"),
        ("squeezenet1_0:mean=0,std=1", "squeezenet1_0.fp16", "mean=0.449,std=0.226"),
        ("mobilenetv2_100", "mobilenetv2_100_tfsame.fp16", "pad_type=same,mean=0.5,std=0.5"),
        ("mobilenetv2_100:pad_type=same,mean=0.5,std=0.5", "mobilenetv2_100_tfsame.fp16", None),
    ],
)
def test_real_weights_are_told_for_the_wrong_arguments_alone(
    name: str, file: str, wanted: str | None, real_data: Path
) -> None:
    path = real_data / "weights" / "imagenet" / f"{file}.safetensors"
    hint = argument_hint(classifier_by_name(name, weights=path), path)
    assert hint is None if wanted is None else hint is not None and hint.endswith(wanted)
