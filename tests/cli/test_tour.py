"""The sentences of the tour say what was measured."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glasshouse.cli import tour
from glasshouse.explanation.maps import enlargement


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
