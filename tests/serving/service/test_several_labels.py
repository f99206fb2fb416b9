"""The service of a classifier whose images may have several labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glasshouse.explanation.pipeline import MapRequest, explain_each_label
from glasshouse.explanation.store import load_page, save_page
from glasshouse.models.classifier import Classifier
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.service import make_service
from tests.serving.service.conftest import CLASS_NAMES, Caller, png


@pytest.fixture
def several(classifier: Classifier) -> Classifier:
    """Thresholds that the first and the third label always reach, the others never."""
    return replace(classifier, thresholds=(1e-9, 1.1, 1e-9, 1.1))


@pytest.fixture
def asked(several: Classifier) -> Caller:
    return Caller(create_api(make_service(several, "tiny", Limits())))


def test_predict_returns_every_label_that_reaches_its_threshold(
    asked: Caller, several: Classifier
) -> None:
    answer = asked("POST", "/predict", content=png(0)).json()["predictions"][0]
    assert {each["class"] for each in answer["labels"]} == {CLASS_NAMES[0], CLASS_NAMES[2]}
    shares = [each["probability"] for each in answer["labels"]]
    assert shares == sorted(shares, reverse=True)
    assert len(answer["top"]) == 4
    # A sigmoid each: they need not add up to 1, and agree with the temperature.
    total = sum(each["probability"] for each in answer["top"])
    assert total != pytest.approx(1, abs=1e-3)


def test_explain_has_the_maps_of_each_predicted_label(asked: Caller) -> None:
    address = "/explain?method=saliency&form=values"
    (found,) = asked("POST", address, content=png(1)).json()["explanations"]
    assert {each["class"] for each in found["labels"]} == {CLASS_NAMES[0], CLASS_NAMES[2]}
    assert len(found["maps"]) == 2
    assert found["maps"][0]["values"] != found["maps"][1]["values"]


def test_a_page_keeps_the_thresholds(several: Classifier, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    request = MapRequest(methods=("saliency",), is_checked=False)
    first, second = explain_each_label(several, image, request)
    assert {int(each.explanations[0].targets[0]) for each in (first, second)} == {0, 2}
    save_page(first, tmp_path, several)
    assert load_page(tmp_path).thresholds == several.thresholds
