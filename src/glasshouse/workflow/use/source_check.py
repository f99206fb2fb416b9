"""Checks of a source: for a report, and before training."""

from dataclasses import asdict, dataclass
from pathlib import Path

from glasshouse.data.findings import Finding, names_of
from glasshouse.data.image_checks import blocking, check
from glasshouse.data.images import Splits
from glasshouse.data.sources import is_multi_label, load_splits
from glasshouse.errors import DataError, RecipeError, UnreadableFiles
from glasshouse.progress import Progress
from glasshouse.report.data_report import render_data_report
from glasshouse.settings import DataSettings
from glasshouse.storage import write_json, write_text

_SHOWN = 3
_UNREADABLE = "The source cannot be loaded"


@dataclass(frozen=True)
class Examination:
    """The findings of a check; splits is None when the source cannot be loaded at all."""

    source: str
    findings: tuple[Finding, ...]
    splits: Splits | None

    @property
    def blocks(self) -> bool:
        """True when training would refuse this source."""
        return any(finding.level == "error" for finding in self.findings)


def examine(
    source: str,
    settings: DataSettings,
    *,
    data_dir: Path | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Examination:
    """Load a source, skipping unreadable files, and check every image.

    A source that cannot be loaded is a finding as well. Raises UsageError for an unknown source.
    """
    # The validation split is checked on its own, even where it is also trained on.
    lenient = settings.model_copy(update={"on_bad_file": "skip", "train_on_validation": False})
    try:
        splits = load_splits(source, lenient, data_dir=data_dir, offline=offline, progress=progress)
    except UnreadableFiles as error:
        paths, reasons = zip(*error.files, strict=True) if error.files else ((), ())
        found = Finding(
            kind="unreadable-source",
            level="error",
            title=_UNREADABLE,
            detail=error.summary,
            ids=paths,
            reasons=reasons,
        )
        return Examination(source, (found,), None)
    except DataError as error:
        return Examination(
            source, (Finding("unreadable-source", "error", _UNREADABLE, str(error)),), None
        )
    return Examination(source, check(splits), splits)


def write_examination(examination: Examination, out: Path) -> Path:
    """Write check.html and check.json into a folder; returns the path of the page."""
    findings = examination.findings
    write_json(out / "check.json", [asdict(finding) for finding in findings])
    page = out / "check.html"
    write_text(page, render_data_report(examination.source, findings, examination.splits))
    return page


def require_no_errors(splits: Splits, settings: DataSettings) -> None:
    """Raise DataError for errors that invalidate metrics, unless settings.on_finding is ignore."""
    if settings.on_finding == "ignore":
        return
    found = blocking(splits)
    if found:
        lines = [f"  {finding.title}: {finding.detail}{_names(finding)}" for finding in found]
        raise DataError(
            "errors in the data would invalidate the metrics of this run:\n"
            + "\n".join(lines)
            + "\nFix the images (`glasshouse check SOURCE --out FOLDER` shows them side by side), "
            "or train anyway with --set data.on_finding=ignore."
        )


def require_held_out(settings: DataSettings, command: str) -> None:
    """Raise RecipeError when a command would judge by images that are also trained on."""
    if settings.train_on_validation:
        raise RecipeError(
            f"data.train_on_validation: {command} needs held-out images, but this trains on them. "
            "Leave it unset here, and set it for the final training, when nothing is left to "
            "choose."
        )


def require_one_label(source: str, command: str) -> None:
    """Raise DataError for a command that cannot work with several labels per image.

    No image is read.
    """
    if is_multi_label(source):
        raise DataError(
            f"{command} works with one label per image, but these images may have several. For "
            "them, use explain --errors, whose maps show what each wrong label was seen in."
        )


def _names(finding: Finding) -> str:
    shown = "; ".join(names_of(group) for group in finding.groups[:_SHOWN])
    return f" ({shown}{' ...' if len(finding.groups) > _SHOWN else ''})" if shown else ""
