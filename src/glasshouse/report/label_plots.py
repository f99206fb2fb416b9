"""A plot of the metrics of each label, where images may have several."""

import math

import numpy as np
from matplotlib.figure import Figure

from glasshouse.errors import require_type
from glasshouse.evaluation.multi_label import MultiLabelEvaluation
from glasshouse.explanation.draw.fonts import families
from glasshouse.report.theme import legend, new_figure, shorten_name, style, theme_of

_EVALUATION = "a MultiLabelEvaluation, such as evaluate_labels(predictions)"
_ROWS_SHOWN = 40


def plot_labels(evaluation: MultiLabelEvaluation, *, dark: bool = False) -> Figure:
    """Average precision of each label with its 95 % interval, lowest first, and F1 as a diamond.

    With many labels, the 40 with the lowest average precision.
    """
    require_type(evaluation, MultiLabelEvaluation, _EVALUATION)
    theme = theme_of(dark)
    known = [(row, row.average_precision) for row in evaluation.per_label]
    found = [(row, value) for row, value in known if value is not None]
    rows = sorted(found, key=lambda pair: pair[1].value)[:_ROWS_SHOWN]
    figure = new_figure(6.0, 1.3 + 0.28 * len(rows), theme)
    axes = figure.add_subplot()
    values = np.array([value.value for _, value in rows])
    reach = np.array([[v.value - v.low for _, v in rows], [v.high - v.value for _, v in rows]])
    places = np.arange(len(rows))
    axes.barh(places, values, height=0.62, color=theme.blue, alpha=0.45, label="average precision")
    axes.errorbar(values, places, xerr=reach, fmt="none", ecolor=theme.ink, elinewidth=1.2)
    scores = [math.nan if row.f1 is None else row.f1.value for row, _ in rows]
    axes.plot(scores, places, "D", markersize=5, color=theme.orange, label="F1")
    style(axes, theme)
    names = [shorten_name(row.name) for row, _ in rows]
    axes.set_yticks(places, names, parse_math=False, fontfamily=families(names))
    axes.set(xlim=(0, 1.01), ylim=(len(rows) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    title = "" if len(rows) == len(found) else f"the {len(rows)} weakest of {len(found)} labels"
    axes.set_title(title, fontsize=9, color=theme.quiet)
    legend(figure, theme, "outside lower center", columns=2)
    return figure
