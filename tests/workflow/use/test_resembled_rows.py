"""The training images next to mistakes, and the report's section on images unlike all of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glasshouse.data.images import Splits, images_by_id, take
from glasshouse.data.sources import load_splits
from glasshouse.errors import DataError, ModelError
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.models.neighbours import unit_rows
from glasshouse.models.predict import predict
from glasshouse.report.encoding import image_uri
from glasshouse.report.unlike_section import unlike_text
from glasshouse.runs import folder as runs
from glasshouse.workflow.use.known_images import features_of
from glasshouse.workflow.use.photo_and_run import RunComparison
from glasshouse.workflow.use.resembled_rows import near_tiles, tiles_near, unlike_images
from glasshouse.workflow.use.run_mistakes import explain_run_mistakes, refresh_report
from glasshouse.workflow.use.similar_images import Similar, similar_images
from tests.serving.runs import train_small


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("rows") / "run", "digits")


@pytest.fixture(scope="module")
def splits(run: Path) -> Splits:
    return load_splits("digits", runs.read_run(run).recipe.data)


@pytest.fixture(scope="module")
def classifier(run: Path) -> Classifier:
    return load_classifier(run)


def test_pages_of_mistakes_and_the_report_show_what_they_resemble(
    run: Path, splits: Splits, classifier: Classifier
) -> None:
    def report() -> str:
        return (run / runs.REPORT).read_text(encoding="utf-8")

    refresh_report(run, splits, classifier)
    assert 'id="unlike"' not in report() and "resembles" not in report()
    page = explain_run_mistakes(run, classifier=classifier).read_text(encoding="utf-8")
    comparison = RunComparison.of(run, classifier)
    rows = page.count('<div class="why">')
    assert page.count("It resembles these training images:") == rows > 0
    first = page.partition('<ul class="gallery near">')[2].partition("</ul>")[0]
    assert first.count("<li>") == 5
    name = first.partition('title="')[2].partition('"')[0]
    pixels = images_by_id(splits.train, [name])[name]
    assert image_uri(pixels) in first
    assert 'id="unlike"' in report() and "validation images are unlike" in report()
    found = unlike_images(comparison, splits, predict(classifier, splits.validation))
    assert found is not None and len(found.rows) == 8
    shown = report().count("It resembles these training images:")
    assert shown == 8 + report().count('<div class="why">')


def test_a_training_image_does_not_resemble_itself(
    run: Path, splits: Splits, classifier: Classifier
) -> None:
    comparison, some = RunComparison.of(run, classifier), take(splits.train, range(20))
    near = tiles_near(comparison, splits.train, some)
    assert all(len(tiles) == 5 for tiles in near.values())
    assert not any(name in {tile.id for tile in tiles} for name, tiles in near.items())
    body, preprocessing = comparison.body, classifier.preprocessing
    features = features_of(body, preprocessing, some.pixels)
    far = np.linalg.norm(features[:, None] - unit_rows(comparison.known.features)[None], axis=2)
    far[np.arange(20), np.arange(20)] = np.inf
    others = similar_images(comparison.known, features, own=some.ids.tolist())
    for row, each in enumerate(others):
        np.testing.assert_allclose(each.distances, np.sort(far[row])[:5], atol=2e-3)
    assert tiles_near(comparison, splits.train, take(some, [])) == {}


def test_an_image_that_is_gone_is_left_out() -> None:
    similar = Similar(("a", "b"), ("cat", "dog"), (0.25, 0.5))
    (only,) = near_tiles(similar, {"b": np.zeros((3, 8, 8), dtype=np.uint8)})
    assert (only.id, only.label, only.distance) == ("b", "dog", 0.5)


def test_validation_images_are_ranked_among_each_other(
    run: Path, splits: Splits, classifier: Classifier
) -> None:
    comparison = RunComparison.of(run, classifier)
    predictions = predict(classifier, splits.validation)
    found = unlike_images(comparison, splits, predictions)
    assert found is not None
    count = len(splits.validation)
    usual = comparison.known.usual[comparison.known.best_score]
    assert [row.words for row in found.rows[:2]] == [f"p = {k / count:.3f}" for k in (1, 2)]
    judged = comparison.compare(splits.validation.pixels, predictions.logits, similar=False)
    values = [each.familiarity.value for each in judged]
    assert found.rows[0].id == splits.validation.ids[int(np.argmax(values))]
    assert max(values) == pytest.approx(usual[-1])
    for row in found.rows:
        place = splits.validation.ids.tolist().index(row.id)
        assert row.predicted == predictions.names[place]
        assert row.is_right == (predictions.logits[place].argmax() == predictions.labels[place])
    # Images that were trained on say nothing about others.
    unknown = replace(comparison.known, usual=dict.fromkeys(comparison.known.usual, usual[:0]))
    trained_on = replace(comparison, known=unknown)
    assert unlike_images(trained_on, splits, predictions) is None


def test_how_many_are_unlike_is_said_with_how_they_are_answered() -> None:
    is_unlike, is_right = np.arange(100) < 4, np.arange(100) % 2 == 0
    said = unlike_text(is_unlike, is_right, can_tell=True)
    assert said.startswith("4 of 100 validation images are unlike the training images: ")
    assert " 50 % (15 % to 85 %) of them are answered right, and 50 % (40 % to 60 %) of all" in said
    one = unlike_text(np.arange(30) < 1, np.arange(30) > 0, can_tell=True)
    assert one.startswith("1 of 30 validation images is unlike")
    assert "It is answered wrong, and 100 % (88 % to 100 %) of all others." in one
    none = unlike_text(np.zeros(30, bool), is_right[:30], can_tell=True)
    assert none.startswith("0 of 30 validation images are") and "answered" not in none
    few = unlike_text(np.zeros(1, bool), is_right[:1], can_tell=False)
    assert few.startswith("1 validation image is too few to call one unlike")


@pytest.mark.parametrize("error", [ModelError("several heads"), DataError("it has changed")])
def test_mistakes_that_cannot_be_compared_are_explained_all_the_same(
    run: Path,
    classifier: Classifier,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: Exception,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(RunComparison, "of", refuse)
    page = explain_run_mistakes(run, tmp_path, classifier=classifier).read_text(encoding="utf-8")
    assert '<div class="why">' in page and "resembles" not in page
