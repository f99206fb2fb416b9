"""The groups of images that a run's classifier gets wrong more often than the rest."""

from pathlib import Path
from typing import Any

from glasshouse.data.image_traits import image_traits
from glasshouse.evaluation.failing_groups import find_failing_groups
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import logits_of
from glasshouse.report.group_page import described_groups, groups_as_json, write_groups_page
from glasshouse.runs import folder as runs
from glasshouse.storage import write_json
from glasshouse.workflow.use.known_images import features_of
from glasshouse.workflow.use.predictions import load_run_classifier
from glasshouse.workflow.use.run_mistakes import refresh_report
from glasshouse.workflow.use.run_splits import require_images_of_run, splits_of_run
from glasshouse.workflow.use.source_check import require_held_out, require_one_label


def find_run_groups(
    run: Path,
    *,
    data_dir: Path | None = None,
    offline: bool = False,
    classifier: Classifier | None = None,
) -> dict[str, Any]:
    """Find them, and write groups.json, groups.html and their part of the report.

    Returns the content of groups.json. The images are those of the validation split; the test split
    is not used, because what is learned here may change the model. classifier: the run's, where it
    is loaded already. Raises DataError where its images have changed, and RecipeError for a run
    that was trained on its validation split.
    """
    classifier, facts = classifier or load_run_classifier(run), runs.read_run(run)
    require_one_label(facts.source, "groups")
    require_held_out(facts.recipe.data, "groups")
    splits = splits_of_run(facts, data_dir=data_dir, offline=offline)
    require_images_of_run(splits, facts)
    images = splits.validation
    features = features_of(backbone_of(classifier.net), classifier.preprocessing, images.pixels)
    answers = classifier.to_probabilities(logits_of(classifier, images.pixels))
    traits = image_traits(images)
    failing = find_failing_groups(features, images.labels, answers, traits=traits)
    groups = described_groups(failing, images, traits)
    found = groups_as_json(groups, len(images))
    write_json(run / runs.GROUPS, found)
    write_groups_page(groups, images, run / runs.GROUPS_PAGE, title=run.name, report=runs.REPORT)
    refresh_report(run, splits, classifier)
    return found
