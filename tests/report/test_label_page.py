"""The gallery of images whose labels may be wrong."""

from pathlib import Path

import numpy as np

from glasshouse.evaluation.suspect_labels import SuspectLabel, SuspectPair
from glasshouse.report.label_page import write_label_page


def page(tmp_path: Path, *suspects: SuspectLabel | SuspectPair, doubt: str = "") -> str:
    images = {each.id: np.zeros((3, 8, 8), np.uint8) for each in suspects}
    path = tmp_path / "page.html"
    write_label_page(suspects, images, path, source="pets", image_count=9, doubt=doubt)
    return path.read_text(encoding="utf-8").replace("\u00a0", " ")


def test_an_image_has_its_label_and_the_class_predicted_instead(tmp_path: Path) -> None:
    text = page(tmp_path, SuspectLabel("a.png", "cat", "dog", 0.1, 0.9))
    assert "labelled cat 10.0 %, predicted dog 90.0 %" in text and "1 of 9 images" in text


def test_of_several_labels_a_pair_says_which_is_missing_and_which_is_wrong(tmp_path: Path) -> None:
    text = page(
        tmp_path,
        SuspectPair("a.png", "cat", is_given=True, probability=0.03),
        SuspectPair("a.png", "dog", is_given=False, probability=0.97),
    )
    assert "labelled cat, predicted only 3.0 %" in text
    assert "labelled not dog, predicted dog 97.0 %" in text
    assert "1 of 9 images" in text


def test_predictions_that_know_little_are_doubted_above_the_images(tmp_path: Path) -> None:
    suspect = SuspectLabel("a.png", "cat", "dog", 0.1, 0.9)
    assert "Use another backbone" not in page(tmp_path, suspect)
    text = page(tmp_path, suspect, doubt="Use another backbone, or more images.")
    assert text.index("Use another backbone, or more images.") < text.index("a.png")
