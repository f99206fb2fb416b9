"""Pages from templates, with images and charts embedded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glasshouse.report.encoding import data_uri, figure_png, image_uri
from glasshouse.report.narrow_tables import Columns, name_cells
from glasshouse.wording import name_parts, unbroken

# Smaller images are shown with sharp pixels, because smoothing would only blur them.
SMALLEST_SMOOTH = 100

# The width of a phone, and the gap between columns, in characters.
_PHONE, _GAP = 46, 2

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Chart:
    """A figure as two data: URIs, for light and dark pages, and a text alternative."""

    light: str
    dark: str
    text: str


@dataclass(frozen=True)
class Tile:
    """An image as a data: URI, and whether to show it with sharp pixels."""

    address: str
    is_small: bool


def render_template(template: str, values: Mapping[str, Any]) -> str:
    """A template of ``templates/`` rendered with these values; texts are escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "points": "{:+.2f}".format,
        "count": "{:,}".format,
        "breakable": lambda name: Markup("<wbr>").join(name_parts(name)),
        "value": _value,
        "p_value": lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}",
    }
    page = environment.get_template(template).render(values)
    return unbroken(name_cells(page, _is_wide))


def chart(draw: Callable[..., Figure], text: str) -> Chart:
    """The figure of ``draw(dark=...)`` for light and dark pages."""
    light, dark = (data_uri(figure_png(draw(dark=dark)), "image/png") for dark in (False, True))
    return Chart(light, dark, text)


def tile(image: NDArray[np.uint8]) -> Tile:
    """An image uint8 ``(3, h, w)`` for a page."""
    return Tile(image_uri(image), max(image.shape) <= SMALLEST_SMOOTH)


def _is_wide(columns: Columns) -> bool:
    """Whether a table, whose cells stay on one line, is wider than a phone."""
    return sum(max(map(len, column)) + _GAP for column in columns) > _PHONE


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}"


def _value(number: object) -> str:
    """A table cell: numbers with four significant digits and thousands separators."""
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return "–" if number is None else str(number)
    is_whole = isinstance(number, int) or abs(number) >= 1000
    return f"{number:,.0f}" if is_whole else f"{number:.4g}"
