"""The sentences of the tour say what was measured."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glasshouse.cli import tour
from glasshouse.explanation.maps import enlargement
from glasshouse.explanation.nouns import Check


def test_evidence_against_a_class_is_not_subtracted_from_that_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, top, right, bottom = max(tour._FACE, key=lambda box: box[2] * box[3])
    values = np.zeros((1, 2 * bottom, 2 * right))
    values[0, top, left] = 3.0  # on the face
    values[0, -1, -1] = 1.0  # elsewhere
    values[0, -1, -2] = -3.5  # against it, which nearly cancels the rest
    monkeypatch.setattr(enlargement, "shown", lambda _: values)
    explanation: Any = SimpleNamespace(method=tour.SHARED)
    share, area = tour._share_of_face(explanation)
    assert share == pytest.approx(0.75)
    assert 0 < area < 1


def test_a_map_that_cannot_be_judged_did_not_fail_a_check() -> None:
    chance = "Cannot be judged: the difference from edges may be chance (+0.06)."
    open_one = Check("faithfulness", (0.06,), "note", chance)
    failed = Check("edges", (0.7,), "doubtful", "It resembles an edge detector.")
    said = []
    for checks in ((open_one,), (open_one, failed)):
        map_: Any = SimpleNamespace(checks=checks, warnings=())
        example: Any = SimpleNamespace(is_right=True, on_object=0.8, explanation=map_)
        said.append(tour._verdict(example).partition("but this map ")[2])
    assert said == [
        "is not beyond doubt, because\n    the difference from edges may be chance.",
        "failed a check, because\n    the map is little more than an edge detector.",
    ]
