"""Tables of pages that become cards on a phone: each short cell then names its column.

The style of a page does so for tables that are marked here.
"""

import html
import re
from collections.abc import Callable, Sequence

Columns = Sequence[Sequence[str]]

_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_ROW = re.compile(r"<tr>.*?</tr>", re.DOTALL)
_CELL = re.compile(r"<(t[hd])([^>]*)>(.*?)</\1>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_LONG = 60  # characters of a cell that is prose, and needs no name


def name_cells(page: str, is_wide: Callable[[Columns], bool]) -> str:
    """The page with its wide tables marked, and each short cell with the name of its column.

    is_wide: decides by the texts of the columns, each with its heading first; it is asked about
    tables without a class and with at least three columns. ``<wbr>`` in a text is a space.
    """
    return _TABLE.sub(lambda found: _named(found.group(), is_wide), page)


def _named(table: str, is_wide: Callable[[Columns], bool]) -> str:
    rows = [[_text(cell) for _, _, cell in _CELL.findall(row)] for row in _ROW.findall(table)]
    count = len(rows[0]) if rows else 0
    columns = list(zip(*(row for row in rows if len(row) == count), strict=True))
    if count < 3 or not is_wide(columns):
        return table
    labels = [
        "" if max(map(len, column)) > _LONG else name
        for name, column in zip(rows[0], columns, strict=True)
    ]
    marked = _ROW.sub(lambda row: _with_labels(row.group(), labels), table)
    return marked.replace("<table>", f'<table data-columns="{count}">', 1)


def _with_labels(row: str, labels: Sequence[str]) -> str:
    left = iter(labels)

    def labelled(found: re.Match[str]) -> str:
        kind, attributes, content = found.groups()
        label = next(left, "")
        is_shown = kind == "td" and label and _text(content)
        named = f' data-label="{html.escape(label)}"' if is_shown else ""
        return f"<{kind}{attributes}{named}>{content}</{kind}>"

    return _CELL.sub(labelled, row)


def _text(cell: str) -> str:
    return html.unescape(_TAG.sub("", cell.replace("<wbr>", " "))).strip()
