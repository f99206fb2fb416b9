import sys

import pytest

from glasshouse.serving.deferred import deferred


def test_the_module_is_imported_at_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    convert = deferred("colorsys", "rgb_to_hsv")
    assert "colorsys" not in sys.modules
    assert convert(1.0, 0.0, b=0.0) == (0.0, 1.0, 1.0)
    assert "colorsys" in sys.modules


@pytest.mark.parametrize(
    ("module", "function"),
    [
        ("glasshouse.serving.run_images", "test_image_png"),
        ("glasshouse.serving.run_images", "class_map_png"),
        ("glasshouse.serving.run_images", "confusion_cell"),
        ("glasshouse.serving.run_images", "positions_by_id"),
        ("glasshouse.serving.layer_table", "layer_rows"),
        ("glasshouse.serving.paired_tests", "paired_tests"),
        ("glasshouse.serving.augmented_images", "augmented_images"),
        ("glasshouse.serving.check_cache", "image_of"),
        ("glasshouse.serving.pages.data_view", "fill"),
        ("glasshouse.serving.pages.explain.view", "fill"),
    ],
)
def test_what_the_pages_name_exists(module: str, function: str) -> None:
    __import__(module)
    assert callable(getattr(sys.modules[module], function))
