"""What notebooks show for the nouns: short, escaped, and nothing loaded from elsewhere."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import nn

from glasshouse.data.images import BadFile, ImageSet, Splits, take
from glasshouse.evaluation.evaluation import evaluate
from glasshouse.explanation.explain import explain
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions, predict
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.report.noun_html import noun_html
from tests.conftest import make_images

EVIL = "<script>alert('x')</script>"


def classifier_of(names: tuple[str, ...], size: int = 16) -> Classifier:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, len(names)))
    return Classifier(net, Preprocessing(size, size), names, temperature=1.5, mirror=True)


def nouns(names: tuple[str, ...], images: ImageSet) -> dict[str, Any]:
    own = replace(images, class_names=names, ids=np.array([f"{EVIL}{i}" for i in images.ids]))
    classifier = classifier_of(names)
    bad = (BadFile(EVIL, EVIL),)
    predictions = predict(classifier, own)
    return {
        "ImageSet": own,
        "Splits": Splits(own, own, own, bad_files=bad, notes=(EVIL,)),
        "Classifier": classifier,
        "Predictions": predictions,
        "Evaluation": evaluate(predictions),
        "Explanation": explain(classifier, take(own, [0]), methods="saliency")[0],
    }


@pytest.mark.parametrize("name", list(nouns((EVIL, "b", "c", "d"), make_images(8))))
def test_every_noun_has_html_that_is_safe_short_and_self_contained(name: str) -> None:
    noun = nouns((EVIL, "b & c", "c", "d" * 50), make_images(300))[name]
    html = noun._repr_html_()
    assert "<script" not in html and "alert('x')" not in html
    assert name == "Explanation" or "&lt;script&gt;" in html
    assert len(html) < 200_000
    assert set(re.findall(r'(?:src|href)="([a-z]+:)', html)) <= {"data:"}
    # The page decides on colours of text and paper; a bar and translucent greys suit any.
    assert not re.search(r"[^-]color: |background: (?!none|#3b8fd0|rgba)", html)


def test_a_thousand_classes_of_noise_stay_below_the_limit() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 3, 64, 64), dtype=np.uint8)
    names = tuple(f"class {i}" for i in range(1000))
    ids = np.arange(2000).astype(str)
    images = ImageSet(pixels, np.arange(2000) % 1000 % 12, ids, names)
    html = noun_html(images)
    assert len(html) < 200_000 and "and 990 more classes" in html
    classifier = classifier_of(names, 64)
    assert "class 11 and 988 more" in noun_html(classifier)
    assert len(noun_html(evaluate(predict(classifier, images)))) < 20_000


@pytest.mark.parametrize(
    ("mirror", "shifts", "words"),
    [
        (True, False, "mean of each image and its mirror image<"),
        (False, True, "mean of each image, and it moved by a pixel up left and down right<"),
        (True, True, "its mirror image, and both moved by a pixel up left and down right<"),
    ],
)
def test_the_views_of_an_image_are_named(mirror: bool, shifts: bool, words: str) -> None:
    classifier = replace(classifier_of(("a", "b")), mirror=mirror, shifts=shifts)
    assert words in noun_html(classifier)


def test_predictions_show_true_classes_only_where_they_are_known(tiny_images: ImageSet) -> None:
    classifier = classifier_of(tiny_images.class_names)
    predictions = predict(classifier, tiny_images)
    html = noun_html(predictions)
    assert "true class" in html and "p/0009" in html and "p/0010" not in html
    assert "and 54 more images" in html
    share = predictions.probabilities[0].max()
    assert f"{100 * share:.1f}\u00a0%" in html
    alone = noun_html(classifier.predict(tiny_images.pixels[:1]))
    assert "true class" not in alone and "image 0" in alone
    two = Predictions(
        np.ones((1, 2), np.float32), np.zeros(1, np.int64), np.array(["a"]), ("x", "y")
    )
    assert "third" not in noun_html(two)


def test_a_split_without_images_and_another_thing(tiny_splits: Splits) -> None:
    empty = replace(tiny_splits, test=take(tiny_splits.test, []))
    assert "24" in noun_html(empty)
    assert "ImageSet: 0 images" in noun_html(empty.test)
    with pytest.raises(TypeError, match="received an int"):
        noun_html(3)
