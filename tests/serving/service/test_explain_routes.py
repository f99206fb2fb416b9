import base64

import numpy as np
import pytest

from glasshouse.data.decode import decode
from glasshouse.explanation.explain import explain
from glasshouse.models.classifier import Classifier
from glasshouse.models.preprocessing import preprocess
from tests.serving.service.conftest import CLASS_NAMES, Caller, png

RAW = {"content-type": "image/png"}


def test_the_maps_are_those_of_explain(ask: Caller, classifier: Classifier) -> None:
    pixels = preprocess(decode(png(3)), classifier.preprocessing)[None]
    expected = explain(classifier, pixels, methods=("saliency", "grad-cam"), target_class="dog")
    path = "/explain?method=saliency&method=grad-cam&class=dog&form=both"
    answer = ask("POST", path, content=png(3), headers=RAW)
    assert answer.status_code == 200, answer.text
    found = answer.json()["explanations"][0]
    assert {each["explained"][0] for each in found["maps"]} == {"dog"}
    assert {each["targets"][0] for each in found["maps"]} == {CLASS_NAMES.index("dog")}
    assert found["predicted"]["class"] in CLASS_NAMES
    for made, wanted in zip(found["maps"], expected, strict=True):
        assert (made["method"], made["layer"]) == (wanted.method, wanted.layer)
        np.testing.assert_allclose(made["values"], wanted.maps[0], rtol=1e-4, atol=1e-6)
        overlay = decode(base64.b64decode(made["overlay_png"]))
        assert overlay.shape == (16, 16, 3) and overlay.std() > 0


def test_the_predicted_class_has_the_probability_that_predict_gives(ask: Caller) -> None:
    predicted = ask("POST", "/predict?top=1", content=png(3), headers=RAW).json()
    explained = ask("POST", "/explain?method=saliency", content=png(3), headers=RAW).json()
    (expected,) = predicted["predictions"][0]["top"]
    found = explained["explanations"][0]["predicted"]
    assert found["class"] == expected["class"]
    # The classifier is calibrated: without its temperature they would differ.
    assert found["probability"] == pytest.approx(expected["probability"], abs=1e-5)


def test_all_methods_come_with_their_checks(ask: Caller) -> None:
    answer = ask("POST", "/explain?method=all&checks=true", content=png(1), headers=RAW)
    maps = answer.json()["explanations"][0]["maps"]
    assert len(maps) > 5
    assert any(each["checks"] for each in maps)
    assert all("values" not in each for each in maps)


@pytest.mark.parametrize(
    ("query", "words"),
    [("method=grad-kam", "Did you mean 'grad-cam'"), ("class=horse", "no class 'horse'"),
     ("class=7", "expected 0 to 3"), ("layer=nowhere&method=grad-cam", "nowhere"),
     ("form=svg", "overlay"), ("checks=perhaps", "checks"),
     (f"class={'9' * 5000}", "200"), (f"method={'x' * 5000}", "200")],
)  # fmt: skip
def test_what_cannot_be_explained_is_a_problem(ask: Caller, query: str, words: str) -> None:
    answer = ask("POST", f"/explain?{query}", content=png(1), headers=RAW)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


def test_only_a_few_images_are_explained_at_a_time(ask: Caller) -> None:
    form = [("p", (f"{i}.png", png(i))) for i in range(3)]
    assert ask("POST", "/explain", files=form).status_code == 422
    answer = ask("POST", "/explain?method=saliency", files=form[:2])
    assert [each["image"] for each in answer.json()["explanations"]] == ["0.png", "1.png"]
