"""Prediction sets wherever an answer appears."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from glasshouse.evaluation.evaluation import evaluate
from glasshouse.explanation.store import load_page
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.models.known_names import EXAMPLE_PHOTO
from glasshouse.models.predict import load_predictions
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.schemas import Explanations, PredictionsDocument
from glasshouse.serving.service.service import make_service
from tests.journeys.command import glasshouse_here
from tests.serving.runs import ALL_IMAGES, train_small
from tests.serving.service.conftest import Caller

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(
        tmp_path_factory.mktemp("sets") / "run", "digits", ALL_IMAGES, has_report=True
    )


@pytest.fixture(scope="module")
def classifier(run: Path) -> Classifier:
    return load_classifier(run)


def expected(classifier: Classifier, **asked: object) -> list[str]:
    return list(classifier.prediction_sets(EXAMPLE_PHOTO, **asked)[0])  # type: ignore[arg-type]


def test_a_run_is_calibrated_on_its_validation_split(run: Path, classifier: Classifier) -> None:
    held_out = load_predictions(run / "validation-predictions.safetensors")
    scores = classifier.conformity
    assert scores is not None and len(scores) == len(held_out)
    own = held_out.probabilities[np.arange(len(held_out)), held_out.labels]
    np.testing.assert_array_equal(np.sort(scores.shares), np.sort(own))
    assert scores.source == "the validation split"


def test_predict_has_a_line_and_json(run: Path, classifier: Classifier, capsys: Capture) -> None:
    photo = str(EXAMPLE_PHOTO)
    code, output, errors = glasshouse_here(["predict", str(run), photo], capsys)
    words = classifier.prediction_sets(EXAMPLE_PHOTO).words(0)
    assert code == 0 and f"  95 % prediction set: {words}\n" in output
    assert errors == ""
    more = ["--coverage", "0.5", "--sets", "aps", "--json"]
    _, output, _ = glasshouse_here(["predict", str(run), photo, *more], capsys)
    found = json.loads(output)[0]["prediction_set"]
    assert found["classes"] == expected(classifier, coverage=0.5, method="aps")
    assert (found["coverage"], found["method"]) == (0.5, "aps")
    _, _, errors = glasshouse_here(["predict", str(run), photo, "--class-conditional"], capsys)
    assert "Of images of each class like the 148" in errors


def test_a_wrong_coverage_is_refused(run: Path, capsys: Capture) -> None:
    arguments = ["predict", str(run), str(EXAMPLE_PHOTO), "--coverage", "95"]
    code, _, errors = glasshouse_here(arguments, capsys)
    assert code == 2 and "95 % is 0.95" in errors


def test_what_has_no_scores_says_so_only_when_asked(
    run: Path, tmp_path: Path, capsys: Capture
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run / "model.safetensors", bare)
    record = json.loads((run / "model.json").read_text())
    del record["conformity"]
    (bare / "model.json").write_text(json.dumps(record))
    code, output, _ = glasshouse_here(["predict", str(bare), str(EXAMPLE_PHOTO)], capsys)
    assert code == 0 and "prediction set" not in output
    arguments = ["predict", str(bare), str(EXAMPLE_PHOTO), "--sets", "lac"]
    code, _, errors = glasshouse_here(arguments, capsys)
    assert code == 2 and "has no prediction sets: it comes without" in errors


def test_explain_prints_and_records_the_set(
    run: Path, classifier: Classifier, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["explain", str(run), str(EXAMPLE_PHOTO), "--method", "saliency", "--no-checks"]
    arguments += ["--coverage", "0.8", "--out", str(tmp_path)]
    code, output, _ = glasshouse_here(arguments, capsys)
    words = classifier.prediction_sets(EXAMPLE_PHOTO, coverage=0.8).words(0)
    assert code == 0 and f"  80 % prediction set: {words}\n" in output
    (record,) = tmp_path.glob("*/page.json")
    facts = json.loads(record.read_text())
    assert facts["prediction_sets"][0]["classes"] == expected(classifier, coverage=0.8)
    page = load_page(record.parent)
    assert classifier.conformity is not None
    assert page.set_rule == classifier.conformity.rule(0.8)


def test_evaluate_and_the_report_measure_coverage_on_the_test_split(
    run: Path, classifier: Classifier, capsys: Capture
) -> None:
    code, output, _ = glasshouse_here(["evaluate", str(run)], capsys)
    stored = json.loads((run / "evaluation.json").read_text())["prediction_sets"]
    assert code == 0 and f"95 % sets      {100 * stored[1]['coverage']['value']:.2f} %" in output
    page = (run / "report.html").read_text()
    assert 'id="sets"' in page and "Of images like the 148 it was calibrated on" in page
    assert f"{100 * stored[1]['coverage']['value']:.1f}" in page
    rows = re.findall(r"<td[^>]*>(\d+\.\d\d)</td>", page)
    assert f"{stored[0]['mean_size']['value']:.2f}" in rows
    # A set with every class is explained where there is one.
    assert stored[2]["size_counts"][-1] and "says that none can be ruled out" in page


def test_the_service_returns_sets(classifier: Classifier) -> None:
    call = Caller(create_api(make_service(classifier, "digits")))
    body = {"content": EXAMPLE_PHOTO.read_bytes()}
    answer = call("POST", "/predict?coverage=0.5&sets=aps", **body)
    found = PredictionsDocument.model_validate(answer.json()).predictions[0].prediction_set
    assert found is not None
    assert found.classes == expected(classifier, coverage=0.5, method="aps")
    usual = call("POST", "/predict", **body).json()["predictions"][0]["prediction_set"]
    assert (usual["coverage"], usual["classes"]) == (0.95, expected(classifier))
    assert call("POST", "/predict?coverage=95", **body).status_code == 422
    explained = call("POST", "/explain?method=saliency", **body).json()
    document = Explanations.model_validate(explained)
    assert document.explanations[0].prediction_set is not None
    assert document.explanations[0].prediction_set.classes == usual["classes"]


def test_a_service_without_scores_refuses_sets(classifier: Classifier) -> None:
    from dataclasses import replace

    call = Caller(create_api(make_service(replace(classifier, conformity=None), "digits")))
    body = {"content": EXAMPLE_PHOTO.read_bytes()}
    assert "prediction_set" not in call("POST", "/predict", **body).json()["predictions"][0]
    answer = call("POST", "/predict?coverage=0.9", **body)
    assert answer.status_code == 422 and "has no prediction sets" in answer.json()["detail"]


def test_an_onnx_file_has_the_limits(classifier: Classifier, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from glasshouse.export.onnx import export_onnx

    export_onnx(classifier, tmp_path / "m.onnx")
    metadata = {m.key: m.value for m in onnx.load(tmp_path / "m.onnx").metadata_props}
    facts = json.loads(metadata["prediction_sets"])
    least = facts["least_probability"]["0.9"]
    shares = classifier.predict(EXAMPLE_PHOTO).probabilities[0]
    found = {name for name, share in zip(classifier.class_names, shares, strict=True)
             if share >= least}  # fmt: skip
    assert found == set(expected(classifier, coverage=0.9))
    assert facts["images"] == 148


def test_notebooks_show_sets(run: Path, classifier: Classifier) -> None:
    found = classifier.predict([EXAMPLE_PHOTO])
    assert "95\u00a0% set" in found._repr_html_()
    assert "calibrated on 148 images: the validation split" in classifier._repr_html_()
    stored = load_predictions(run / "predictions.safetensors")
    assert "95\u00a0% set" not in stored._repr_html_()
    assert "95\u00a0% sets" not in evaluate(stored)._repr_html_()
