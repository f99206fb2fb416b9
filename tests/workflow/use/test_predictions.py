"""Image files and decoded images as a classifier's input, and from a file to an explanation."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import glasshouse as gh
from glasshouse.models.architecture import architecture_of
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import Classifier, save_classifier
from glasshouse.models.layers import build
from glasshouse.recipe import load_recipe, to_toml
from glasshouse.workflow.compare.compare_runs import compare_runs, disagreement_images
from glasshouse.workflow.use.predictions import predictions_of, predictions_on
from tests.data.image_files import write_folder
from tests.run_files import environment


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_path_a_text_and_a_decoded_image_give_the_same_pixels(photo: Path) -> None:
    images = gh.read_images([photo, str(photo), gh.decode(photo)], load_bundled("cifar10-small"))
    assert images.shape == (3, 3, 32, 32)
    assert images.dtype == np.uint8
    assert (images == images[0]).all()


def test_one_source_needs_no_list(photo: Path) -> None:
    classifier = load_bundled("cifar10-small")
    expected = gh.read_images([photo], classifier)
    for source in (photo, str(photo), gh.decode(str(photo))):
        assert np.array_equal(gh.read_images(source, classifier), expected)


def test_from_a_file_to_probabilities_and_an_explanation_in_three_lines(photo: Path) -> None:
    classifier = gh.classifier_by_name("cifar10-small")
    images = gh.read_images(str(photo), classifier)
    (explanation,) = gh.explain(classifier, images, methods=["saliency"])
    assert explanation.maps.shape == (1, 32, 32)
    probabilities = gh.classify(classifier, images)
    assert probabilities.shape == (1, 10)
    assert probabilities.sum() == pytest.approx(1)
    assert int(explanation.targets[0]) == int(probabilities.argmax())


def test_no_image_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    classifier = load_bundled("cifar10-small")
    with pytest.raises(gh.DataError, match="received none"):
        gh.read_images([], classifier)
    with pytest.raises(gh.BadImage, match="does not exist"):
        gh.read_images(str(tmp_path / "cat.jpg"), classifier)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An untrained run for the classes cat and dog, as if trained on the folder trained."""
    names = ("cat", "dog")
    recipe = load_recipe("small-cnn", ["data.image_size=32"])
    net = build(recipe.model, 2, (3, 32, 32), seed=0)
    architecture = architecture_of(recipe.model, 2, (3, 32, 32))
    classifier = Classifier(net, gh.Preprocessing(32, 32), names, architecture=architecture)
    save_classifier(classifier, tmp_path / "run")
    (tmp_path / "run" / "recipe.toml").write_text(to_toml(recipe))
    record = environment(str(tmp_path / "trained"))
    (tmp_path / "run" / "environment.json").write_text(json.dumps(record))
    return tmp_path / "run"


def measured(run: Path, source: Path, *, is_whole: bool = True) -> int:
    found = predictions_of(run, str(source), data_dir=None, offline=True, is_whole=is_whole)
    return len(found)


def test_all_images_of_a_folder_without_splits_are_measured(run: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"cat": 2, "dog": 7})
    assert measured(run, tmp_path / "photos") == 9


def test_of_a_folder_with_splits_the_test_split_is_measured(run: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {f"train/{name}": 6 for name in ("cat", "dog")})
    write_folder(tmp_path / "photos", {f"test/{name}": 2 for name in ("cat", "dog")})
    assert measured(run, tmp_path / "photos") == 4


@pytest.mark.parametrize(
    ("folders", "count"),
    [
        ({"test/cat": 2, "test/dog": 3}, 5),
        ({"val/cat": 2, "val/dog": 3}, 5),
        ({"test/cat": 2, "test/dog": 2, "val/cat": 3, "val/dog": 3}, 4),
        ({"test/cat": 2, "test/dog": 0}, 2),  # a class without images
        ({"cat": 3, "dog": 0}, 3),
    ],
)
def test_a_split_alone_is_measured_and_so_are_some_classes(
    run: Path, tmp_path: Path, folders: dict[str, int], count: int
) -> None:
    write_folder(tmp_path / "photos", folders)
    assert measured(run, tmp_path / "photos") == count


def test_a_source_whose_files_are_all_skipped_has_nothing_to_measure(
    run: Path, tmp_path: Path
) -> None:
    recipe = load_recipe("small-cnn", ["data.image_size=32", "data.on_bad_file=skip"])
    (run / "recipe.toml").write_text(to_toml(recipe))
    (write_folder(tmp_path / "photos", {"cat": 0, "dog": 0}) / "cat" / "1.png").write_text("x")
    with pytest.raises(gh.DataError, match=r"photos has no images\. 1 of 1 files cannot be read"):
        measured(run, tmp_path / "photos")


def test_runs_are_compared_on_all_images_that_none_was_trained_on(
    run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "other")
    write_folder(tmp_path / "photos", {"cat": 20, "dog": 20})
    (whole,) = compare_runs([run, tmp_path / "other"], str(tmp_path / "photos"), offline=True)
    assert whole.image_count == 40
    shown = disagreement_images([whole], run, str(tmp_path / "photos"), offline=True)
    assert set(shown) == {row.id for row in whole.both_wrong[:16]}
    (tmp_path / "photos").rename(tmp_path / "trained")
    record = environment(str(tmp_path / "elsewhere"))
    (tmp_path / "other" / "environment.json").write_text(json.dumps(record))
    # One of the two was trained on it.
    (held_out,) = compare_runs([tmp_path / "other", run], str(tmp_path / "trained"), offline=True)
    assert held_out.image_count < 20


def test_of_the_source_that_a_run_was_trained_on_the_test_split_is_measured(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "trained", {"cat": 20, "dog": 20})
    assert measured(run, tmp_path / "trained") < 20
    monkeypatch.chdir(tmp_path / "trained")
    assert measured(run, Path()) < 20


def test_some_of_the_classes_are_measured_by_name(run: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"dog": 5})
    found = predictions_of(
        run, str(tmp_path / "photos"), data_dir=None, offline=True, is_whole=True
    )
    assert found.class_names == ("cat", "dog")
    assert list(found.labels) == [1] * 5
    assert gh.evaluate(found).accuracy.value == (found.logits.argmax(1) == 1).mean()


def test_other_classes_are_refused(run: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"cat": 3, "cow": 3})
    with pytest.raises(gh.DataError, match="has the classes cat, cow, but"):
        measured(run, tmp_path / "photos")


@pytest.mark.parametrize("has_splits", [False, True])
def test_images_of_a_source_are_cropped_and_filtered_as_predict_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_splits: bool
) -> None:
    # As the transforms of published weights: 28 pixels of 32, and another filter than the usual.
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source"
    random = np.random.default_rng(0)
    for part in ("train", "test") if has_splits else ("",):
        for name in "ab":
            folder = source / part / name
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = random.integers(0, 256, (60, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{part}{number}.png")
    wanted = gh.Preprocessing(
        28, 28, crop_fraction=0.875, interpolation="bilinear", rounding="torchvision"
    )
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 28 * 28, 2))
    classifier = gh.Classifier(net, wanted, ("a", "b"))
    found = predictions_on(classifier, str(source), data_dir=None, offline=True)
    assert len(found) == 6
    paths = [source / name for name in found.ids]
    alone = classifier.predict(paths)
    np.testing.assert_allclose(found.logits, alone.logits, atol=1e-5)
