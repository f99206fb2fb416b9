"""A run's mistakes, explained on a page of its report."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from glasshouse.data.images import ImageSet, take
from glasshouse.data.sources import load_splits
from glasshouse.evaluation.evaluation import evaluate
from glasshouse.explanation.draw.canvas import to_png
from glasshouse.explanation.draw.rows import draw_mistakes
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.methods import SLOW_METHODS
from glasshouse.explanation.mistakes import explain_mistakes
from glasshouse.explanation.pipeline import sheet_methods
from glasshouse.explanation.trust.localisation import Localisation, score_localisation
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import load_predictions, predict
from glasshouse.report.explanation_page import write_mistakes_page
from glasshouse.runs import folder as runs
from glasshouse.storage import write_bytes
from glasshouse.workflow.train.pretrained_setup import data_settings
from glasshouse.workflow.train.reporting import write_run_report
from glasshouse.workflow.use.predictions import load_run_classifier


def explain_run_mistakes(
    run: Path, out: Path | None = None, *, data_dir: Path | None = None, offline: bool = False
) -> Path:
    """Write a page of a run's worst mistakes and most confused classes; returns its path.

    out: a folder to write the page to; unset: the run folder, whose report then shows its first
    part and links to it. The mistakes are those on the validation split: conclusions drawn from
    them may change the model, and the test split must not influence that.
    """
    classifier, facts = load_run_classifier(run), runs.read_run(run)
    recorded, recipe = facts.environment["data"], facts.recipe
    is_own = recipe.model.pretrained is None
    settings = recipe.data if is_own else data_settings(recorded["source"], recipe)
    splits = replace(
        load_splits(recorded["source"], settings, data_dir=data_dir, offline=offline),
        notes=tuple(recorded["notes"]),
    )
    predictions = predict(classifier, splits.validation)
    found = explain_mistakes(classifier, splits.validation, predictions)
    scores = score_maps(classifier, splits.validation)
    if out is not None:
        write_mistakes_page(found, out / runs.MISTAKES, scores=scores)
        return out / runs.MISTAKES
    write_mistakes_page(found, run / runs.MISTAKES, scores=scores, report=runs.REPORT)
    if found:
        write_bytes(run / runs.EXPLAINED_MISTAKES, to_png(draw_mistakes(found[0])))
    predictions = load_predictions(run / runs.PREDICTIONS)
    write_run_report(run, splits, classifier, predictions, evaluate(predictions))
    return run / runs.MISTAKES


def score_maps(
    classifier: Classifier, images: ImageSet, *, most: int = 200
) -> tuple[Localisation, ...]:
    """How well the maps of the true classes locate the objects; empty without masks.

    Methods that need many passes are left out. most: at most this many images are used.
    """
    if images.masks is None:
        return ()
    some = take(images, np.arange(min(most, len(images))))
    methods = [m for m in sheet_methods(classifier, some.pixels[0]) if m not in SLOW_METHODS]
    page = explain_page(classifier, some.pixels, methods=methods, target_class=some.labels)
    assert some.masks is not None
    return score_localisation(page.explanations, some.masks)
