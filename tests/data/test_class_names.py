import unicodedata

import pytest
from hypothesis import given, strategies as st

from glasshouse.data.class_names import (
    are_characters,
    describe_similar,
    is_missing,
    list_classes,
    normal_name,
    often_missing,
    similar_names,
    stands_for_none,
)

CAFE, CAFE_APART = "caf\u00e9", "cafe\u0301"
NAMES = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["dog", "Cat", "cat"], ("Cat", "cat", "dog")),
        ([str(k) for k in range(12)], tuple(str(k) for k in range(12))),
        (["01", "1", "2"], ("01", "1", "2")),
        (["0.5", "10.25", "9.0"], ("0.5", "9.0", "10.25")),
        (["1", "0", "-1", "-10"], ("-10", "-1", "0", "1")),
        # As in folders of other tools: only numbers are ordered by value.
        (["n2", "n10", "n1"], ("n1", "n10", "n2")),
        (["10", "9", "cat"], ("10", "9", "cat")),
    ],
)
def test_numbers_are_ordered_by_value_and_names_alphabetically(
    labels: list[str], names: tuple[str, ...]
) -> None:
    assert list_classes(labels).names == names


@pytest.mark.parametrize("labels", [["0.0", "1.0", "10.0"], ["0", "1.0", "10.00"]])
def test_whole_numbers_that_were_stored_as_floats_lose_their_fraction(labels: list[str]) -> None:
    assert list_classes(labels).names == ("0", "1", "10")


def test_a_fraction_is_kept_where_any_number_has_one_that_counts() -> None:
    assert list_classes(["1.0", "1.5"]).names == ("1.0", "1.5")
    assert list_classes(["1.0", "cat"]).names == ("1.0", "cat")


def test_white_space_and_unicode_form_make_no_class_of_their_own() -> None:
    classes = list_classes([CAFE, "cat ", CAFE_APART, "cat"])
    assert classes.names == (CAFE, "cat")
    assert classes.labels.tolist() == [0, 1, 0, 1]
    assert "'cat ' and 'cat'" in classes.notes[0]
    assert "'cafe\\u0301'" in classes.notes[0]


def test_a_class_without_images_is_kept_and_nothing_is_noted_of_ordinary_names() -> None:
    classes = list_classes(["cat"], unused=["dog", "cat"])
    assert classes.names == ("cat", "dog")
    assert classes.notes == ()


@pytest.mark.parametrize(
    "group",
    [
        ("Cat", "cat"),
        ("hot dog", "hot_dog", "hot-dog", "hot  dog"),
        ("1", "01"),
        ("class 7", "class_007"),
        ("\ufb01sh", "fish"),
        ("ca\u200bt", "cat"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_names_that_look_alike_are_one_group(group: tuple[str, ...]) -> None:
    assert similar_names(["zebra", *group, "ant"]) == (group,)


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "cats"), ("-1", "1"), ("1", "10", "100"), ("1.0", "10"), ("1.05", "1.5"),
        ("n01440764", "n01443537"), ("0", "00a"), ("hotdog", "hot dog"),
        ("a\x01b", "ab"),
    ],
)  # fmt: skip
def test_different_names_are_not_reported(names: tuple[str, ...]) -> None:
    assert similar_names(names) == ()


@pytest.mark.parametrize("label", ["", " ", "nan", "NaN", " NaN ", "NaT", "<NA>", "#N/A"])
def test_what_programs_write_for_a_missing_label_is_no_label(label: str) -> None:
    assert is_missing(label)
    assert not is_missing(f"{label}x")


def test_words_that_may_be_classes_or_missing_labels_are_only_doubtful() -> None:
    assert not is_missing("none")
    assert often_missing(("cat", "None", "nan")) == ("None", "nan")


@given(NAMES)
def test_each_label_gets_its_own_normal_name_whatever_the_order(labels: list[str]) -> None:
    classes = list_classes(labels)
    again = list_classes(labels[::-1])
    assert again.names == classes.names
    assert again.labels.tolist() == classes.labels.tolist()[::-1]
    assert len(set(classes.names)) == len(classes.names)
    for label, number in zip(labels, classes.labels.tolist(), strict=True):
        assert normal_name(label).startswith(classes.names[number])


@given(NAMES)
def test_any_unicode_form_of_the_labels_gives_the_same_classes(labels: list[str]) -> None:
    other = [f" {unicodedata.normalize('NFD', label)}" for label in labels]
    assert list_classes(other).names == list_classes(labels).names


@given(st.lists(st.integers(-999, 999), min_size=1, unique=True))
def test_integers_are_in_the_order_of_their_values(values: list[int]) -> None:
    names = list_classes([str(value) for value in values]).names
    assert [int(name) for name in names] == sorted(values)


@given(NAMES)
def test_a_group_of_similar_names_holds_different_classes(labels: list[str]) -> None:
    names = list_classes(labels).names
    groups = similar_names(names)
    found = [name for group in groups for name in group]
    assert len(set(found)) == len(found)
    assert set(found) <= set(names)


def test_classes_of_single_digits_or_letters_look_like_characters() -> None:
    assert are_characters(tuple("0123456789")) and are_characters(("a", "é"))
    assert not are_characters(("cat", "b")) and not are_characters(("0", "10"))
    assert not are_characters(("+", "-")) and not are_characters(("a",))
    assert not are_characters(())


@pytest.mark.parametrize(("count", "end"), [(5, "'e' and 'E'"), (6, "'e' and 'E'; and 1 more")])
def test_groups_of_names_are_shown_up_to_five(count: int, end: str) -> None:
    described = describe_similar([(name, name.upper()) for name in "abcdef"[:count]])
    assert described.startswith(f"'a' and 'A'; 'b' and 'B'; 'c' and 'C'; 'd' and 'D'; {end} differ")
    (note,) = list_classes(
        [f"{name}{space}" for name in "abcdef"[:count] for space in ("", " ")]
    ).notes
    shown = end.replace("'E'", "'e '")
    assert note.endswith(f"'a' and 'a '; 'b' and 'b '; 'c' and 'c '; 'd' and 'd '; {shown}.")


def test_minus_one_is_no_class_next_to_several_numbers_from_zero_on() -> None:
    for labels in (["-1", "0", "1"], ["7", "-1", "8"]):
        assert stands_for_none(labels)
    for labels in (["0", "1"], ["-1", "1", "1"], ["-1"], [], ["-1", "-2", "0"], ["-1", "ant", "0"]):
        assert not stands_for_none(labels)
