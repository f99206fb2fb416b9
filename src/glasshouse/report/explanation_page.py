"""A self-contained page of explained mistakes, beside the report of a run."""

import html
from collections.abc import Sequence
from pathlib import Path

from glasshouse.explanation.mistakes import Mistakes
from glasshouse.explanation.record import Explanation
from glasshouse.explanation.sheet import draw_mistakes, to_html, to_png
from glasshouse.storage import write_text

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}"
    "img{max-width:100%;height:auto}p{max-width:44rem}"
)
_HOW_TO_READ = (
    "Each row is one picture: as it is, what speaks for the predicted class, what speaks for the "
    "true class, and what speaks for the predicted rather than the true one. Colour bars are in "
    "units of the logit."
)


def write_mistakes_page(mistakes: Sequence[Mistakes], path: Path) -> None:
    """Write one HTML file that opens offline: the worst mistakes, then the confused pairs."""
    write_text(path, render_mistakes_page(mistakes))


def render_mistakes_page(mistakes: Sequence[Mistakes]) -> str:
    """The page as HTML that loads nothing from elsewhere."""
    parts = [_section(group) for group in mistakes] or ["<p>No picture is classified wrongly.</p>"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Explained mistakes</title>'
        f"<style>{_STYLE}</style></head><body><h1>Explained mistakes</h1><p>{_HOW_TO_READ}</p>"
        f"{''.join(parts)}</body></html>"
    )


def _section(group: Mistakes) -> str:
    picture = to_html(to_png(draw_mistakes(group)), _remarks(group.predicted))
    return f"<h2>{html.escape(group.title)}</h2>{picture}"


def _remarks(explanation: Explanation) -> tuple[str, ...]:
    return (f"Method: {explanation.method}.", *explanation.notes, *explanation.warnings)
