"""The exported file says how unusual an image is: the scores and p-values of the run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from torch import nn

from glasshouse.data.sources import load_splits
from glasshouse.errors import DataError, ModelError
from glasshouse.export.onnx import export_onnx
from glasshouse.export.parity import check_parity
from glasshouse.models.appearance import appearance_of
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.models.predict import logits_of
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.models.unusual_scores import (
    UNUSUAL_SCORES,
    Unit,
    UnknownMeasure,
    UnusualScore,
    fit_gaussians,
    fit_looks,
    look_scores,
    scored_together,
    unusual_scores,
)
from glasshouse.settings import DataSettings
from glasshouse.workflow.use.find_similar import unknown_measure
from glasshouse.workflow.use.known_images import features_of
from glasshouse.workflow.use.photo_and_run import RunComparison
from tests.journeys.command import glasshouse_here
from tests.serving.runs import train_small

SIZE, K = 12, 3


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, K),
    ).eval()  # fmt: skip
    return Classifier(net, Preprocessing(SIZE, SIZE), ("a", "b", "c"), temperature=1.5, mirror=True)


def noise(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    level = random.integers(40, 256, (count, 1, 1, 1))
    return (random.integers(0, 256, (count, 3, SIZE, SIZE)) * level // 256).astype(np.uint8)


def features(classifier: Classifier, pixels: np.ndarray) -> np.ndarray:
    return features_of(backbone_of(classifier.net), classifier.preprocessing, pixels)


def parts(
    classifier: Classifier, measure: UnknownMeasure, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The network's score and that of appearance."""
    found = unusual_scores(
        measure.features, measure.gaussians, features(classifier, pixels),
        logits_of(classifier, pixels), several=classifier.is_multi_label, names=[measure.score],
    )  # fmt: skip
    return found[measure.score], look_scores(measure.looks, appearance_of(pixels))


def scores(classifier: Classifier, measure: UnknownMeasure, pixels: np.ndarray) -> np.ndarray:
    return scored_together(*parts(classifier, measure, pixels), measure.units)


def measure_of(classifier: Classifier, score: UnusualScore) -> UnknownMeasure:
    known = features(classifier, noise(60, 1)).astype(np.float16)
    gaussians = fit_gaussians(known, np.arange(60) % K)
    looks, unit = fit_looks(appearance_of(noise(60, 1))), Unit(0, 1)
    empty = UnknownMeasure(score, known, gaussians, looks, (unit, unit), np.empty(0, np.float32))
    own, look = parts(classifier, empty, noise(99, 2))
    empty = replace(empty, units=(Unit.of(own), Unit.of(look)))
    return replace(empty, usual=np.sort(scores(classifier, empty, noise(99, 2))))


@pytest.mark.parametrize(
    ("score", "several"),
    [
        *((score, False) for score in UNUSUAL_SCORES),
        (UNUSUAL_SCORES[0], True),
        *(pytest.param(score, True, marks=pytest.mark.slow) for score in UNUSUAL_SCORES[1:]),
    ],
)
def test_the_file_has_the_scores_and_p_values_of_the_run(
    classifier: Classifier, tmp_path: Path, score: UnusualScore, several: bool
) -> None:
    own = replace(classifier, thresholds=(0.5,) * K) if several else classifier
    measure, path = measure_of(own, score), tmp_path / "model.onnx"
    export_onnx(own, path, unknown=measure)
    images = noise(40, 3)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == [
        "logits", "probabilities", "unusual", "p_value",
    ]  # fmt: skip
    unusual, p = session.run(["unusual", "p_value"], {"images": images})
    expected = scores(own, measure, images)
    # Of nearly equal features, the distance is the root of a difference of rounded numbers, and is
    # measured in units of a deviation that is small.
    np.testing.assert_allclose(unusual, expected, rtol=1e-4, atol=1e-4)
    count = (measure.usual[None] >= unusual[:, None]).sum(axis=1)
    np.testing.assert_allclose(p, (count + 1) / 100, rtol=1e-6)
    (alone,) = session.run(["p_value"], {"images": images[:1]})
    assert alone.shape == (1,) and alone[0] == pytest.approx(p[0], abs=0.011)
    model = onnx.load(path)
    facts = {each.key: each.value for each in model.metadata_props}
    assert json.loads(facts["unknown"]) == {
        "score": score, "joined_with": "appearance", "unknown_below": 0.05, "validation_images": 99,
    }  # fmt: skip
    # The features come from the same pass: one convolution for the image, one for its mirror image.
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 2
    weights = sum(len(each.raw_data) for each in model.graph.initializer)
    looks = 8 * measure.looks.precision.size
    assert weights < 4 * own.parameter_count + looks + 30_000


def test_without_validation_images_there_is_no_file(classifier: Classifier, tmp_path: Path) -> None:
    measure = replace(measure_of(classifier, "energy"), usual=np.empty(0, np.float32))
    with pytest.raises(DataError, match="without --unknown"):
        export_onnx(classifier, tmp_path / "model.onnx", unknown=measure)
    assert not list(tmp_path.iterdir())


def test_other_p_values_than_the_runs_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    measure, path = measure_of(classifier, "energy"), tmp_path / "model.onnx"
    export_onnx(classifier, path, unknown=measure)

    def run_says(pixels: np.ndarray, logits: np.ndarray) -> np.ndarray:
        count = (measure.usual[None] >= scores(classifier, measure, pixels)[:, None]).sum(axis=1)
        return np.asarray((count + 1) / 100, dtype=np.float64)

    found = check_parity(classifier, path, p_values=run_says)
    assert found.p_difference is not None and found.p_difference <= 0.011
    with pytest.raises(ModelError, match="Do not use it"):
        check_parity(classifier, path, p_values=lambda *each: run_says(*each) + 0.03)
    assert check_parity(classifier, path).p_difference is None


def require_same_answers(run: Path, own: Classifier, session: onnxruntime.InferenceSession) -> None:
    """Of images that are more and less unusual, the file says what the run says."""
    digits = load_splits("digits").test.pixels
    shapes = load_splits("shapes", DataSettings(image_size=digits.shape[2])).test.pixels[:100]
    images = np.concatenate([digits, digits // 3, shapes])
    found = RunComparison.of(run, own, data_dir=None, offline=True).compare(
        images, logits_of(own, images), similar=False
    )
    expected = np.array([each.familiarity.p_value for each in found])
    (p,) = session.run(["p_value"], {"images": images})
    # Rounding moves an image past one that is as unusual, of about a hundred.
    assert np.abs(p - expected).max() < 0.02
    assert np.quantile(expected, 0.75) > 0.3 and (expected < 0.05).mean() > 0.2
    is_clear = np.abs(expected - 0.05) > 0.02
    is_unknown = np.array([each.familiarity.is_unknown for each in found])
    np.testing.assert_array_equal((p < 0.05)[is_clear], is_unknown[is_clear])


@pytest.mark.slow
def test_the_command_exports_what_predict_unknown_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = train_small(tmp_path / "run", "digits"), tmp_path / "model.onnx"
    arguments = ["export", str(run), "--out", str(out), "--unknown", "--json"]
    code, output, errors = glasshouse_here(arguments, capsys)
    assert code == 0, errors
    assert json.loads(output)["p_difference"] < 0.01
    own = load_classifier(run)
    black = np.zeros((1, 3, own.preprocessing.height, own.preprocessing.width), np.uint8)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    (p,) = session.run(["p_value"], {"images": black})
    assert p[0] < 0.05
    require_same_answers(run, own, session)
    export_onnx(own, tmp_path / "same.onnx", unknown=unknown_measure(run))
    session = onnxruntime.InferenceSession(str(tmp_path / "same.onnx"))
    assert session.run(["p_value"], {"images": black})[0] == p
    code, output, _ = glasshouse_here(["export", str(run), "--out", str(out)], capsys)
    assert code == 0 and "p-values" not in output
    assert {each.name for each in onnx.load(out).graph.output} == {"logits", "probabilities"}
    arguments = ["export", "cifar10-small", "--out", str(out), "--unknown"]
    code, _, errors = glasshouse_here(arguments, capsys)
    assert code == 2 and "--unknown needs the folder of a run" in errors
