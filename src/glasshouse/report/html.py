"""What pages are made of: a template with values, and images and charts in the page itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glasshouse.report.encoding import data_uri, figure_png, image_uri

# Images of fewer pixels are shown with sharp edges: smoothed, they would only look blurred.
SMALLEST_SMOOTH = 100

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Chart:
    """A figure as two data: addresses, for light and dark pages, and the same in words."""

    light: str
    dark: str
    text: str


@dataclass(frozen=True)
class Tile:
    """An image as a data: address, and whether its pixels are to be shown with sharp edges."""

    address: str
    is_small: bool


def render_template(template: str, values: Mapping[str, Any]) -> str:
    """A page of ``templates/`` with these values; texts are escaped."""
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
        "value": _value,
        "p_value": lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}",
    }
    return environment.get_template(template).render(values)


def chart(draw: Callable[..., Figure], text: str) -> Chart:
    """What ``draw(dark=...)`` draws, for light and dark pages."""
    light, dark = (data_uri(figure_png(draw(dark=dark)), "image/png") for dark in (False, True))
    return Chart(light, dark, text)


def tile(image: NDArray[np.uint8]) -> Tile:
    """An image uint8 ``(3, h, w)`` for a page."""
    return Tile(image_uri(image), max(image.shape) <= SMALLEST_SMOOTH)


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}"


def _value(number: object) -> str:
    """A table's cell: numbers with four figures, thousands apart."""
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return "–" if number is None else str(number)
    if isinstance(number, int) or (number.is_integer() and abs(number) >= 1000):
        return f"{number:,.0f}"
    return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:.4g}"
