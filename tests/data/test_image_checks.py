from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glasshouse.data.findings import LEVELS, Finding, names_of
from glasshouse.data.fitting import fit_to_size
from glasshouse.data.image_checks import blocking, check, resolution
from glasshouse.data.images import BadFile, ImageSet, OddFile, Splits, take
from glasshouse.errors import DataError
from tests.conftest import make_images
from tests.data.placeholder_cards import card
from tests.data.test_alike_splits import CHANGES


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
    assert counts.detail.startswith("north-west: 100")


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_splits_that_do_not_belong_together_are_not_checked(
    change: Callable[[ImageSet], ImageSet], words: str
) -> None:
    # Their images and labels would be compared as if they did.
    splits = sound()
    with pytest.raises(DataError, match=words.format("test")):
        check(replace(splits, test=change(splits.test)))


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
    assert counts.detail == "ant: 9, bee: 3, fly: 3."
    imbalance = found(splits, "imbalance")
    assert imbalance.level == "warning"
    assert imbalance.title == "The most frequent label is on 3.0 times the images of the rarest"
    assert imbalance.detail.startswith("'ant' is a label of 9 training images, 'bee' of 3; look at")


@pytest.mark.parametrize(("count", "end"), [(4, ""), (5, " and 1 more"), (1504, " and 1,500 more")])
def test_the_first_four_images_of_a_group_are_named(count: int, end: str) -> None:
    assert names_of(tuple("abcd") + ("e",) * (count - 4)) == f"a = b = c = d{end}"


def some(counts: tuple[int, ...], prefix: str, seed: int, *, size: int = 16) -> ImageSet:
    """Noise with this many images of each class, of files of 60x40 pixels."""
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3, size, size), np.uint8)
    ids = np.array([f"{prefix}/{number}" for number in range(len(labels))])
    names = ("Cat", "cat", "none")[: len(counts)]
    return ImageSet(pixels, labels, ids, names, sizes=np.full((len(labels), 2), (40, 60), np.int32))


WORDS = """
error: Classes missing in validation: The validation split has no image of 'Cat'. Add some, or
remove the class.
error: 1 image with contradicting labels: Equal images have different labels, so at least one
label in each group is wrong. They are up to 2.00 % of a split. [train/5 = train/70]
error: 2 images in more than one split: The network is tested on images that it was trained on or
selected by. They are 4.00 % of the test images: the accuracy may be up to 4.00 points too high.
Keep each image in one split only. [train/2 = test/0, train/3 = test/1]
warning: 2 files cannot be read: They are skipped here; training stops at them unless
--on-bad-file is skip. [a.jpg, b.jpg] (empty, cut)
warning: Class names look alike (1 group): 'Cat' and 'cat' differ in case, spaces, Unicode form or
leading zeros only, but are different classes. If one class is meant, give it one name.
warning: 1 image more than once in a split: They count twice in training or in the metrics. Remove
all but one. [train/5 = train/70]
warning: The validation split has other class proportions than train: 'Cat' is 60 % of train and 0
% here. An accuracy on it says little about images distributed as in train; look at the recall of
each class, or split again.
warning: The test split has other class proportions than train: 'none' is 20 % of train and 80 %
here; 'Cat' is 60 % of train and 4 % here. An accuracy on it says little about images distributed
as in train; look at the recall of each class, or split again.
warning: The largest class has 3.0 times the images of the smallest: 'Cat' has 60 training images,
'cat' 20. Always predicting 'Cat' is right 60 % of the time; look at the recall of each class, not
only at the accuracy. With train.sampling or train.class_weights = 'balanced', all classes count
equally.
warning: 1 image of a single colour: They show nothing: placeholders, or 16-bit files with a
narrow range of values. [train/1]
warning: 1 file with few grey levels: It uses a quarter of the range of the type or less, as
12-bit images in 16-bit files do, so that at most a quarter of the 256 grey levels is left.
Rescale the values of all images in the same way, in training and in use; those of 12 bits,
multiply by 16. [train/7] (values 0 to 9 of 65,535)
warning: The validation split can only detect differences above 17.9 percentage points: With 12
images, an accuracy of 80 % is known to ± 22.6 percentage points. Of two classifiers tested on
these images, one is reliably better if it leads by 17.9 points or more; tested on different
images, by 32.0. More images make smaller differences visible.
warning: The test split can only detect differences above 8.8 percentage points: With 50 images,
an accuracy of 80 % is known to ± 11.1 percentage points. Of two classifiers tested on these
images, one is reliably better if it leads by 8.8 points or more; tested on different images, by
15.7. More images make smaller differences visible.
info: A class may stand for missing labels: Programs write 'none' where a label is missing. If so,
label these images.
info: The median file has 60x40 pixels: All files have this size.
info: 2 unusual files: Animated. [train/4, train/5]
info: 1 unusual file: Grey. [train/3]
info: train: 100 images in 3 classes: Cat: 60, cat: 20, none: 20.
info: validation: 12 images in 3 classes: Cat: 0, cat: 6, none: 6.
info: test: 50 images in 3 classes: Cat: 2, cat: 8, none: 40.
"""


def in_words(finding: Finding) -> str:
    about = finding.groups or tuple((each,) for each in finding.ids)
    named = f" [{', '.join(map(' = '.join, about))}]" if about else ""
    reasons = f" ({', '.join(finding.reasons)})" if finding.reasons else ""
    return f"{finding.level}: {finding.title}: {finding.detail}{named}{reasons}"


def test_everything_that_is_found_is_said_in_full_and_in_order() -> None:
    train, validation = some((60, 20, 20), "train", 1), some((0, 6, 6), "validation", 2)
    test = some((2, 8, 40), "test", 3)
    train.pixels[1] = 9
    test.pixels[:2] = train.pixels[2:4]
    train.pixels[70] = train.pixels[5]
    found = check(
        Splits(
            train,
            validation,
            test,
            bad_files=(BadFile("a.jpg", "empty"), BadFile("b.jpg", "cut")),
            odd_files=(
                OddFile("train/3", "grey"),
                OddFile("train/4", "animated"),
                OddFile("train/5", "animated"),
            ),
            narrow_files=(("train/7", "values 0 to 9 of 65,535"),),
        )
    )
    assert " ".join(map(in_words, found)) == " ".join(WORDS.split())
    formulas = {finding.kind: finding.formula for finding in found if finding.formula}
    assert formulas["class-shares"] == (
        "Reported where a share differs by more than 5 percentage points and by more than 3 "
        "standard errors of a difference between two proportions."
    )
    assert list(formulas) == [
        "contradicting-duplicates", "leaked-duplicates", "repeated-duplicates", "class-shares",
        "resolution",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "kinds"),
    [
        ((40, 60), set()),
        ((4, 6), {"odd-size"}),  # enlarged exactly four times
        ((3, 6), {"odd-size", "tiny"}),
        ((40, 3), {"odd-size", "odd-aspect", "tiny"}),
        ((11, 15), set()),
        ((10, 14), {"odd-size"}),
        ((159, 239), set()),
        ((161, 241), {"odd-size"}),
        ((30, 89), set()),
        ((30, 91), {"odd-aspect"}),
        ((80, 61), set()),
        ((82, 61), {"odd-aspect"}),
    ],
)
def test_a_file_is_unusual_from_a_limit_on(size: tuple[int, int], kinds: set[str]) -> None:
    splits = Splits(
        some((9, 9), "train", 1), some((9, 9), "validation", 2), some((9, 9), "test", 3)
    )
    assert splits.validation.sizes is not None
    splits.validation.sizes[4] = size
    unusual = [f for f in check(splits) if f.kind in ("tiny", "odd-size", "odd-aspect")]
    assert {finding.kind for finding in unusual} == kinds
    assert all(finding.ids == ("validation/4",) for finding in unusual)


def test_what_is_said_of_unusual_files() -> None:
    splits = Splits(
        some((9, 9), "train", 1), some((9, 9), "validation", 2), some((9, 9), "test", 3)
    )
    assert splits.test.sizes is not None
    splits.test.sizes[:2] = (3, 40), (300, 800)
    words = [
        in_words(f) for f in check(splits) if f.kind in ("tiny", "odd-size", "odd-aspect", "sizes")
    ]
    keep = (
        "data.resize decides how they are resized: crop keeps the centre, letterbox and stretch "
        "keep everything."
    )
    assert words == [
        "warning: 1 tiny image: They are enlarged more than 4 times to reach 16x16 pixels, which "
        "blurs them. [test/0]",
        "info: 2 images of unusual size: More than 4 times larger or smaller per side than the "
        f"median of 60x40 pixels. {keep} [test/0, test/1]",
        "info: 1 image of unusual shape: More than 2 times wider or taller than the median of "
        f"60x40 pixels. {keep} [test/0]",
        "info: The median file has 60x40 pixels: From 40x3 to 800x300.",
    ]


@pytest.mark.parametrize(("count", "level"), [(245, "warning"), (246, "info")])
def test_a_split_is_coarse_below_a_number_of_images(count: int, level: str) -> None:
    # 1.96 * sqrt(0.8 * 0.2 / 246) is 5 points.
    tested = make_images(count, size=8, seed=3, prefix="test")
    found = check(replace(sound(8), test=tested))
    (finding,) = [each for each in found if each.title.startswith("The test split can only")]
    assert finding.level == level


@pytest.mark.parametrize(
    ("count", "changed", "is_named"),
    # Of 400 images each, by three standard errors of the difference, z = 2.94 and 3.01; of 4,000
    # each, of which these are fewer, by five points.
    [(400, 138, False), (400, 139, True), (4000, 1199, False), (4000, 1201, True)],
)
def test_a_share_has_changed_beyond_chance_and_by_five_points(
    count: int, changed: int, is_named: bool
) -> None:
    train, validation, test = (
        some((first, count - first), prefix, seed, size=2)
        for seed, (prefix, first) in enumerate(
            {"train": count // 4, "validation": count // 4, "test": changed}.items()
        )
    )
    found = check(Splits(train, validation, test))
    assert any(finding.kind == "class-shares" for finding in found) == is_named


@pytest.mark.parametrize(
    ("side", "is_checked"), [((16, 15), False), ((15, 16), False), ((16, 16), True)]
)
def test_near_duplicates_need_the_pixels_of_a_thumbnail(
    side: tuple[int, int], is_checked: bool
) -> None:
    splits = sound()
    train, validation, test = (
        replace(i, pixels=np.ascontiguousarray(i.pixels[:, :, : side[0], : side[1]]))
        for i in (splits.train, splits.validation, splits.test)
    )
    kinds = {finding.kind for finding in check(Splits(train, validation, test))}
    assert ("near-duplicates-not-checked" in kinds) != is_checked


@pytest.mark.parametrize(("count", "end"), [(20, "x: 1."), (21, "x: 1 and 1 more.")])
def test_the_first_twenty_classes_are_counted(count: int, end: str) -> None:
    names = tuple(f"c{number:02d}" for number in range(count - 1))
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8), np.uint8)
    # The last of those that are counted has the name x.
    names = (*names[:19], "x", *names[19:])
    images = ImageSet(pixels, np.arange(count), np.array([f"a/{n}" for n in range(count)]), names)
    counts = [f for f in check(Splits(images, images, images)) if f.kind == "counts"]
    assert counts[0].detail.endswith(end) and counts[0].detail.startswith("c00: 1, c01: 1, ")
