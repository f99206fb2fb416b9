from dataclasses import replace

import numpy as np

from glasshouse.data.checks import Finding, check
from glasshouse.data.images import BadFile, Splits, take
from tests.conftest import make_images


def sound() -> Splits:
    return Splits(
        make_images(400, seed=1, prefix="train"),
        make_images(400, seed=2, prefix="validation"),
        make_images(400, seed=3, prefix="test"),
    )


def found(splits: Splits, words: str) -> Finding:
    (finding,) = [f for f in check(splits) if words in f.title]
    return finding


def test_a_sound_set_gets_counts_and_no_alarm() -> None:
    findings = check(sound())
    assert {finding.level for finding in findings} == {"info"}
    assert found(sound(), "train: 400").detail.startswith("north-west 100")


def test_a_picture_of_train_in_test_is_an_error_that_names_both() -> None:
    splits = sound()
    splits.test.pictures[7] = splits.train.pictures[3]
    splits.test.labels[7] = splits.train.labels[3]
    finding = found(splits, "in more than one part")
    assert finding.level == "error"
    assert set(finding.ids) == {"train/0003", "test/0007"}


def test_equal_pictures_with_different_labels_contradict() -> None:
    splits = sound()
    splits.train.pictures[1] = splits.train.pictures[0]
    assert splits.train.labels[0] != splits.train.labels[1]
    assert found(splits, "contradicting labels").ids == ("train/0000", "train/0001")


def test_copies_within_a_part_are_a_warning() -> None:
    splits = sound()
    splits.train.pictures[4] = splits.train.pictures[0]
    assert found(splits, "more than once").level == "warning"


def test_imbalance_names_the_classes_and_what_guessing_reaches() -> None:
    splits = sound()
    labels = splits.train.labels
    kept = np.flatnonzero((labels != 2) | (np.arange(400) < 40))
    finding = found(replace(splits, train=take(splits.train, kept)), "times in size")
    assert "'south-west' 10" in finding.detail
    assert "32% of the time" in finding.detail


def test_a_class_that_a_part_lacks_is_an_error() -> None:
    splits = sound()
    kept = np.flatnonzero(splits.validation.labels != 1)
    finding = found(
        replace(splits, validation=take(splits.validation, kept)), "missing in validation"
    )
    assert finding.level == "error"
    assert "'north-east'" in finding.detail


def test_constant_pictures_and_bad_files_are_named() -> None:
    splits = sound()
    splits.train.pictures[9] = 77
    assert found(splits, "single colour").ids == ("train/0009",)
    with_bad = replace(splits, bad_files=(BadFile("cat/x.jpg", "cut short"),))
    finding = found(with_bad, "cannot be read")
    assert finding.ids == ("cat/x.jpg",)
    assert "cat/x.jpg: cut short" in finding.detail


def test_a_small_part_says_what_it_can_tell() -> None:
    splits = replace(sound(), test=make_images(100, seed=3, prefix="test"))
    finding = found(splits, "test tells differences")
    assert finding.level == "warning"
    assert "± 7.8 points" in finding.detail  # 1.96 * sqrt(0.8 * 0.2 / 100)


def test_errors_come_first() -> None:
    splits = sound()
    splits.test.pictures[7] = splits.train.pictures[3]
    levels = [finding.level for finding in check(splits)]
    assert levels == sorted(levels, key=["error", "warning", "info"].index)
