"""A self-contained page on the shortcuts of a classifier, next to the report of a run."""

from pathlib import Path

from glasshouse.explanation.shortcuts.find import ExchangedImage, Shortcuts
from glasshouse.explanation.shortcuts.verdict import (
    limits_of,
    shortcut_advice,
    shortcut_sentence,
    shortcut_verdict,
    suspicious,
)
from glasshouse.report.html import Tile, render_template, tile
from glasshouse.storage import write_text


def write_shortcuts_page(found: Shortcuts, path: Path, *, title: str, report: str = "") -> None:
    """Write one HTML file that opens offline.

    title: of the run; report: the file name of its report next to this page.
    """
    values = {
        "found": found,
        "title": title,
        "report": report,
        "verdict": shortcut_verdict(found),
        "shortcuts": [
            (test, shortcut_sentence(test), shortcut_advice(test), _rows(found, test.name))
            for test in found.used
        ],
        "limits": limits_of(found),
        "tests": [test for test in found.tests if test.subject == "all"],
        "shares": [share for share in found.shares if not share.class_name],
        "class_shares": sorted(
            (share for share in found.shares if share.class_name and share.is_suspicious),
            key=lambda share: share.area / max(share.share.value, 1e-9),
        )[:20],
        "suspicious": suspicious(found.shares),
    }
    write_text(path, render_template("shortcuts.html.jinja", values))


def _rows(found: Shortcuts, name: str) -> list[tuple[ExchangedImage, Tile, Tile]]:
    return [(each, tile(each.before), tile(each.after)) for each in found.examples.get(name, ())]
