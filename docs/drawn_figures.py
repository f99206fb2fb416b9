"""The images of the documentation that are drawn: charts of a page's own numbers, and diagrams."""

import re
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from json import loads
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import NullLocator
from PIL import Image
from studio import Studio, save

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "bench"))
import scaling as rates_and_formulas

TEAL, ORANGE, PURPLE, BLUE = "#00796b", "#d84315", "#6a3d9a", "#1565c0"
PALE, GREY, INK = "#e0f2f1", "#9e9e9e", "#263238"
rcParams["font.size"] = 13  # legible also at the width of a telephone
DAY = 86400


def save_figure(figure: Figure, name: str) -> None:
    drawn = BytesIO()
    figure.savefig(drawn, dpi=140, facecolor="white")
    save(Image.open(drawn), name)


def canvas(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of this size in inches, and axes over all of it in the same unit."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(axes: Any, place: tuple[float, float, float, float], words: str, **style: Any) -> None:
    """A rounded box at (left, bottom, width, height) with words in its middle."""
    left, bottom, width, height = place
    colours = {"facecolor": PALE, "edgecolor": TEAL, "linewidth": 1.4} | style
    ink, size = colours.pop("ink", INK), colours.pop("size", 12)
    shape = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch((left, bottom), width, height, boxstyle=shape, **colours))
    middle = (left + width / 2, bottom + height / 2)
    axes.text(*middle, words, ha="center", va="center", color=ink, fontsize=size)


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
    look = {"arrowstyle": "-|>", "mutation_scale": 14, "color": INK, "linewidth": 1.4} | style
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **look))


def scaling(studio: Studio) -> None:
    """Training times on the page "How far it scales", by its formulas and rates."""
    rates = loads((DOCS / "rates.json").read_text(encoding="utf-8"))
    processes = rates_and_formulas.PROCESSES
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    free = rates | {"memory_exchange_seconds": 0.0, "network_exchange_seconds": 0.0}
    for images, colour in zip(rates_and_formulas.IMAGES, (TEAL, PURPLE, ORANGE), strict=True):
        days = [rates_and_formulas.training_seconds(images, n, rates) / DAY for n in processes]
        best = [
            rates_and_formulas.training_seconds(images, n, free, float("inf")) / DAY
            for n in processes
        ]
        axes.plot(processes, best, color=colour, linewidth=1.2, linestyle=":")
        axes.plot(processes, days, color=colour, linewidth=2, marker="o", markersize=5)
        axes.annotate(f"{images:,} images", (processes[0], days[0]), (8, 6),
                      textcoords="offset points", color=colour)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="processes", ylim=(0.004, 300))
    axes.set_xticks(processes, [str(count) for count in processes])
    marks = {
        1 / 144: "10 minutes",
        1 / 24: "1 hour",
        0.25: "6 hours",
        1: "1 day",
        10: "10 days",
        100: "100 days",
    }
    axes.set_yticks(list(marks), list(marks.values()))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.grid(color="#eeeeee")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Training, 30 epochs (dotted: exchanges that take no time)", fontsize=12)
    save_figure(figure, "scaling")


def many_processes(studio: Studio) -> None:
    """One tree of sums over eight shards, computed by two processes and by four."""
    figure, axes = canvas(7, 5.5)
    draw_tree(axes, 2.8, "2 processes", [TEAL, ORANGE])
    draw_tree(axes, 0.05, "4 processes", [TEAL, BLUE, ORANGE, PURPLE])
    save_figure(figure, "many-processes")


def draw_tree(axes: Any, bottom: float, title: str, colours: list[str]) -> None:
    """The tree of eight shards; a process has a colour, what all have in the end has none."""
    axes.text(0.1, bottom + 2.29, title, fontsize=13, weight="bold", color=INK, va="center")
    spots = [(0.45 + 0.87 * number, bottom + 0.25) for number in range(8)]
    each = 8 // len(colours)
    for number, (x, y) in enumerate(spots):
        colour = colours[number // each]
        box(axes, (x - 0.36, y - 0.2, 0.72, 0.4), f"shard {number + 1}", facecolor="white",
            edgecolor=colour, size=10)  # fmt: skip
    for level in range(1, 4):
        above = []
        for left, right in zip(spots[::2], spots[1::2], strict=True):
            x, y = (left[0] + right[0]) / 2, left[1] + 0.68
            owner = int((x - 0.1) / 0.87) // each
            is_exchange = 2**level > each
            colour = GREY if is_exchange else colours[owner]
            for below in (left, right):
                start = (below[0], below[1] + (0.2 if level == 1 else 0.17))
                line = "--" if is_exchange else "-"
                axes.plot((start[0], x), (start[1], y - 0.17), line, color=colour, linewidth=1.6)
            words = "the sum" if level == 3 else "+"
            width = 0.9 if level == 3 else 0.34
            fill = INK if is_exchange else colour
            box(axes, (x - width / 2, y - 0.17, width, 0.34), words, facecolor=fill,
                edgecolor=fill, ink="white")  # fmt: skip
            above.append((x, y))
        spots = above


def clusters(studio: Studio) -> None:
    """Five seeds on three machines, of which one is lost."""
    figure, axes = canvas(7, 5)
    command = "glasshouse train SOURCE --seeds 5 --out run --on FIRST:6379"
    box(axes, (0.4, 4.3, 6.2, 0.5), command, facecolor="white", edgecolor=INK, size=12)
    pieces = (("seed 0", "seed 3"), ("seed 1", "seed 4"), ("seed 2",))
    for number, seeds in enumerate(pieces):
        left, is_lost = 0.2 + 2.25 * number, number == 2
        edge = ORANGE if is_lost else TEAL
        arrow(axes, (left + 1.05, 4.3), (left + 1.05, 3.72), color=edge)
        title = "machine 3 is lost" if is_lost else f"machine {number + 1}"
        box(axes, (left, 1.5, 2.1, 2.2), "", facecolor="#fbe9e7" if is_lost else PALE,
            edgecolor=edge)  # fmt: skip
        axes.text(left + 1.05, 3.48, title, ha="center", va="center", color=edge, weight="bold")
        axes.text(left + 1.05, 3.14, "reads SOURCE itself", ha="center", va="center", fontsize=11)
        for row, seed in enumerate(seeds):
            box(axes, (left + 0.3, 2.55 - 0.44 * row, 1.5, 0.36), seed, facecolor="white",
                edgecolor=edge, linestyle="--" if is_lost else "-")  # fmt: skip
        if not is_lost:
            arrow(axes, (left + 1.05, 1.5), (left + 1.05, 0.82), color=edge)
    box(axes, (2.75, 1.67, 1.5, 0.36), "seed 2 again", facecolor="white", edgecolor=ORANGE)
    arrow(axes, (5.3, 2.55), (4.28, 1.85), color=ORANGE, connectionstyle="arc3,rad=-0.25")
    box(axes, (0.2, 0.3, 6.6, 0.5), "   ".join(f"run/seed-{n}" for n in range(5)),
        facecolor="white", edgecolor=INK)  # fmt: skip
    save_figure(figure, "clusters")


def reliability(studio: Studio) -> None:
    """Small faults that tests noticed, of the table on the page "Reliability"."""
    rows = list(noticed_faults((DOCS / "reliability.md").read_text(encoding="utf-8")))[::-1]
    figure = Figure(figsize=(7, 1.4 + 0.22 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(rows))
    first = [100 * row[1] / row[3] for row in rows]
    later = [100 * (row[2] - row[1]) / row[3] for row in rows]
    axes.barh(places, first, color=TEAL, label="noticed")
    axes.barh(places, later, left=first, color="#80cbc4", label="noticed afterwards")
    for place, (_, _, last, count) in zip(places, rows, strict=True):
        axes.text(102, place, f"{last} of {count}", va="center", fontsize=11)
    axes.axvline(92, color=INK, linewidth=1, linestyle="--")
    axes.text(91, len(rows) - 0.4, "aim: 92 %", ha="right", va="bottom", fontsize=11)
    axes.set(xlim=(0, 100), ylim=(-0.6, len(rows) + 0.2), xlabel="% of the faults of a sample")
    axes.set_yticks(places, [row[0] for row in rows])
    axes.tick_params(left=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=12)
    save_figure(figure, "reliability")


def noticed_faults(page: str) -> Iterator[tuple[str, int, int, int]]:
    """The name of each sample; faults noticed first, in the end, and all but equivalent ones."""
    part = page.partition("## Small faults in the code")[2]
    for line in re.findall(r"^\| (?!-|Package)(.+) \|$", part, re.M):
        package, sample, *shares = line.split(" | ")
        first, count = map(int, re.findall(r"\d+", shares[0])[:2])
        afterwards = re.findall(r"\d+", shares[1])
        last = int(afterwards[0]) if afterwards else first
        yield f"{package}, {sample}", first, last, count


DRAWN_FIGURES: dict[str, Callable[[Studio], None]] = {
    "scaling": scaling,
    "many-processes": many_processes,
    "clusters": clusters,
    "reliability": reliability,
}
