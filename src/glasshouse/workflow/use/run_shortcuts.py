"""The shortcuts of a run: measured on its validation split, written into its folder."""

from pathlib import Path

from glasshouse.explanation.shortcuts.find import Progress, Shortcuts, find_shortcuts
from glasshouse.explanation.shortcuts.verdict import shortcuts_as_json
from glasshouse.models.classifier import Classifier
from glasshouse.report.shortcut_page import write_shortcuts_page
from glasshouse.runs import folder as runs
from glasshouse.storage import write_json
from glasshouse.workflow.use.predictions import load_run_classifier
from glasshouse.workflow.use.run_mistakes import refresh_report
from glasshouse.workflow.use.run_splits import require_images_of_run, splits_of_run
from glasshouse.workflow.use.source_check import require_held_out, require_one_label


def find_run_shortcuts(
    run: Path,
    *,
    count: int | None = None,
    data_dir: Path | None = None,
    offline: bool = False,
    classifier: Classifier | None = None,
    progress: Progress | None = None,
) -> Shortcuts:
    """Measure, and write shortcuts.json, shortcuts.html and their part of the report.

    The images are those of the validation split; the test split is not used, because what is
    learned here may change the model. count: of images; unset: see `find_shortcuts`. classifier:
    the run's, where it is loaded already. Raises DataError where its images have changed, and
    RecipeError for a run that was trained on its validation split.
    """
    classifier, facts = classifier or load_run_classifier(run), runs.read_run(run)
    require_one_label(facts.source, "shortcuts")
    require_held_out(facts.recipe.data, "shortcuts")
    splits = splits_of_run(facts, data_dir=data_dir, offline=offline)
    require_images_of_run(splits, facts)
    found = find_shortcuts(
        classifier, splits.validation, splits.train, count=count, progress=progress
    )
    write_json(run / runs.SHORTCUTS, shortcuts_as_json(found))
    write_shortcuts_page(found, run / runs.SHORTCUTS_PAGE, title=run.name, report=runs.REPORT)
    refresh_report(run, splits, classifier)
    return found
