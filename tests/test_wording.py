import os
from pathlib import Path

import pytest

from glasshouse.wording import (
    abbreviated,
    duration,
    epochs_so_far,
    file_size,
    first_of,
    level,
    listed,
    p_words,
    percentage,
    pluralize,
    readable_name,
    shown_path,
    start_of_name,
    unbroken,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.02, "0.1 s"),
        (0.44, "0.4 s"),
        (0.97, "1 s"),
        (59.4, "59 s"),
        (59.6, "1:00 min"),
        (200, "3:20 min"),
        (3723, "1:02:03 h"),
        (48 * 3600 - 1, "47:59:59 h"),
        (48 * 3600, "2 days 0 h"),
        (10 * 24 * 3600 + 5 * 3600 + 59, "10 days 5 h"),
    ],
)
def test_durations_are_rounded_to_what_one_reads(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_p_value_is_never_zero() -> None:
    assert [p_words(p) for p in (0.0004, 0.001, 0.25)] == ["p < 0.001", "p = 0.001", "p = 0.250"]


def test_a_count_agrees_with_its_noun() -> None:
    assert pluralize(1, "image") == "1 image"
    assert pluralize(2000, "image") == "2,000 images"
    assert pluralize(2, "class", "classes") == "2 classes"


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0, "0 %"), (1, "100 %"), (0.742, "74 %"), (0.0004, "under 0.1 %"), (0.004, "0.4 %"),
        (0.998, "99.8 %"), (0.99999, "over 99.9 %"), (0.0195, "2 %"), (0.98, "98 %"),
    ],
)  # fmt: skip
def test_percentages_are_never_rounded_to_nothing_or_to_certainty(share: float, words: str) -> None:
    assert percentage(share) == words


def test_percentages_have_the_digits_that_a_column_or_a_level_asks_for() -> None:
    assert [percentage(share, 1) for share in (0.08, 0.99999)] == ["8.0 %", "100.0 %"]
    assert [level(share) for share in (0.95, 0.975)] == ["95 %", "97.5 %"]


def test_words_are_listed_as_people_do() -> None:
    assert [listed("abc"[:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert listed("abc", "or") == "a, b or c"


def test_a_number_stays_on_the_line_of_its_unit() -> None:
    words = unbroken("80 % to 9.5 % and -3.2 points, p < 0.001 (p &lt; 0.05), 12 sets of 4 points")
    assert words.replace("\u00a0", "_") == (
        "80_% to 9.5_% and -3.2_points, p_<_0.001 (p_&lt;_0.05), 12 sets of 4_points"
    )
    recipe = 'epochs = 10  # "50 steps"'
    assert unbroken(recipe) == recipe


def test_a_name_that_is_not_utf_8_is_written_with_escapes() -> None:
    assert readable_name(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"
    assert readable_name("caf\u00e9 \u732b.png") == "caf\u00e9 \u732b.png"
    assert readable_name("a\nb\x1b[2J\x9b.png") == "a\\nb\\x1b[2J\\x9b.png"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (26_100_000, "26.1 MB"),
        (5 * 10**9, "5.0 GB"),
    ],
)  # fmt: skip
def test_a_number_of_bytes_has_the_unit_that_suits_it(count: int, text: str) -> None:
    assert file_size(count) == text


def test_a_path_below_the_current_folder_is_shown_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    assert shown_path(str(here / "my" / "photos")) == str(Path("my/photos"))
    for other in (str(here), str(here.parent / "photos"), "digits", "my/photos", ""):
        assert shown_path(other) == other


def test_a_long_name_keeps_both_ends() -> None:
    assert abbreviated("layer4.1.conv2") == "layer4.1.conv2"
    assert abbreviated("x" * 40) == "x" * 40
    short = abbreviated("features." + "x" * 90 + ".norm2", 20)
    assert len(short) == 20 and short.startswith("features.") and short.endswith(".norm2")


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("photos", "photos"),
        ("12345678", "12345678"),
        ("123456789", "12345678"),
        ("caf\udce9", "caf\udce9"),
        ("\u732b" * 3, "\u732b" * 2),  # three bytes each
    ],
)
def test_of_a_name_as_many_bytes_are_left_as_fit(name: str, start: str) -> None:
    assert start_of_name(name, 8) == start


@pytest.mark.parametrize(
    ("count", "join", "text"),
    [
        (0, ", ", ""), (1, ", ", "a"), (2, ", ", "a, b"), (3, ", ", "a, b and 1 more"),
        (3, "; ", "a; b; and 1 more"), (2, " = ", "a = b"), (4, " = ", "a = b and 2 more"),
        (1002, ", ", "a, b and 1,000 more"),
    ],
)  # fmt: skip
def test_the_first_of_many_are_named_and_the_others_counted(
    count: int, join: str, text: str
) -> None:
    assert first_of(["a", "b", *"c" * 1000][:count], 2, join) == text


@pytest.mark.parametrize(
    ("epoch", "epochs", "words"),
    [(3, 10, "3/10"), (1500, 2000, "1,500/2,000"), (80, 10**9, "80, until stopped")],
)
def test_a_training_without_end_has_no_count_of_its_epochs(
    epoch: int, epochs: int, words: str
) -> None:
    assert epochs_so_far(epoch, epochs) == words
