import numpy as np
import pytest

from glasshouse.models.appearance import appearance_of
from glasshouse.models.unusual_scores import (
    UNUSUAL_SCORES,
    Unit,
    UnusualScore,
    fit_gaussians,
    fit_looks,
    look_scores,
    scored_together,
)
from glasshouse.workflow.use.known_images import KnownImages
from glasshouse.workflow.use.unknown_images import Familiarity, familiarity

# All photos here look alike: what differs are their features and logits.
GREY = np.full((2, 3, 8, 8), 90, np.uint8)
LOOKS, UNIT = fit_looks(appearance_of(GREY)), Unit(0.5, 0.25)
# The validation images of these tests are at distances from 0.01 to 1, and as grey.
VALIDATION = scored_together(
    np.linspace(0.01, 1, 100), look_scores(LOOKS, appearance_of(np.resize(GREY, (100, 3, 8, 8)))),
    (UNIT, UNIT),
)  # fmt: skip


def known(best: UnusualScore, held_out: int = 100) -> KnownImages:
    features = np.eye(8, dtype=np.float16)[np.arange(12) % 2]
    areas = {name: 0.9 if name == best else 0.6 for name in UNUSUAL_SCORES}
    return KnownImages(
        features,
        labels=np.array(["a", "b"] * 6),
        ids=np.arange(12).astype(str),
        gaussians=fit_gaussians(features, np.arange(12) % 2),
        looks=LOOKS,
        units=dict.fromkeys((*UNUSUAL_SCORES, "appearance"), UNIT),
        usual=dict.fromkeys(UNUSUAL_SCORES, VALIDATION[:held_out]),
        # One kind on which another score is better, but not on average.
        auroc={"a": areas, "b": areas, "c": dict.fromkeys(UNUSUAL_SCORES, 0.7)},
    )


def test_a_photo_is_unknown_where_few_validation_images_are_as_unusual() -> None:
    rows = np.eye(8, dtype=np.float32)[[0, 7]]
    near, far = familiarity(known("nearest"), GREY, rows, np.zeros((2, 2)), several=False)
    assert not near.is_unknown and near.as_unusual == 100 and near.p_value == 1
    assert far.is_unknown and far.as_unusual == 0
    assert far.p_value == pytest.approx(1 / 101)
    assert far.words() == (
        "unlike anything it was trained on: 0 of 100 validation images are as unusual in "
        "appearance and distance from the training images"
    )
    assert near.words().startswith("not unusual: 100 of 100 validation images are as unusual")


def test_the_score_that_tells_made_outliers_best_decides() -> None:
    logits = np.array([[9.0, 0.0], [0.0, 0.0]])
    asked = np.eye(8, dtype=np.float32)[[7, 0]]
    by_softmax = familiarity(known("softmax"), GREY, asked, logits, several=False)
    assert [each.score for each in by_softmax] == ["softmax", "softmax"]
    assert by_softmax[0].value < by_softmax[1].value
    by_distance = familiarity(known("nearest"), GREY, asked, logits, several=False)
    assert by_distance[0].value > by_distance[1].value


def test_a_photo_that_only_looks_unusual_is_unknown() -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (1, 3, 8, 8), dtype=np.uint8)
    row = np.eye(8, dtype=np.float32)[:1]
    for pixels, is_unknown in ((GREY[:1], False), (noise, True)):
        (found,) = familiarity(known("nearest"), pixels, row, np.zeros((1, 2)), several=False)
        assert found.is_unknown == is_unknown


@pytest.mark.parametrize(
    ("as_unusual", "among", "is_unknown"),
    [(3, 100, True), (5, 100, False), (0, 18, False), (0, 19, False), (0, 20, True)],
)
def test_few_validation_images_cannot_call_a_photo_unknown(
    as_unusual: int, among: int, is_unknown: bool
) -> None:
    found = Familiarity("energy", 1.0, as_unusual, among)
    assert found.is_unknown == is_unknown and found.can_tell == (among >= 20)
    assert found.words().startswith("too few validation images to tell") == (among < 20)


def test_without_validation_images_nothing_is_claimed() -> None:
    (found,) = familiarity(
        known("nearest", held_out=0),
        GREY[:1],
        np.eye(8, dtype=np.float32)[7:],
        np.zeros((1, 2)),
        several=False,
    )
    assert found.p_value is None and not found.is_unknown
    assert "no validation images were held out" in found.words()
    assert found.as_json()["p_value"] is None
