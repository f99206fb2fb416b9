"""A map of the data as a figure, coloured by what is known of each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glasshouse.evaluation.data_map import SPLIT_WORDS, DataMap
from glasshouse.explanation.draw.fonts import families
from glasshouse.report.theme import Theme, legend, new_figure, shorten_name, theme_of

Colouring = Literal["class", "predicted", "mistake", "split", "confidence", "unusual"]
# What the colours of a continuous value go through: legible on light and on dark pages.
RAMP: tuple[str, ...] = ("#3b6fd4", "#2fa6ad", "#e0b02e", "#d9452e")
# Classes with a colour of their own: more could not be told apart.
_MOST = 10
CLASS_COLOURS: tuple[str, ...] = (
    "#3b8fd4", "#e07b2e", "#3fa573", "#a06fd0", "#d9605a", "#2fa6ad", "#d06fa6", "#a08a3c",
    "#6f7fd9", "#7fa83c",
)  # fmt: skip
OTHER_COLOUR = "#8c96a5"


@dataclass(frozen=True)
class Parts:
    """Points in a few colours: names, and for each point ``(n,)`` the position of its name."""

    names: tuple[str, ...]
    colours: tuple[str, ...]
    of: NDArray[np.int64]


def colourings(found: DataMap) -> dict[Colouring, str]:
    """What a map can be coloured by, and how that is called."""
    several: dict[Colouring, str] = {"split": "split"} if len(found.splits) > 1 else {}
    return {
        "class": "class", "predicted": "answer", "mistake": "mistake", **several,
        "confidence": "confidence", "unusual": "outlier score",
    }  # fmt: skip


def parts_of(found: DataMap, colouring: Colouring) -> Parts | None:
    """The points by class, answer, mistake or split; None for a continuous value.

    Classes beyond the ten most frequent share one colour.
    """
    if colouring in ("class", "predicted"):
        own = found.labels if colouring == "class" else found.predicted
        return _classes(own, found.class_names)
    if colouring == "mistake":
        names, colours = ("right", "mistake"), (CLASS_COLOURS[0], CLASS_COLOURS[1])
        return Parts(names, colours, (~found.right).astype(np.int64))
    if colouring == "split":
        words = tuple(SPLIT_WORDS[name] for name in found.splits)
        return Parts(words, CLASS_COLOURS[: len(words)], found.split)
    return None


def plot_data_map(found: DataMap, colouring: Colouring = "class", *, dark: bool = False) -> Figure:
    """The points of a map by t-SNE, or by PCA where that is all there is."""
    theme = theme_of(dark)
    figure = new_figure(7.2, 5.2, theme)
    axes = figure.add_subplot()
    axes.set_facecolor(theme.paper)
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    size = float(np.clip(6000 / len(found), 1.5, 30))
    parts = parts_of(found, colouring)
    if parts is None:
        values = found.confidence if colouring == "confidence" else found.unusual
        _draw_values(figure, axes, found, (values, colourings(found)[colouring], size), theme)
        return figure
    _draw_parts(axes, found.best_plane, parts, size)
    legend(figure, theme, "outside lower center", 3 if len(parts.names) > 2 else 2)
    for words in figure.legends[0].get_texts():
        words.set_fontfamily(families([words.get_text()]))
    for mark in figure.legends[0].legend_handles:
        if mark is not None:
            mark.set_alpha(1)
    return figure


def _classes(own: NDArray[np.int64], class_names: Sequence[str]) -> Parts:
    counts = np.bincount(own, minlength=len(class_names))
    if len(class_names) <= _MOST:
        return Parts(tuple(class_names), CLASS_COLOURS[: len(class_names)], own)
    first = np.sort(np.argsort(-counts, kind="stable")[: _MOST - 1])
    place: Mapping[int, int] = {int(label): i for i, label in enumerate(first)}
    of = np.array([place.get(int(label), _MOST - 1) for label in own], dtype=np.int64)
    names = (*(class_names[label] for label in first), "other classes")
    return Parts(names, (*CLASS_COLOURS[: _MOST - 1], OTHER_COLOUR), of)


def _draw_parts(axes: Axes, plane: NDArray[np.float32], parts: Parts, size: float) -> None:
    for place, (name, colour) in enumerate(zip(parts.names, parts.colours, strict=True)):
        rows = parts.of == place
        is_mistake = name == "mistake" and len(parts.names) == 2
        axes.scatter(
            plane[rows, 0], plane[rows, 1], s=2 * size if is_mistake else size, color=colour,
            marker="x" if is_mistake else "o", linewidths=0.8 if is_mistake else 0, alpha=0.8,
            label=shorten_name(name), rasterized=True, zorder=2 + place,
        )  # fmt: skip


def _draw_values(
    figure: Figure,
    axes: Axes,
    found: DataMap,
    what: tuple[NDArray[np.float32], str, float],
    theme: Theme,
) -> None:
    values, name, size = what
    # The most unusual images, of which there are few, are to lie on top.
    order = np.argsort(values if name == "outlier score" else -values, kind="stable")
    plane = found.best_plane[order]
    drawn = axes.scatter(
        plane[:, 0], plane[:, 1], c=values[order], s=size, linewidths=0, alpha=0.85,
        cmap=LinearSegmentedColormap.from_list("map", list(RAMP)), rasterized=True,
    )  # fmt: skip
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7)
    bar.set_label(name, color=theme.quiet, fontsize=9)
    bar.ax.tick_params(colors=theme.quiet, labelsize=9, length=0)
    bar.outline.set_visible(False)
