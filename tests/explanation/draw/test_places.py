"""Where the parts of a drawing are, as the calls that draw them say it."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glasshouse.explanation.draw import sheet
from glasshouse.explanation.draw.canvas import SMALL, TITLE, Canvas, text_width
from glasshouse.explanation.draw.overlay import ColourScale
from glasshouse.explanation.draw.photo_and_map import draw_photo_and_map
from glasshouse.explanation.draw.sheet import _outline, draw_sheet
from glasshouse.explanation.draw.sheet_words import MARKS
from glasshouse.explanation.draw.tiles import draw_channel
from glasshouse.explanation.nouns import Activations, Check
from tests.explanation.draw.test_sheet import explanation_of, page_of

Calls = dict[str, list[tuple[Any, ...]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The arguments of every call of a canvas, by the name of its method."""
    found: Calls = defaultdict(list)

    def noting(name: str) -> Any:
        original = getattr(Canvas, name)

        def noted(self: Canvas, *arguments: Any, **options: Any) -> None:
            found[name].append((*arguments, *options.values()))
            original(self, *arguments, **options)

        return noted

    for name in ("write", "fill", "line", "colour_bar"):
        monkeypatch.setattr(Canvas, name, noting(name))
    return found


def test_a_bar_of_a_probability_lies_on_its_ground_and_ends_at_the_margin(calls: Calls) -> None:
    draw_sheet(page_of(explanation_of("grad-cam", 0)))
    grounds, bars = calls["fill"][::2], calls["fill"][1::2]
    shares = np.exp([2.0, 1.0, 0.5, 0.2, 0.0])
    for (ground, size, _), (bar, filled, _), share in zip(
        grounds, bars, shares / shares.sum(), strict=True
    ):
        assert bar == ground and size[1] == filled[1]
        assert filled[0] == round(size[0] * share)
        assert ground[0] + size[0] == 1240 - 26


def test_the_words_of_a_check_stand_beside_its_mark(calls: Calls) -> None:
    doubtful = (Check("edges", (0.9,), "doubtful", "It hardly depends on the class."),)
    maps = [replace(explanation_of(name, n), checks=doubtful)
            for n, name in enumerate(("grad-cam", "occlusion", "saliency"))]  # fmt: skip
    draw_sheet(page_of(*maps))
    texts = {(point[0], point[1]): text for point, text, *_ in calls["write"]}
    marks = [place for place, text in texts.items() if text == MARKS["doubtful"][0]]
    assert len(marks) == 3 and all((left + 16, top) in texts for left, top in marks)


def test_the_words_of_a_prediction_set_are_under_the_classes(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheet, "set_words", lambda page, index: "One of dog, bird.")
    draw_sheet(page_of(explanation_of("grad-cam", 0)))
    below = max(point[1] for point, *_ in calls["fill"])
    (place,) = (point for point, text, *_ in calls["write"] if text == "One of dog, bird.")
    assert place[0] == calls["fill"][0][0][0] and place[1] > below


def test_an_outline_follows_the_edges_of_the_mask(calls: Calls) -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[1, 2] = True
    _outline(Canvas(400, 400), (10, 20), mask)
    side = 356 / 4
    expected = {
        ((10 + 2 * side, 20 + side), (10 + 2 * side, 20 + 2 * side)),
        ((10 + 3 * side, 20 + side), (10 + 3 * side, 20 + 2 * side)),
        ((10 + 2 * side, 20 + side), (10 + 3 * side, 20 + side)),
        ((10 + 2 * side, 20 + 2 * side), (10 + 3 * side, 20 + 2 * side)),
    }
    assert {(start, end) for start, end, *_ in calls["line"]} == expected


def test_the_colour_bar_of_a_single_map_takes_three_quarters_of_its_height(calls: Calls) -> None:
    draw_photo_and_map(page_of(explanation_of("grad-cam", 0)), 0)
    ((place, _, height),) = calls["colour_bar"]
    assert height == 480 * 3 // 4 and place[1] == 70 + 480 // 8


def test_the_values_of_a_colour_bar_stand_beside_its_top_middle_and_end(calls: Calls) -> None:
    Canvas(100, 100).colour_bar((5, 7), ColourScale(0.0, 1.0, "inferno"), 41)
    assert calls["write"] == [
        ((19, 7.0), "1", SMALL, "lm"), ((19, 27.0), "0.5", SMALL, "lm"),
        ((19, 47.0), "0", SMALL, "lm"),
    ]  # fmt: skip


def test_titles_of_any_length_keep_both_margins(calls: Calls) -> None:
    values = np.arange(4.0, dtype=np.float32).reshape(1, 1, 2, 2)
    for length in range(30, 90, 2):
        width = draw_channel(Activations("a" * length, values), 0).width
        lines = [text for _, text, *rest in calls["write"] if rest == [TITLE]]
        assert all(text_width(line, TITLE) <= width - 20 for line in lines)
        calls.clear()
