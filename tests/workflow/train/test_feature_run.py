import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glasshouse.cluster.piecework import at_the_same_time
from glasshouse.errors import DataError, ModelError, UsageError
from glasshouse.evaluation.suspect_labels import suspect_labels
from glasshouse.models.classifier import load_classifier
from glasshouse.models.predict import load_predictions, predict
from glasshouse.models.views import Views
from glasshouse.recipe import load_recipe
from glasshouse.settings import Recipe
from glasshouse.training import features
from glasshouse.training.operations import forward_flop
from glasshouse.workflow.compare.backbones import compare_backbones
from glasshouse.workflow.compare.cross_validation import cross_validate
from glasshouse.workflow.compare.label_errors import write_label_errors
from glasshouse.workflow.train import experiment
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    finish_experiment,
    first_classifier,
    fit_experiment,
    open_experiment,
)
from glasshouse.workflow.train.feature_run import run_features
from glasshouse.workflow.train.pretrained_setup import data_settings
from tests.cluster.instead import Instead
from tests.conftest import make_images

SMALL = (
    "model.pretrained.name=resnet10t",
    "model.pretrained.weights=none",
    "model.pretrained.input_size=32",
    "train.precision=fp32",
    "train.device=cpu",
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Files of several sizes in four class folders, with one image in the wrong folder."""
    images = make_images(48, size=24)
    # Colours, which an untrained net tells apart as well.
    for row, label in enumerate(images.labels):
        images.pixels[row] //= 4
        images.pixels[row, :2] += np.array(
            [[0], [160]] if label < 2 else [[160], [0]], dtype=np.uint8
        )[:, :, None]
        images.pixels[row, 2] += np.uint8(160 * (label % 2))
    for row, label in enumerate(images.labels):
        name = images.class_names[label]
        path = tmp_path / "photos" / name / f"{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(images.pixels[row].transpose(1, 2, 0))
        image.resize((40 + row, 40 + row)).save(path)
    (tmp_path / "photos/north-west/000.png").rename(tmp_path / "photos/south-east/wrong.png")
    return tmp_path / "photos"


def recipe(name: str = "transfer-features", *overrides: str) -> Recipe:
    return load_recipe(name, [*SMALL, *overrides])


def request(source: Path | str, out: Path, *overrides: str) -> TrainRequest:
    return TrainRequest(str(source), recipe("transfer-features", *overrides), out)


def test_features_go_from_files_to_a_report(photos: Path, tmp_path: Path) -> None:
    run = run_features(request(photos, tmp_path / "run", "transfer.heads=['logistic', 'mlp']"))
    assert run.result.evaluation.accuracy.value >= 0.75
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Features are computed in float32" in page
    assert "Only a new head was fitted" in page
    assert "loss over folds" in page and "for all heads" in page
    assert "learning rate" not in page
    assert "TFLOP, trillions of floating-point operations" in page
    # Both views of each training image, and no backward pass.
    cost = json.loads((tmp_path / "run" / "cost.json").read_text())
    views = 2 * len(run.splits.train)
    assert cost["training_flop"] == views * forward_flop(run.result.classifier.net, (3, 32, 32))
    heads = json.loads((tmp_path / "run" / "heads.json").read_text())["heads"]
    assert [head["kind"] for head in heads] == ["logistic"] * 4 + ["mlp"]
    assert sum(head["kept"] for head in heads) == 1
    classifier = load_classifier(tmp_path / "run")
    stored = load_predictions(tmp_path / "run" / "predictions.safetensors")
    own = predict(classifier, run.splits.test)
    assert classifier.preprocessing.height == 32
    np.testing.assert_allclose(own.logits, stored.logits, atol=0.05)


@pytest.mark.usefixtures("no_reports")
def test_features_from_a_cluster_leave_the_files_of_the_local_path(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_BLOCK_ROWS", 10)
    monkeypatch.setattr(features, "_known", {})
    cluster: Any = Instead()
    for name, piecework in (("here", None), ("there", at_the_same_time(cluster))):
        # Where no features are known.
        monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / f"cache of {name}"))
        run_features(request(photos, tmp_path / name), piecework=piecework)
    # Of each set with several blocks, what its extractor is made from is sent once.
    assert [type(each).__name__ for each in cluster.sent].count("Origin") >= 2
    here, there = (
        {path.relative_to(tmp_path / name): path for path in (tmp_path / name).rglob("*")}
        for name in ("here", "there")
    )
    assert here.keys() == there.keys()
    # Those with measured times.
    timed = {"environment.json", "heads.json", "cost.json"}
    same = {name for name in here if name.name not in timed and here[name].is_file()}
    assert {"model.safetensors", "predictions.safetensors"} < {name.name for name in same}
    assert [name for name in same if here[name].read_bytes() != there[name].read_bytes()] == []


@pytest.mark.usefixtures("no_reports")
def test_resuming_on_other_images_is_refused(photos: Path, tmp_path: Path) -> None:
    run_features(request(photos, tmp_path / "run"))
    with pytest.raises(UsageError, match="not empty"):
        run_features(request(photos, tmp_path / "run"))
    (photos / "north-east" / "001.png").unlink()
    with pytest.raises(DataError, match="are not those"):
        run_features(replace(request(photos, tmp_path / "run"), resume=True))


def test_files_are_read_at_the_input_size_and_small_sources_stay_small(tmp_path: Path) -> None:
    plain = load_recipe("transfer-features", ["model.pretrained.name=resnet10t"])
    assert data_settings(tmp_path, plain).image_size == 176
    assert data_settings(tmp_path, recipe()).image_size == 32
    assert data_settings(tmp_path, recipe("transfer-head", "data.image_size=20")).image_size == 20
    assert data_settings("cifar10", plain).image_size is None


@pytest.mark.usefixtures("no_reports")
@pytest.mark.parametrize("name", ["transfer-head", "transfer-gradual"])
def test_fine_tuning_says_what_is_trainable_and_unfreezes_the_result(
    name: str, photos: Path, tmp_path: Path
) -> None:
    small = ("data.image_size=24", "train.epochs=3", "augment.random_crop=1")
    views = ("model.mirror=true", "model.shifts=true")
    asked = recipe(name, *small, *views)
    experiment = open_experiment(TrainRequest(str(photos), asked, tmp_path / "run"))
    notes = " ".join(experiment.splits.notes)
    assert "rainable: body.fc" in notes
    assert "enlarged to 32x32 inside the net" in notes
    for _ in fit_experiment(experiment):
        pass
    result = finish_experiment(experiment)
    net = result.classifier.net
    assert all(p.requires_grad for p in net.parameters())
    assert not any(module._forward_pre_hooks for module in net.modules())
    trained = load_classifier(tmp_path / "run")
    assert trained.class_names == experiment.splits.class_names
    assert trained.views == Views(mirror=True, shifts=True)


@pytest.mark.usefixtures("no_reports")
def test_backbones_are_ranked_and_every_pair_is_compared(photos: Path, tmp_path: Path) -> None:
    recipes = {
        "larger": recipe(),
        "smaller": recipe("transfer-features", "model.pretrained.input_size=16"),
    }
    base = TrainRequest(str(photos), recipes["larger"], tmp_path / "run")
    run_features(base)
    table = compare_backbones(base, recipes, run_folders=[tmp_path / "run"])
    assert {row.name for row in table.backbones} == {"larger", "smaller"}
    assert {row.input_size for row in table.backbones} == {16, 32}
    assert set(table.runs) == {"run"}
    assert len(table.comparisons) == 3
    same = next(c for c in table.comparisons if {c.first, c.second} == {"larger", "run"})
    assert same.verdict.startswith("No difference: both classify the same of")


def test_one_backbone_alone_is_not_compared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two networks or more"):
        compare_backbones(request("digits", tmp_path), {"one": recipe()})


def test_weights_that_cannot_be_had_are_missed_before_any_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = recipe("transfer-features", "model.pretrained.weights=usual")
    asked = TrainRequest("digits", published, tmp_path / "run", offline=True)
    monkeypatch.setattr(experiment, "load_splits", None)
    with pytest.raises(ModelError, match="the weights of resnet10t are not on this machine"):
        first_classifier(asked)
    # Also where only the last of several backbones has none.
    with pytest.raises(ModelError, match="the weights of resnet10t are not on this machine"):
        compare_backbones(asked, {"a": recipe(), "b": published})


def test_every_image_is_predicted_once_by_heads_that_have_not_seen_it(
    photos: Path, tmp_path: Path
) -> None:
    found = cross_validate(request(photos, tmp_path), folds=3)
    splits, _ = first_classifier(request(photos, tmp_path))
    expected = {*splits.train.ids.tolist(), *splits.validation.ids.tolist()}
    assert set(found.predictions.ids.tolist()) == expected
    assert not expected & set(splits.test.ids.tolist())
    assert found.score.low < found.score.value < found.score.high
    assert len(found.scores) == 3


def test_wrong_labels_are_the_first_suspects_and_no_file_changes(
    photos: Path, tmp_path: Path
) -> None:
    # A second one, as one suspect alone is the first in any order.
    (photos / "south-west" / "006.png").rename(photos / "north-east" / "also-wrong.png")
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    # In one part, so that the wrong one is not held out as test.
    (tmp_path / "all").mkdir()
    photos.rename(tmp_path / "all" / "train")
    (tmp_path / "all" / "val" / "x").mkdir(parents=True)
    for folder in sorted((tmp_path / "all" / "train").iterdir()):
        target = tmp_path / "all" / "val" / folder.name
        target.mkdir()
        first = sorted(folder.iterdir())[0]
        (target / "held.png").write_bytes(first.read_bytes())
    (tmp_path / "all" / "val" / "x").rmdir()
    found = cross_validate(request(tmp_path / "all", tmp_path), folds=4)
    candidates = suspect_labels(found.predictions)
    wrong = {
        "train/south-east/wrong.png": ("south-east", "north-west"),
        "train/north-east/also-wrong.png": ("north-east", "south-west"),
    }
    assert {each.id: (each.label, each.suggested) for each in candidates[:2]} == wrong
    gaps = [each.suggested_probability - each.label_probability for each in candidates]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > gaps[-1] > 0
    write_label_errors(candidates, found, tmp_path / "out", source="<photos>")
    page = (tmp_path / "out" / "label-errors.html").read_text()
    assert "wrong.png" in page and "&lt;photos&gt;" in page
    assert "say little about labels" not in page
    guesses = replace(found, score=replace(found.score, low=0.0))
    write_label_errors(candidates, guesses, tmp_path / "guesses", source="photos")
    assert "say little about labels" in (tmp_path / "guesses" / "label-errors.html").read_text()
    written = json.loads((tmp_path / "out" / "candidates.json").read_text())
    assert [each["id"] for each in written] == [each.id for each in candidates]
    # What each resembles, itself left out, on the page as well; wrong ones have other neighbours.
    assert all(len(each["similar"]) == 5 for each in written)
    assert not any(each["id"] == near["image"] for each in written for near in each["similar"])
    labels = [near["label"] for each in written[:2] for near in each["similar"][:3]]
    assert labels == ["north-west"] * 3 + ["south-west"] * 3
    assert page.count("To the backbone it resembles:") == len(written)
    after = sorted(p.read_bytes() for p in (tmp_path / "all" / "train").rglob("*.png"))
    assert after == sorted(before.values())
