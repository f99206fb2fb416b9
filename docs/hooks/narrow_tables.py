"""Let wide tables become cards on narrow pages; the style is in ``docs/assets/site.css``."""

from typing import Any

from glasshouse.report.narrow_tables import Columns, name_cells

# What fits next to each other on a phone: characters that cannot break, and, before columns become
# very narrow, characters in all.
_MOST_WHOLE, _MOST = 40, 80
_LONG = 60  # characters of a cell that has several lines anyway


def on_post_page(output: str, **_: Any) -> str:
    """Mark the tables of a page; MkDocs calls this for each one, after line_breaks.py."""
    return name_cells(output, _is_wide)


def _is_wide(columns: Columns) -> bool:
    words = [
        max(len(word) for cell in column for word in (cell or " ").split(" ")) for column in columns
    ]
    in_all = [max(min(len(cell), _LONG) for cell in column) for column in columns]
    return sum(words) > _MOST_WHOLE or sum(in_all) > _MOST
