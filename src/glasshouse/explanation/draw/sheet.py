"""The sheet of one image: the photo, the map to begin with and a sentence, then the other maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from glasshouse.explanation.draw.canvas import (
    BAR_WIDTH,
    INK,
    QUIET,
    Canvas,
    Point,
    shorten,
    text_width,
    wrap,
)
from glasshouse.explanation.draw.overlay import DEFAULT, Palette, as_rgb, colour_maps
from glasshouse.explanation.draw.sheet_words import (
    MARKS,
    described_page,
    grouped,
    method_titles,
    notes_of,
    question_of,
    set_words,
    short_checks,
)
from glasshouse.explanation.nouns import Explanation, ExplanationPage, class_name_at
from glasshouse.explanation.trust.hiding import ELSEWHERE, HIDING, marked_area
from glasshouse.explanation.trust.lead import lead_of, verdict_on
from glasshouse.models.predict import to_probabilities
from glasshouse.wording import percentage

_WIDTH, _MARGIN, _GAP = 1240, 26, 18
_HEADLINE, _SENTENCE, _HEADING, _TITLE, _BODY, _SMALL = 27, 20, 17, 14, 13, 12
_LARGE, _SIDE, _COLUMNS = 356, 176, 5
_CELL = (_WIDTH - 2 * _MARGIN + _GAP) // _COLUMNS
_MOST_CLASSES = 4

Group = tuple[str, list[list[Explanation]]]


def draw_sheet(
    page: ExplanationPage, index: int = 0, *, palette: Palette = DEFAULT, columns: int = _COLUMNS
) -> Image:
    """One image's page: photo, the map to begin with, what was measured, then all other maps.

    Maps that are identical are drawn once. columns: how many of the other maps are in a row.
    """
    sheet = _Sheet(page, index, palette, columns)
    # How high it gets is known once it is drawn; the rest is cut off.
    canvas = Canvas(_WIDTH, 8_000)
    top = sheet.head(canvas, _MARGIN)
    if page.explanations:
        top = sheet.lead(canvas, top)
        top = sheet.others(canvas, top)
        top = sheet.notes(canvas, top)
    canvas.image = canvas.image.crop((0, 0, _WIDTH, round(top)))
    return canvas.image


@dataclass(frozen=True)
class _Sheet:
    """Draws its parts one below another; each returns where the next one begins."""

    page: ExplanationPage
    index: int
    palette: Palette
    columns: int

    def head(self, canvas: Canvas, top: float) -> float:
        """The question, and the image, model and class that it is about."""
        question = question_of(self.page, self.index)
        width = _WIDTH - 2 * _MARGIN
        canvas.write((_MARGIN, top), shorten(question, width, _HEADLINE), _HEADLINE)
        said = shorten(described_page(self.page, self.index), width, _BODY)
        canvas.write((_MARGIN, top + 40), said, _BODY, QUIET)
        return top + 76

    def lead(self, canvas: Canvas, top: float) -> float:
        """The photo and the map to begin with in large, and next to them what was measured."""
        first = lead_of(self.page.explanations)
        second = _MARGIN + _LARGE + _GAP
        canvas.write((_MARGIN, top), "The photo, as the network sees it", _TITLE)
        title = wrap(_lead_title(first), _WIDTH - _MARGIN - second, _TITLE)
        for line in title:
            canvas.write((second, top), line, _TITLE)
            top += 19
        below = top + 7
        canvas.paste((_MARGIN, below), as_rgb(self.page.images[self.index]), _LARGE)
        self._map(canvas, (second, below), first, _LARGE)
        left = second + _LARGE + BAR_WIDTH + _GAP
        # A title that is long enough to stand above the answer keeps its distance from it.
        is_above = any(second + text_width(line, _TITLE) > left for line in title)
        end = self._answer(canvas, (left, below + 8 if is_above else below - 6), first)
        under = below + _LARGE + 8
        marked = marked_area(first)[self.index]
        if first.is_region:
            _outline(canvas, (second, below), marked)
        what = "Outlined: the marked area, the" if first.is_region else "Marked pixels: the"
        # Less than asked for, where most of the map is zero.
        said = f"{what} strongest {percentage(float(marked.mean()))} of the image."
        if not marked.any():
            said = "Nothing is marked."
        canvas.write((second, under), said, _SMALL, QUIET)
        under += 22
        under = self._checks(canvas, (_MARGIN, under), first)
        return max(under, end) + 20

    def others(self, canvas: Canvas, top: float) -> float:
        """The other maps in small, by the question that they answer."""
        for band in _bands(grouped(self.page.explanations, self.index), self.columns):
            canvas.line((_MARGIN, top), (_WIDTH - _MARGIN, top), "#d5dae1")
            headings = _headings(band)
            lines = max(map(len, headings))
            ends = [
                self._group(canvas, (left, top + 14), members, [*heading, *[""] * lines][:lines])
                for (left, (_, members)), heading in zip(band, headings, strict=True)
            ]
            top = max(ends)
        return top

    def notes(self, canvas: Canvas, top: float) -> float:
        """What the marks mean, then the notes and warnings of all maps."""
        canvas.line((_MARGIN, top), (_WIDTH - _MARGIN, top), "#d5dae1")
        top += 14
        for sentence in notes_of(self.page.explanations):
            for line in wrap(sentence, _WIDTH - 2 * _MARGIN, _SMALL):
                canvas.write((_MARGIN, top), line, _SMALL, QUIET)
                top += 17
        return top + 14

    def _group(
        self,
        canvas: Canvas,
        corner: Point,
        members: Sequence[Sequence[Explanation]],
        heading: Sequence[str],
    ) -> float:
        """The lines of a question, and below it the maps that answer it."""
        left, top = corner
        for line in heading:
            canvas.write((left, top), line, _HEADING)
            top += 23
        top += 11
        for start in range(0, len(members), self.columns):
            row = members[start : start + self.columns]
            ends = [
                self._small(canvas, (left + i * _CELL, top), each) for i, each in enumerate(row)
            ]
            top = max(ends)
        return top

    def _small(self, canvas: Canvas, corner: Point, same: Sequence[Explanation]) -> float:
        left, top = corner
        width = _CELL - _GAP
        for line in wrap(method_titles(same), width, _BODY):
            canvas.write((left, top), line, _BODY)
            top += 18
        self._map(canvas, (left, top + 4), same[0], _SIDE)
        top += _SIDE + 12
        for verdict, words in short_checks(same[0]):
            mark, colour = MARKS[verdict]
            canvas.write((left, top), mark, _SMALL, colour)
            for line in wrap(words, width - 16, _SMALL):
                canvas.write((left + 16, top), line, _SMALL)
                top += 16
        return top + 22

    def _checks(self, canvas: Canvas, corner: Point, first: Explanation) -> float:
        """What the checks say of the map to begin with, with their numbers."""
        left, top = corner
        for check in first.checks:
            if check.name in (HIDING, ELSEWHERE, "sameness"):
                continue
            mark, colour = MARKS[check.verdict]
            canvas.write((left, top), mark, _SMALL, colour)
            for line in wrap(check.words, 2 * _LARGE + _GAP, _SMALL):
                canvas.write((left + 16, top), line, _SMALL)
                top += 17
        return top

    def _map(self, canvas: Canvas, corner: Point, explanation: Explanation, side: int) -> None:
        drawn = colour_maps(explanation, self.palette, self.index + 1)[self.index]
        canvas.paste(corner, drawn.pixels, side)
        inset = side // 8
        place = corner[0] + side + 7, corner[1] + inset
        canvas.colour_bar(place, drawn.scale, side - 2 * inset)

    def _answer(self, canvas: Canvas, corner: Point, first: Explanation) -> float:
        """The sentence, the numbers behind it, and the most probable classes."""
        left, top = corner
        width = _WIDTH - _MARGIN - left
        found = {check.name: check.words for check in first.checks}
        for line in wrap(found.get(HIDING, ""), width, _SENTENCE):
            canvas.write((left, top), line, _SENTENCE)
            top += 27
        top += 6
        for line in wrap(found.get(ELSEWHERE, ""), width, _SMALL):
            canvas.write((left, top), line, _SMALL, QUIET)
            top += 17
        return self._classes(canvas, (left, top + 12), width)

    def _classes(self, canvas: Canvas, corner: Point, width: float) -> float:
        """The most probable classes and the explained one, with bars as long as probabilities."""
        left, top = corner
        logits = self.page.logits[self.index].astype(np.float64)
        shares = to_probabilities(logits, self.page.temperature, self.page.thresholds)
        explained = int(self.page.explanations[0].targets[self.index])
        for place in classes_shown(shares, explained):
            is_own = place == explained
            colour = INK if is_own else QUIET
            said = f"{class_name_at(self.page.class_names, place)}"
            said += " (explained)" if is_own else ""
            canvas.write((left, top), shorten(said, width - 80, _BODY), _BODY, colour)
            share = percentage(float(shares[place]))
            canvas.write((left + width, top), share, _BODY, colour, anchor="ra")
            canvas.fill((left, top + 19), (width, 9), "#e8edf3")
            filled = round(width * float(shares[place]))
            canvas.fill((left, top + 19), (filled, 9), "#3b6ea5" if is_own else "#a9b8c9")
            top += 38
        for line in wrap(set_words(self.page, self.index), width, _BODY):
            canvas.write((left, top), line, _BODY)
            top += 18
        return top


def classes_shown(
    shares: NDArray[np.float64], explained: int, most: int = _MOST_CLASSES
) -> list[int]:
    """The most probable classes, and the explained one even where it is not among them."""
    best: list[int] = shares.argsort()[::-1][:most].tolist()
    return best if explained in best else [*best, explained]


def _width(group: Group) -> int:
    """How many columns a group takes; a question is wider than a single map."""
    return max(2, len(group[1]))


def _headings(band: Sequence[tuple[float, Group]]) -> list[list[str]]:
    """The lines of each question, which end where the next one begins, or the sheet."""
    rights = [*(left for left, _ in band[1:]), _WIDTH - _MARGIN + _GAP]
    return [
        wrap(question, right - left - _GAP, _HEADING)
        for (left, (question, _)), right in zip(band, rights, strict=True)
    ]


def _bands(groups: Sequence[Group], columns: int) -> list[list[tuple[float, Group]]]:
    """The groups from top to bottom, small ones next to each other; each with its left edge."""
    bands: list[list[tuple[float, Group]]] = []
    free = 0
    for group in groups:
        width = _width(group)
        if width > free or not bands:
            bands.append([])
            free = columns
        bands[-1].append((_MARGIN + (columns - free) * _CELL, group))
        free -= width
    return bands


def _lead_title(first: Explanation) -> str:
    return f"Begin here: {method_titles([first])}, {verdict_on(first)}"


def _outline(canvas: Canvas, corner: Point, mask: NDArray[np.bool_]) -> None:
    """White lines with dark sides along the pixel edges at which a mask begins or ends."""
    scale = _LARGE / max(mask.shape)
    edges = [
        *((column + 1, row, 0, 1) for row, column in np.argwhere(mask[:, 1:] != mask[:, :-1])),
        *((column, row + 1, 1, 0) for row, column in np.argwhere(mask[1:] != mask[:-1])),
    ]
    for colour, width in (("#202020", 4), ("#ffffff", 2)):
        for right, down, along, below in edges:
            start = corner[0] + right * scale, corner[1] + down * scale
            canvas.line(start, (start[0] + along * scale, start[1] + below * scale), colour, width)
