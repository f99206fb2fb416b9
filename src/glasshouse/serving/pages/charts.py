"""Charts as options of ECharts, in colours that work in light and dark mode."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nicegui import ui

Points = Sequence[Sequence[float | None]]
Options = dict[str, Any]

BLUE, ORANGE = "#3b8fd4", "#e07b2e"
# Eight that differ in hue and in lightness, on a light and on a dark background.
COLOURS = (BLUE, ORANGE, "#3fa573", "#a06fd0", "#d9605a", "#2fa6ad", "#d06fa6", "#8c96a5")
# Ticks at whole epochs only.
_EPOCH_RANGE: Options = {"min": 0, "minInterval": 1}
_LOG_RANGE: Options = {"min": "dataMin", "max": "dataMax"}
_INK, _LINES = "#8590a2", "rgba(128,140,160,.22)"


def echart(options: Options, description: str, classes: str = "") -> ui.echart:
    """A chart on the page; description: for screen readers."""
    element = ui.echart(options).classes(f"gh-chart {classes}")
    element.props.update({"role": "img", "aria-label": description})
    return element


def line(
    name: str, points: Points, colour: str, *, dashed: bool = False, faint: bool = False
) -> Options:
    """One line; faint: noisy values behind their smoothed line."""
    return {
        "type": "line",
        "name": name,
        "data": [list(point) for point in points],
        "showSymbol": len(points) == 1,
        "symbolSize": 5,
        "lineStyle": {
            "width": 1 if faint else 2,
            "opacity": 0.55 if faint else 1,
            "type": "dashed" if dashed else "solid",
        },
        "itemStyle": {"color": colour, "opacity": 0.5 if faint else 1},
        "emphasis": {"disabled": True},
        "z": 1 if faint else 2,
    }


def lines(
    series: Sequence[Options], *, x: str, y: str = "", scale: Literal["value", "log"] = "value"
) -> Options:
    """A line chart; x, y: the names of its axes. Without y, the heading above it has the unit."""
    return {
        "animation": False,
        "color": list(COLOURS),
        "textStyle": {"fontFamily": "inherit", "color": _INK},
        "grid": {"left": 4, "right": 12, "top": 30, "bottom": 22, "containLabel": True},
        "legend": {
            "top": 0, "left": 0, "itemWidth": 16, "itemHeight": 3, "icon": "roundRect",
            "itemGap": 14, "type": "scroll", "textStyle": {"color": _INK, "fontSize": 12},
        },
        "tooltip": _tooltip(),
        "xAxis": _axis(scale)
        | {
            "name": x, "nameLocation": "middle", "nameGap": 24,
            **(_LOG_RANGE if scale == "log" else _EPOCH_RANGE),
            "nameTextStyle": {"color": _INK, "fontSize": 11}, "splitLine": {"show": False},
        },
        "yAxis": _axis("value") | {"scale": True} | (_upright(y) if y else {}),
        "series": list(series),
    }  # fmt: skip


def reliability_options(bins: Sequence[Mapping[str, Any]], *, of: str, over: str) -> Options:
    """A reliability diagram, one bar per bin; the diagonal is ideal.

    of, over: what the bars are and what they are plotted over, such as accuracy and confidence.
    """
    bars = [
        [100 * (one["low"] + one["high"]) / 2, _rounded(100 * one["accuracy"]["value"])]
        for one in bins
        if one["count"]
    ]
    ideal = line("perfect calibration", [(0, 0), (100, 100)], "#8c96a5", dashed=True)
    options = lines(
        [
            {
                "type": "bar", "name": f"{of}, %", "data": bars, "barWidth": 14,
                "itemStyle": {"color": BLUE, "borderRadius": [2, 2, 0, 0]},
                "emphasis": {"disabled": True},
            },
            ideal | {"lineStyle": {"width": 1.5, "type": "dashed"}},
        ],
        x=f"{over}, %",
    )  # fmt: skip
    for axis in ("xAxis", "yAxis"):
        options[axis] |= {"min": 0, "max": 100, "scale": False}
    return options


def mark_points(options: Options, name: str, x: float, low: float, high: float) -> Options:
    """The same chart with a labelled vertical line from low to high.

    A series like the others, because ECharts draws no vertical mark on a logarithmic axis.
    """
    label = {"show": True, "position": "top", "formatter": name, "color": ORANGE, "fontSize": 11}
    vertical = line(name, [], ORANGE, dashed=True) | {
        "data": [[x, low], {"value": [x, high], "label": label}],
        "showSymbol": True,  # labels belong to symbols: these have no size, but must be shown
        "symbolSize": 0,
        "tooltip": {"show": False},
        "silent": True,
    }
    return options | {"series": [*options["series"], vertical]}


def spark_path(values: Sequence[float], width: int = 72, height: int = 18) -> str:
    """A sparkline as the path of an SVG; empty for fewer than two values."""
    if len(values) < 2:
        return ""
    step = max(1, len(values) // 48)
    kept = [*values[:-1:step], values[-1]]
    low, high = min(kept), max(kept)
    span = (high - low) or 1.0
    points = (
        f"{1 + i * (width - 2) / (len(kept) - 1):.1f} "
        f"{1 + (high - value) / span * (height - 2):.1f}"
        for i, value in enumerate(kept)
    )
    return "M" + "L".join(points)


def _axis(kind: str) -> Options:
    return {
        "type": kind,
        "axisLine": {"show": False},
        "axisTick": {"show": False},
        "axisLabel": {"color": _INK, "fontSize": 11, "hideOverlap": True},
        "splitLine": {"lineStyle": {"color": _LINES}},
    }


def _upright(name: str) -> Options:
    style = {"color": _INK, "fontSize": 11}
    return {"name": name, "nameLocation": "middle", "nameGap": 34, "nameTextStyle": style}


def _tooltip() -> Options:
    return {
        "trigger": "axis",
        "confine": True,
        "backgroundColor": "var(--panel)",
        "borderColor": "var(--strong-line)",
        "textStyle": {"color": "var(--ink)", "fontSize": 12, "fontFamily": "inherit"},
        "axisPointer": {"lineStyle": {"color": _INK, "width": 1}},
        "padding": [6, 10],
    }


def _rounded(value: float) -> float:
    return round(value, 4)
