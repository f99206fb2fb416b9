"""One model's result on the page Explain: the photo, the probabilities, every map, every layer."""

from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlencode

import numpy as np
from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement
from numpy.typing import NDArray

from glasshouse.data.targets import joined_names
from glasshouse.explanation.draw.sheet import classes_shown
from glasshouse.explanation.methods import METHODS, SLOW_METHODS
from glasshouse.explanation.nouns import Explanation, target_name
from glasshouse.explanation.page_sets import sets_of_page
from glasshouse.explanation.trust.hiding import ELSEWHERE, HIDING
from glasshouse.explanation.trust.lead import lead_of
from glasshouse.models.predict import predicted_classes, to_probabilities
from glasshouse.models.prediction_sets import describe_rule, set_line
from glasshouse.serving.explainer import ExplainedPhoto
from glasshouse.serving.pages.parts import MARKS, box, button, link, panel, text
from glasshouse.wording import percentage

_TOP = 5


class Column:
    """One result, whose parts change with the chosen map and colours."""

    def __init__(self, answer: ExplainedPhoto, method: str | None, colours: str) -> None:
        """method: None shows the map to begin with, which the checks may change."""
        self.answer: ExplainedPhoto = answer
        self.is_checking: bool = True
        self.colours: str = colours
        self.on_method: Callable[[str], None] = self.show_method
        self.on_more: Callable[[], Awaitable[None]] | None = None
        self.methods: list[str] = [each.method for each in answer.page.explanations]
        self.wanted: str | None = method
        self.method: str = (
            method if method in self.methods else lead_of(answer.page.explanations).method
        )
        self.doubted: str | None = None
        self.maps: dict[str, list[Element]] = {name: [] for name in self.methods}
        self.tiles: dict[str, Element] = {}
        self.marks: dict[str, Element] = {}
        with panel(str(answer.model), _what(answer), classes="gh-answer"):
            with box("gh-seen"):
                with box():
                    with box("gh-twins"):
                        with box("", "figure"):
                            with box("gh-stage"):
                                _photo(answer, "photo", "The photo")
                            text(_seen(answer), "figcaption", "gh-quiet")
                        with box("", "figure"):
                            self.stage: Element = box("gh-stage")
                            self.caption: TextElement = text("", "figcaption", "gh-quiet")
                    self.words: Element = box("gh-words")
                with box():
                    _probabilities(answer)
                    self.near: Element = box("gh-resembles").props("aria-live=polite")
            self.place: Element = box("gh-tiles").props('role=group aria-label="Maps"')
            with self.place:
                for name in self.methods:
                    self._tile(name)
            self.more: ui.button = button(
                ", ".join(_title(method) for method in SLOW_METHODS), "add"
            )
            self.more.on_click(self._ask_for_more).classes("gh-more-maps")
            _layers(answer)
        self._show(self.method)

    def show_method(self, method: str) -> None:
        """Show a map in large; ignored for a method that this result lacks."""
        self.wanted, self.doubted = method, None
        if method in self.methods:
            self._show(method)

    def _show(self, method: str) -> None:
        self.method = method
        self.maps = {name: images[:1] for name, images in self.maps.items()}
        self.stage.clear()
        self.caption.text = _title(method)
        with self.stage:
            self._images(method, f"{_title(method)} over the photo")
        for name, tile in self.tiles.items():
            tile.props["aria-pressed"] = "true" if name == method else "false"
            tile.update()
        self._say()

    def show_colours(self, colours: str) -> None:
        """Redraw every map in other colours."""
        self.colours = colours
        for name, images in self.maps.items():
            for image in images:
                image.props["src"] = self._address(name)
                image.update()
        self._say()

    def show_checks(self, checked: ExplainedPhoto) -> None:
        """Show the results of the checks."""
        self.answer, self.is_checking = checked, False
        for explanation in checked.page.explanations:
            verdicts = {check.verdict for check in explanation.checks}
            verdict = "doubtful" if "doubtful" in verdicts else "good"
            if not explanation.checks:
                continue
            mark = self.marks[explanation.method]
            mark.clear()
            with mark:
                icon = ui.icon(MARKS[verdict]).classes(f"gh-{verdict}")
                icon.props(f'role=img aria-label="{verdict}"')
        first = lead_of(checked.page.explanations).method
        if self.wanted is not None or first == self.method:
            self._say()
        else:
            self.doubted = self.method
            self._show(first)

    def show_no_checks(self) -> None:
        """Stop saying that the maps are being checked."""
        self.is_checking = False
        self._say()

    def show_more(self, answer: ExplainedPhoto) -> None:
        """Add the maps that need many passes."""
        self.more.delete()
        self.answer, self.wanted = answer, self.wanted or self.method
        new = [e.method for e in answer.page.explanations if e.method not in self.methods]
        self.methods += new
        with self.place:
            for name in new:
                self.maps[name] = []
                self._tile(name)
        self.show_checks(answer)
        if self.wanted in new:
            self._show(self.wanted)

    async def _ask_for_more(self) -> None:
        self.more.props("loading")
        if self.on_more is not None:
            await self.on_more()

    def _tile(self, name: str) -> None:
        with box("gh-tile", "button").on("click", lambda: self.on_method(name)) as tile:
            tile.props["type"] = "button"
            with box("gh-stage"):
                self._images(name, "")
            with box("gh-tile-name", "span"):
                text(_title(name))
                self.marks[name] = box("", "span")
        self.tiles[name] = tile

    def _images(self, name: str, description: str) -> None:
        """The photo in grey under a map, which the page's slider fades."""
        _photo(self.answer, "grey", description)
        over = ui.element("img").classes("gh-over")
        over.props.update({"src": self._address(name), "alt": ""})
        self.maps[name].append(over)

    def _address(self, name: str) -> str:
        query = urlencode({"colours": self.colours})
        return f"{_folder(self.answer)}/map/{self.methods.index(name)}?{query}"

    def _say(self) -> None:
        """The sentences on the large map, and its downloads."""
        place = self.methods.index(self.method)
        explanation = self.answer.page.explanations[place]
        self.words.clear()
        with self.words:
            with box("gh-row"):
                text(_title(self.method), "h3")
                text(f"why {target_name(explanation, 0)}", "span", "gh-why gh-quiet")
                if explanation.layer is not None:
                    text(f"at layer {explanation.layer}", "span", "gh-at gh-quiet")
                _downloads(self.answer, place, self.colours)
            if self.is_checking:
                with box("gh-row gh-step gh-checking").props("role=status"):
                    ui.spinner(size="16px").props("aria-hidden=true")
                    text("Checking how far this map can be trusted …", "span", "gh-quiet")
            if self.doubted is not None:
                failed = f"{_title(self.doubted)} failed more checks, so this map comes first."
                text(failed, "p", "gh-quiet")
            _sentences(explanation)


def _seen(answer: ExplainedPhoto) -> str:
    """The size that the network gets: a large photo is shown with more detail than that."""
    _, _, height, width = answer.page.images.shape
    return f"Original. The network sees it at {width}x{height} pixels."


def _photo(answer: ExplainedPhoto, kind: str, description: str) -> None:
    photo = ui.element("img")
    photo.props.update({"src": f"{_folder(answer)}/{kind}", "alt": description})


def _what(answer: ExplainedPhoto) -> str:
    known = f", labelled {answer.photo.class_name}" if answer.photo.class_name else ""
    return f"{answer.photo.name}{known}"


def _probabilities(answer: ExplainedPhoto) -> None:
    """The classes to show with bars, and where there are several labels, which are found."""
    page = answer.page
    shares = to_probabilities(page.logits[0], page.temperature, page.thresholds)
    explained = int(answer.page.explanations[0].targets[0])
    if page.thresholds is not None:
        found = predicted_classes(shares, page.class_names, 0, page.thresholds)
        said = joined_names([str(each["class"]) for each in found])
        text(f"Labels: {said}", "p", "gh-labels")
    with box("gh-five", "ol").props('aria-label="Probabilities"'):
        for place in places_shown(shares, explained, page.thresholds):
            with box("gh-explained" if place == explained else "", "li"):
                text(_class_name(answer, place))
                text(percentage(float(shares[place])), "span", "gh-number")
                with box("gh-bar").props("aria-hidden=true"):
                    box("gh-filled", "i").style(f"width:{100 * shares[place]:.2f}%")
    sets = sets_of_page(page)
    if sets is not None:
        shown = text(set_line(sets, 0), "p", "gh-set")
        shown.props["title"] = describe_rule(sets.rule, page.class_names)


def places_shown(
    shares: NDArray[np.float64], explained: int, thresholds: tuple[float, ...] | None = None
) -> list[int]:
    """The five most probable classes, the explained one and all labels found, best first."""
    places = classes_shown(shares, explained, _TOP)
    if thresholds is None:
        return places
    order: list[int] = shares.argsort()[::-1].tolist()
    return [place for place in order if place in places or shares[place] >= thresholds[place]]


def _downloads(answer: ExplainedPhoto, place: int, colours: str) -> None:
    folder = _folder(answer)
    query = urlencode({"colours": colours})
    for words, address in (
        ("PNG", f"{folder}/overlay/{place}?{query}"),
        (".npy", f"{folder}/array/{place}"),
        ("All maps", f"{folder}/sheet?{query}"),
    ):
        link(words, address, "gh-pill").props("download")


def _sentences(explanation: Explanation) -> None:
    # What hiding the marked area changes comes first, as on the sheet: it says most.
    for check in sorted(explanation.checks, key=lambda each: each.name not in (HIDING, ELSEWHERE)):
        with box("gh-sentence", "p"):
            ui.icon(MARKS[check.verdict]).classes(f"gh-{check.verdict}").props("aria-hidden=true")
            text(check.words)
    for words in (*explanation.warnings, *explanation.notes):
        text(words, "p", "gh-quiet")


def _layers(answer: ExplainedPhoto) -> None:
    """A slider through the layers of the network, and all channels of the chosen one."""
    found = answer.page.activations
    if not found:
        return
    with box("gh-depth"):
        with box("gh-row"):
            text("Layers", "h3")
            slider = ui.slider(min=0, max=len(found) - 1, value=0, step=1)
            slider.props('snap markers aria-label="Layer"').classes("gh-slider")
        words = text("", "p", "gh-quiet")
        image = ui.element("img").classes("gh-grid")
        image.props["loading"] = "lazy"

    def show(place: int) -> None:
        _, channels, height, width = found[place].values.shape
        size = f"{channels} channels of {width}x{height}"
        said = f"{found[place].layer}: {size}, each with its own colour scale"
        words.set_text(said)
        image.props.update({"src": f"{_folder(answer)}/layer/{place}", "alt": said})
        image.update()

    slider.on_value_change(partial(_shown_at, show))
    show(0)


def _shown_at(show: Callable[[int], None], event: object) -> None:
    show(int(getattr(event, "value", 0)))


def _class_name(answer: ExplainedPhoto, place: int) -> str:
    return answer.page.class_names[place] if answer.page.class_names else str(place)


def _title(method: str) -> str:
    return METHODS[method].title


def _folder(answer: ExplainedPhoto) -> str:
    return f"./explain/answers/{answer.key}"  # relative, whatever the prefix of the page
