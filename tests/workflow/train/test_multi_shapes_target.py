"""The measured claim about generated images with two shapes: precise, and maps point right."""

import importlib
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_labels_of_two_shapes_are_learned_and_maps_point_to_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Path(__file__).parents[3] / "bench"
    monkeypatch.syspath_prepend(str(bench))
    monkeypatch.setattr(sys, "argv", ["explain_multi_shapes.py", "--images", "300"])
    script = importlib.import_module("explain_multi_shapes")
    with pytest.raises(SystemExit) as ended:
        script.main()
    # Mean average precision >= 0.9, and >= 85 % of the maps on the object of their own label.
    assert not ended.value.code
