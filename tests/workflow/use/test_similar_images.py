import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.data.sources import load_splits
from glasshouse.errors import DataError, NotFinite, StorageError
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.models.known_names import EXAMPLE_PHOTO
from glasshouse.models.predict import logits_of, logits_of_few
from glasshouse.runs import folder as runs
from glasshouse.serving.service import service as serving
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.schemas import Explanations, PredictionsDocument
from glasshouse.serving.service.served_models import ModelSource
from glasshouse.serving.service.service import service_of
from glasshouse.storage import read_tensors
from glasshouse.workflow.use.known_images import features_of, known_images
from glasshouse.workflow.use.photo_and_run import RunComparison
from glasshouse.workflow.use.similar_images import similar_images
from glasshouse.workflow.use.unknown_images import familiarity
from tests.journeys.command import glasshouse_here
from tests.serving.runs import ALL_IMAGES, train_small
from tests.serving.service.conftest import Caller


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


def test_features_are_kept_in_half_precision_and_made_again_for_other_weights(
    run: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = known_images(run, classifier)
    path = run / runs.TRAINING_FEATURES
    assert first.features.dtype == np.float16
    assert path.stat().st_size < 3 * first.features.nbytes + 60_000
    kept, _ = read_tensors(path)
    assert kept["features"].dtype == torch.float16
    np.testing.assert_array_equal(kept["features"].numpy(), first.features)
    where = "glasshouse.workflow.use.known_images._computed"
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


def test_predict_names_the_images_that_a_photo_resembles(
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
    assert len(answer["similar"]) == 5
    assert answer["similar"][0]["image"] == name
    assert not answer["unknown"]["is_unknown"]
    arguments = ["predict", "cifar10-small", str(photo), "--similar"]
    code, _, errors = glasshouse_here(arguments, capsys)
    assert code == 2 and "--similar needs the folder of a run" in errors


def test_explain_says_what_a_photo_resembles(
    run: Path, splits: Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    black, out = tmp_path / "black.png", ["--out", str(tmp_path / "maps"), "--no-checks"]
    Image.new("L", (8, 8)).save(black)
    arguments = ["explain", str(run), str(black), "--method", "grad-cam", *out, "--similar"]
    code, output, _ = glasshouse_here(arguments, capsys)
    assert code == 0 and output.count("  resembles ") == 5
    assert "  unlike anything it was trained on" in output and "do not rely on the answer" in output
    _, output, _ = glasshouse_here([*arguments, "--json"], capsys)
    (found,) = json.loads(output)
    predicted = glasshouse_here(["predict", str(run), str(black), "--similar", "--json"], capsys)
    (answer,) = json.loads(predicted[1])
    assert found["similar"] == answer["similar"] and found["unknown"] == answer["unknown"]
    _, output, _ = glasshouse_here(arguments[:-1], capsys)
    assert "resembles" not in output and "unlike" not in output
    code, _, errors = glasshouse_here(["explain", str(run), "--errors", "--similar"], capsys)
    assert code == 2 and "leave it out with --errors" in errors


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "cifar10-small", "{photo}", "--similar"],
        ["predict", "cifar10-small", "{photo}", "--unknown"],
        ["explain", "cifar10-small", "{photo}", "--similar"],
        ["serve", "cifar10-small", "--similar"],
    ],
)
def test_a_model_that_is_no_run_is_refused_before_it_is_loaded(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("predict", "explain", "serve"):
        monkeypatch.setattr(f"glasshouse.cli.{place}.classifier_named", None)
    arguments = [each.format(photo=EXAMPLE_PHOTO) for each in command]
    code, _, errors = glasshouse_here(arguments, capsys)
    assert code == 2 and f"{command[-1]} needs the folder of a run, not cifar10-small" in errors


def test_an_image_without_an_answer_leaves_the_comparison_of_others(
    run: Path, classifier: Classifier, splits: Splits
) -> None:
    source = ModelSource("digits", lambda: classifier, compare=partial(RunComparison.of, run))
    service = service_of([source])
    model, (one, other) = service.models.find(), splits.train.pixels[:2]

    def broken(*arguments: Any, **more: Any) -> torch.Tensor:
        logits = logits_of_few(*arguments, **more).clone()
        logits[0] = torch.nan
        return logits

    items = [serving.ToClassify(model, partial(np.copy, each), True) for each in (one, other)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "logits_of_few", broken)
        failed, answered = serving._classify(service.metrics, items)
    assert isinstance(failed, NotFinite) and isinstance(answered, serving.Scores)
    assert answered.resemblance is not None and answered.resemblance.similar is not None
    assert answered.resemblance.similar.ids[0] == splits.train.ids[1]


def test_the_service_says_what_predict_says(
    run: Path, classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ModelSource("digits", lambda: classifier, compare=partial(RunComparison.of, run))
    plain = ModelSource("plain", lambda: classifier)
    call = Caller(create_api(service_of([source, plain])))
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    for path in (tmp_path / "black.png", EXAMPLE_PHOTO):
        answer = call("POST", "/predict?similar=true", content=path.read_bytes())
        found = PredictionsDocument.model_validate(answer.json()).predictions[0]
        arguments = ["predict", str(run), str(path), "--similar", "--json"]
        (expected,) = json.loads(glasshouse_here(arguments, capsys)[1])
        assert found.unknown is not None and found.similar is not None
        assert [each.image for each in found.similar] == [e["image"] for e in expected["similar"]]
        assert found.unknown.words == expected["unknown"]["words"]
        assert found.unknown.is_unknown == expected["unknown"]["is_unknown"]
    usual = call("POST", "/predict", content=EXAMPLE_PHOTO.read_bytes()).json()["predictions"][0]
    assert not {"unknown", "similar"} & {*usual}
    # The maps' answer has the same, beside a record that its schema knows.
    explain = "/explain?method=grad-cam&form=values"
    answer = call("POST", f"{explain}&similar=true", content=path.read_bytes()).json()
    (explained,) = Explanations.model_validate(answer).explanations
    assert explained.similar is not None and explained.unknown is not None
    assert [each.image for each in explained.similar] == [e["image"] for e in expected["similar"]]
    assert explained.unknown.words == expected["unknown"]["words"]
    usual = call("POST", explain, content=path.read_bytes()).json()["explanations"][0]
    assert not {"unknown", "similar"} & {*usual}
    for asked in ("/predict?similar=true", f"{explain}&similar=true"):
        refused = call("POST", f"{asked}&model=plain", content=path.read_bytes())
        assert refused.status_code == 422 and "with --similar" in refused.json()["detail"]


def test_predict_names_no_class_for_what_is_unlike_the_training_images(
    run: Path, splits: Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digit, black = tmp_path / "digit.png", tmp_path / "black.png"
    Image.fromarray(splits.train.pixels[5].transpose(1, 2, 0)).save(digit)
    Image.new("L", (8, 8)).save(black)
    arguments = ["predict", str(run), str(digit), str(black), "--unknown", "--json"]
    code, output, _ = glasshouse_here(arguments, capsys)
    known, unknown = json.loads(output)
    assert code == 0 and known["top"] and not known["unknown"]["is_unknown"]
    assert unknown["unknown"]["is_unknown"] and {*unknown} == {"image", "unknown"}
    _, output, _ = glasshouse_here(["predict", str(run), str(black), "--unknown"], capsys)
    assert "%" not in output and output.endswith("; no class is named\n")
    _, output, _ = glasshouse_here(["predict", str(run), str(black), "--similar"], capsys)
    assert "%" in output and "; do not rely on the answer\n" in output
    code, _, errors = glasshouse_here(["predict", "cifar10-small", str(black), "--unknown"], capsys)
    assert code == 2 and "--unknown needs the folder of a run" in errors


def test_validation_images_are_as_unusual_as_chance_has_it_and_outliers_are_told(
    run: Path, classifier: Classifier, splits: Splits
) -> None:
    known = known_images(run, classifier)
    assert {len(each) for each in known.usual.values()} == {len(splits.validation)}
    assert all((np.diff(each) >= 0).all() for each in known.usual.values())
    areas = [kind[known.best_score] for kind in known.auroc.values()]
    assert len(areas) == 7 and np.mean(areas) > 0.8
    judged = familiarity(
        known,
        splits.test.pixels,
        features(classifier, splits.test),
        logits_of(classifier, splits.test.pixels),
        several=False,
    )
    # 348 images of the test split, of which 5 % would be expected.
    assert 0.01 < np.mean([each.is_unknown for each in judged]) < 0.12
