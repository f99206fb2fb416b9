from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glasshouse.data.findings import LEVELS, Finding, names_of
from glasshouse.data.fitting import fit_to_size
from glasshouse.data.image_checks import blocking, check, resolution
from glasshouse.data.images import BadFile, ImageSet, OddFile, Splits, take
from tests.conftest import make_images
from tests.data.placeholder_cards import card


def sound(size: int = 16) -> Splits:
    return Splits(
        make_images(400, size=size, seed=1, prefix="train"),
        make_images(400, size=size, seed=2, prefix="validation"),
        make_images(400, size=size, seed=3, prefix="test"),
    )


def found(splits: Splits, kind: str) -> Finding:
    (finding,) = [f for f in check(splits) if f.kind == kind]
    return finding


def copy_into_test(splits: Splits, count: int) -> Splits:
    splits.test.pixels[:count] = splits.train.pixels[:count]
    splits.test.labels[:count] = splits.train.labels[:count]
    return splits


def test_a_sound_source_gets_counts_and_no_warning() -> None:
    findings = check(sound())
    assert {finding.level for finding in findings} == {"info"}
    assert blocking(sound()) == ()
    (counts,) = [f for f in findings if f.title.startswith("train: 400")]
    assert counts.detail.startswith("north-west 100")


def test_training_images_in_test_are_named_with_their_effect_on_the_accuracy() -> None:
    finding = found(copy_into_test(sound(), 3), "leaked-duplicates")
    assert finding.level == "warning"
    assert finding.groups[0] == ("train/0000", "test/0000")
    assert "0.75 points too high" in finding.detail


def test_duplicates_that_may_move_the_accuracy_by_a_point_stop_training() -> None:
    splits = copy_into_test(sound(), 4)
    assert found(splits, "leaked-duplicates").level == "error"
    assert [finding.kind for finding in blocking(splits)] == ["leaked-duplicates"]


def test_duplicates_of_train_in_validation_leave_the_test_accuracy_right() -> None:
    splits = sound()
    splits.validation.pixels[:40] = splits.train.pixels[:40]
    splits.validation.labels[:40] = splits.train.labels[:40]
    finding = found(splits, "leaked-duplicates")
    assert finding.level == "warning"
    assert "No test image is among them" in finding.detail


@pytest.mark.parametrize(("count", "level"), [(1, "warning"), (2, "error")])
def test_equal_images_with_different_labels_contradict(count: int, level: str) -> None:
    splits = sound()
    for k in range(count):
        splits.train.pixels[4 * k + 1] = splits.train.pixels[4 * k]
    finding = found(splits, "contradicting-duplicates")
    assert finding.groups[0] == ("train/0000", "train/0001")
    assert finding.level == level  # 2 and 4 of 400


def test_an_image_that_is_in_two_splits_on_purpose_is_no_duplicate() -> None:
    splits = sound()
    both = ImageSet(
        np.concatenate([splits.train.pixels, splits.validation.pixels]),
        np.concatenate([splits.train.labels, splits.validation.labels]),
        np.concatenate([splits.train.ids, splits.validation.ids]),
        splits.class_names,
    )
    kinds = {finding.kind for finding in check(replace(splits, train=both))}
    assert not {kind for kind in kinds if "duplicates" in kind}


def test_duplicates_within_a_split_are_a_warning() -> None:
    splits = sound()
    splits.train.pixels[4] = splits.train.pixels[0]
    finding = found(splits, "repeated-duplicates")
    assert finding.level == "warning"
    assert finding.ids == ("train/0000", "train/0004")


def test_near_duplicates_are_found_in_other_splits_and_with_other_labels() -> None:
    splits = sound(32)
    brighter = np.clip(splits.train.pixels[0] * 1.1 + 9, 0, 255).astype(np.uint8)
    splits.test.pixels[1] = brighter
    assert found(splits, "leaked-near-duplicates").groups == (("train/0000", "test/0001"),)
    assert found(splits, "leaked-near-duplicates").level == "warning"
    assert found(splits, "contradicting-near-duplicates").ids == ("train/0000", "test/0001")
    splits = sound(32)
    splits.train.pixels[4] = brighter
    assert found(splits, "repeated-near-duplicates").level == "info"


def test_images_too_small_for_near_duplicates_say_so() -> None:
    assert "8x8 pixels" in found(sound(8), "near-duplicates-not-checked").detail


def test_imbalance_names_the_classes_and_the_baseline_accuracy() -> None:
    splits = sound()
    labels = splits.train.labels
    kept = np.flatnonzero((labels != 2) | (np.arange(400) < 40))
    finding = found(replace(splits, train=take(splits.train, kept)), "imbalance")
    assert "'south-west' 10" in finding.detail
    assert "32 % of the time" in finding.detail


@pytest.mark.parametrize(("smallest", "is_named"), [(34, False), (33, True)])
def test_imbalance_is_named_from_a_ratio_of_three(smallest: int, is_named: bool) -> None:
    splits = sound()
    labels = splits.train.labels
    # The other classes have 99 images.
    kept = [
        row
        for label, count in enumerate((99, 99, smallest, 99))
        for row in np.flatnonzero(labels == label)[:count]
    ]
    kinds = {each.kind for each in check(replace(splits, train=take(splits.train, np.sort(kept))))}
    assert ("imbalance" in kinds) == is_named


def test_other_class_proportions_in_a_split_are_a_warning() -> None:
    splits = sound()
    kept = np.flatnonzero((splits.test.labels != 1) | (np.arange(400) < 80))
    finding = found(replace(splits, test=take(splits.test, kept)), "class-shares")
    assert finding.title.startswith("The test split")
    assert "'north-east' is 25 % of train and 6 % here" in finding.detail


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_class_that_is_missing_in_a_split_is_an_error(name: str) -> None:
    splits = sound()
    images = getattr(splits, name)
    changed: dict[str, Any] = {name: take(images, np.flatnonzero(images.labels != 1))}
    lacking = replace(splits, **changed)
    finding = found(lacking, "missing-class")
    assert finding.level == "error"
    assert finding.detail.startswith(f"The {name} split has no image of 'north-east'.")
    assert [f.kind for f in blocking(lacking)] == ["missing-class"]


def test_constant_images_and_bad_files_are_named() -> None:
    splits = sound()
    splits.train.pixels[9] = 77
    assert found(splits, "constant").ids == ("train/0009",)
    with_bad = replace(splits, bad_files=(BadFile("cat/x.jpg", "truncated"),))
    finding = found(with_bad, "bad-files")
    assert finding.ids == ("cat/x.jpg",)
    assert finding.reasons == ("truncated",)


def test_odd_files_are_grouped_by_remark() -> None:
    odd = tuple(OddFile(f"train/000{k}", "transparency, placed on white") for k in range(2))
    finding = found(replace(sound(), odd_files=odd), "odd-files")
    assert finding.title == "2 unusual files"
    assert finding.detail == "Transparency, placed on white."
    assert finding.ids == ("train/0000", "train/0001")


def test_sizes_of_files_are_compared_with_the_median() -> None:
    sizes = np.full((400, 2), 100, np.int32)
    sizes[5], sizes[6], sizes[7] = (3, 3), (1000, 1000), (50, 500)
    splits = sound()
    with_sizes = Splits(
        replace(splits.train, sizes=sizes),
        replace(splits.validation, sizes=np.full((400, 2), 100, np.int32)),
        replace(splits.test, sizes=np.full((400, 2), 100, np.int32)),
    )
    assert found(with_sizes, "tiny").ids == ("train/0005",)
    assert found(with_sizes, "odd-size").ids == ("train/0005", "train/0006")
    assert found(with_sizes, "odd-aspect").ids == ("train/0007",)
    assert found(with_sizes, "sizes").detail == "From 3x3 to 1000x1000."


def test_a_small_split_says_what_it_can_detect() -> None:
    splits = replace(sound(), test=make_images(100, seed=3, prefix="test"))
    (finding,) = [f for f in check(splits) if f.title.startswith("The test split can only detect")]
    assert finding.level == "warning"
    assert "± 7.8 percentage points" in finding.detail  # 1.96 * sqrt(0.8 * 0.2 / 100)
    assert "6.2 percentage points" in finding.title  # 1.96 * sqrt(0.1 / 100)
    assert resolution(100).unpaired == pytest.approx(0.1109, abs=1e-4)


def test_errors_come_first() -> None:
    levels = [finding.level for finding in check(copy_into_test(sound(), 9))]
    assert levels == sorted(levels, key=LEVELS.index)
    assert levels[0] == "error"


def test_a_placeholder_is_a_warning_that_names_the_image() -> None:
    splits = sound(64)
    splits.train.pixels[5] = fit_to_size(card("image not found"), 64, 64)
    finding = found(splits, "placeholders")
    assert finding.level == "warning"
    assert finding.title == "1 image looks like a placeholder"
    assert finding.ids == ("train/0005",)


def test_formulas_are_kept_apart_from_the_words() -> None:
    (finding,) = [f for f in check(sound()) if f.title.startswith("The test split can only detect")]
    assert "√" not in finding.detail
    assert "1.96 √(d/n)" in finding.formula


def with_names(*names: str) -> Splits:
    splits = sound()
    train, validation, test = (
        replace(images, class_names=names)
        for images in (splits.train, splits.validation, splits.test)
    )
    return Splits(train, validation, test)


def test_class_names_that_look_alike_are_a_warning() -> None:
    finding = found(with_names("Cat", "cat", "dog", "bird"), "similar-class-names")
    assert finding.level == "warning"
    assert finding.detail.startswith("'Cat' and 'cat' differ in case")


def test_a_class_that_may_stand_for_missing_labels_is_named() -> None:
    finding = found(with_names("none", "cat", "dog", "bird"), "missing-labels")
    assert finding.level == "info"
    assert "'none'" in finding.detail


def test_labels_of_which_an_image_may_have_several_are_counted_on_their_own() -> None:
    images = make_images(12)
    matrix = np.zeros((12, 3), dtype=bool)
    matrix[:9, 0], matrix[:3, 1], matrix[8:11, 2] = True, True, True
    several = replace(images, targets=matrix, class_names=("ant", "bee", "fly"))
    splits = Splits(several, several, several)
    (counts,) = [f for f in check(splits) if f.title.startswith("train: 12 images")]
    assert counts.title == "train: 12 images with 3 labels; 1 have none"
    assert counts.detail == "ant 9, bee 3, fly 3."
    imbalance = found(splits, "imbalance")
    assert imbalance.level == "warning"
    assert imbalance.title == "The most frequent label is on 3.0 times the images of the rarest"
    assert imbalance.detail.startswith("'ant' is a label of 9 training images, 'bee' of 3; look at")


@pytest.mark.parametrize(("count", "end"), [(4, ""), (5, " and 1 more"), (1504, " and 1,500 more")])
def test_the_first_four_images_of_a_group_are_named(count: int, end: str) -> None:
    assert names_of(tuple("abcd") + ("e",) * (count - 4)) == f"a = b = c = d{end}"
