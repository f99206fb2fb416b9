"""Mistakes on labels, where an image may have several."""

from dataclasses import replace

import numpy as np
import pytest

from glasshouse.data.images import ImageSet
from glasshouse.errors import DataError
from glasshouse.evaluation.multi_label import evaluate_labels
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.label_mistakes import explain_label_mistakes
from glasshouse.models.predict import predict
from glasshouse.report.explanation_page import label_mistake_rows, render_mistakes_page
from tests.explanation.nets import NAMES, classifier_of, pooled_net, some_images


def test_each_wrong_label_has_its_own_map_and_those_of_labels_that_are_there() -> None:
    classifier = replace(classifier_of(pooled_net()), thresholds=(0.5,) * 5)
    targets = np.random.default_rng(0).random((20, 5)) < 0.4
    images = ImageSet(some_images(20), targets, np.array([f"p/{i}" for i in range(20)]), NAMES)
    predictions = predict(classifier, images)
    worst, *kinds = explain_label_mistakes(classifier, images, predictions, count=4)
    reported = evaluate_labels(predictions)
    assert worst.errors == reported.errors[:4]
    shares = predictions.probabilities
    for place, error in enumerate(worst.errors):
        row, label = images.ids.tolist().index(error.id), NAMES.index(error.label)
        assert error.is_missed == targets[row, label]
        (first, *others) = np.flatnonzero(worst.rows == place)
        assert worst.explanation.targets[first] == label
        assert {int(worst.explanation.targets[k]) for k in others} <= set(
            np.flatnonzero(targets[row]).tolist()
        )
        alone = explain_page(
            classifier, images.pixels[row : row + 1], methods=["grad-cam"], target_class=label
        )
        map_alone = alone.explanations[0].maps[0]
        np.testing.assert_allclose(worst.explanation.maps[first], map_alone, atol=1e-6)
        tiles = label_mistake_rows(worst)[place].tiles
        assert f"Why {error.label} ({shares[row, label]:.0%}".replace("%", " %") in tiles[1][0]
    # Every other group is of one label, missed or wrongly marked.
    assert len(kinds) >= 3
    for each in kinds:
        (kind,) = {(e.label, e.is_missed) for e in each.errors}
        assert each.title.startswith(f"{kind[0]} {'missed' if kind[1] else 'wrongly marked'} (")
    page = render_mistakes_page([worst, *kinds])
    assert "wrongly marked or missed for it" in page and " rather than " not in page
    with pytest.raises(DataError, match="the predictions of these images"):
        explain_label_mistakes(classifier, images, replace(predictions, ids=images.ids[::-1]))
    right = replace(predictions, targets=predictions.predicted_matrix)
    assert explain_label_mistakes(classifier, images, right) == ()
