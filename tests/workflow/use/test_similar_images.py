import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.data.sources import load_splits
from glasshouse.errors import DataError, StorageError
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.runs import folder as runs
from glasshouse.workflow.use.similar_images import (
    KnownImages,
    features_of,
    known_images,
    similar_images,
)
from tests.journeys.command import glasshouse_here
from tests.serving.runs import ALL_IMAGES, train_small


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("similar") / "run", "digits", ALL_IMAGES)


@pytest.fixture(scope="module")
def splits(run: Path) -> Splits:
    return load_splits("digits", runs.read_run(run).recipe.data)


@pytest.fixture(scope="module")
def classifier(run: Path) -> Classifier:
    return load_classifier(run)


def features(classifier: Classifier, images: ImageSet) -> np.ndarray:
    return features_of(backbone_of(classifier.net), classifier.preprocessing, images.pixels)


def test_a_training_image_resembles_itself_most(
    run: Path, classifier: Classifier, splits: Splits
) -> None:
    known = known_images(run, classifier)
    assert len(known.features) == len(splits.train)
    found = similar_images(known, features(classifier, splits.train)[:20])
    assert [each.ids[0] for each in found] == splits.train.ids[:20].tolist()
    assert [each.labels[0] for each in found] == [splits.train.label_text(i) for i in range(20)]
    assert max(each.distances[0] for each in found) < 0.01
    assert all(list(each.distances) == sorted(each.distances) for each in found)


def test_neighbours_mostly_share_the_class(
    run: Path, classifier: Classifier, splits: Splits
) -> None:
    found = similar_images(known_images(run, classifier), features(classifier, splits.test))
    same = [each.labels[0] == splits.test.label_text(i) for i, each in enumerate(found)]
    assert np.mean(same) > 0.8


def test_p_values_of_test_images_are_uniform_and_those_of_noise_small(
    run: Path, classifier: Classifier, splits: Splits
) -> None:
    known = known_images(run, classifier)
    usual = [each.p_value for each in similar_images(known, features(classifier, splits.test))]
    # 348 values, compared with 148 of validation.
    assert np.mean(np.array(usual, dtype=float) < 0.2) == pytest.approx(0.2, abs=0.1)
    noise = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    body = backbone_of(classifier.net)
    odd = similar_images(known, features_of(body, classifier.preprocessing, noise))
    assert np.mean([each.p_value or 1 for each in odd]) < np.mean(np.array(usual, dtype=float))


def test_features_are_kept_in_half_precision_and_made_again_for_other_weights(
    run: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = known_images(run, classifier)
    path = run / runs.TRAINING_FEATURES
    assert first.features.dtype == np.float16
    assert path.stat().st_size < 3 * first.features.nbytes + 60_000
    where = "glasshouse.workflow.use.similar_images._computed"
    monkeypatch.setattr(where, lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(known_images(run, classifier).features, first.features)
    record = json.loads((run / "model.json").read_text())
    other = {**record, "weights": {**record["weights"], "sha256": "0" * 64}}
    (run / "model.json").write_text(json.dumps(other))
    monkeypatch.setattr(where, lambda *_: first)
    before = path.read_bytes()
    known_images(run, classifier)
    assert path.read_bytes() != before
    (run / "model.json").write_text(json.dumps(record))
    known_images(run, classifier)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(StorageError, match="damaged"):
        known_images(run, classifier)
    path.unlink()


def test_a_source_that_has_changed_is_named(
    run: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch, splits: Splits
) -> None:
    less = replace(splits, train=take(splits.train, np.arange(10)))
    where = "glasshouse.workflow.use.run_splits.load_splits"
    (run / runs.TRAINING_FEATURES).unlink(missing_ok=True)
    monkeypatch.setattr(where, lambda *_, **__: less)
    with pytest.raises(DataError, match=r"digits no longer has the images that .* was trained on"):
        known_images(run, classifier)


def test_a_photo_that_is_unlike_all_of_them_is_said_to_be() -> None:
    known = KnownImages(
        features=np.eye(8, dtype=np.float16)[:6],
        labels=np.array(["a", "b"] * 3),
        ids=np.array([f"{i}.png" for i in range(6)]),
        far=np.full(99, 1.0, dtype=np.float32),
    )
    (far,) = similar_images(known, -np.eye(8, dtype=np.float32)[:1])
    # No validation image is as far, and 1 of 100 is the smallest that 99 of them can show.
    assert far.p_value == pytest.approx(0.01)
    assert far.lines()[-1].startswith("unlike the training images: only 1 % of the validation")
    level = replace(known, far=np.full(99, far.distances[-1], dtype=np.float32))
    (equal,) = similar_images(level, -np.eye(8, dtype=np.float32)[:1])
    assert equal.p_value == 1
    near = replace(far, p_value=0.4)
    assert [line.split(":")[0] for line in near.lines()] == [
        f"resembles {label} (1.414)" for label in far.labels
    ]
    assert replace(far, p_value=None).lines() == near.lines()


def test_predict_names_the_images_and_what_is_unlike_them(
    run: Path, splits: Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "three.png"
    Image.fromarray(splits.train.pixels[5].transpose(1, 2, 0)).save(photo)
    code, output, _ = glasshouse_here(["predict", str(run), str(photo), "--similar"], capsys)
    label, name = splits.train.label_text(5), splits.train.ids[5]
    assert code == 0 and f"  resembles {label} (0.000): {name}\n" in output
    arguments = ["predict", str(run), str(photo), "--similar", "--json"]
    _, output, _ = glasshouse_here(arguments, capsys)
    (answer,) = json.loads(output)
    assert len(answer["similar"]["nearest"]) == 5
    assert answer["similar"]["nearest"][0]["image"] == name
    assert answer["similar"]["p_value"] > 0.05
    arguments = ["predict", "cifar10-small", str(photo), "--similar"]
    code, _, errors = glasshouse_here(arguments, capsys)
    assert code == 2 and "--similar needs the folder of a run" in errors
