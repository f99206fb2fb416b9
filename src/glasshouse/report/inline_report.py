"""A run's report below a cell of a notebook, on hosts where no page can be opened."""

import html
from dataclasses import dataclass
from pathlib import Path

from glasshouse.errors import UsageError, require_type

REPORT = "report.html"
_HEIGHT = 720
_EXPECTED = (
    "the folder of a finished run, as a text or a Path, whose report is shown; anything else shows "
    "itself as the last line of a cell, or is drawn by plot_augmentation, plot_class_differences, "
    "plot_classes, plot_confusion, plot_curves, plot_images, plot_lr_curve, plot_mistakes or "
    "plot_reliability"
)


@dataclass(frozen=True)
class InlineReport:
    """A report that a notebook shows, with its charts, below the cell that returns it."""

    file: Path

    def _repr_html_(self) -> str:
        text = html.escape(self.file.read_text(encoding="utf-8"))
        # A frame keeps the styles of the page and of the notebook apart. Its scripts run as those
        # of another site, without access to the notebook.
        return (
            f'<iframe title="{html.escape(str(self.file))}" srcdoc="{text}" width="100%" '
            f'height="{_HEIGHT}" style="border: 0" sandbox="allow-scripts allow-popups"></iframe>'
        )


def show(run: str | Path) -> InlineReport:
    """Show the report of a run in a notebook, from its file alone.

    run: the folder of a finished run, or a report. What the report links to are other files of the
    run, which open from its folder only. Raises UsageError where there is no report.
    """
    require_type(run, (str, Path), _EXPECTED)
    file = Path(run) / REPORT if Path(run).is_dir() else Path(run)
    if not file.is_file() or file.suffix != ".html":
        raise UsageError(
            f"{run}: expected the folder of a finished run, with its {REPORT}; to write the report "
            f"of a run that was stopped, resume it"
        )
    return InlineReport(file)
