from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glasshouse.errors import DataError, GlasshouseWarning, UsageError
from glasshouse.models.outputs import Predictions, load_predictions, save_predictions
from glasshouse.runs import folder as runs
from glasshouse.serving.run_images import confusion_cell
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.compare.compare_runs import compare_runs, disagreement_images
from glasshouse.workflow.compare.ladder import _measure
from glasshouse.workflow.use.predictions import load_run_classifier
from glasshouse.workflow.use.run_mistakes import explain_run_mistakes, refresh_report
from glasshouse.workflow.use.run_splits import splits_of_run
from tests.serving.runs import trained_run

Change = Callable[[Predictions], Predictions]


def first_renamed(found: Predictions) -> Predictions:
    return replace(found, ids=np.array(["gone/0", *found.ids.tolist()[1:]]))


def reversed_ids(found: Predictions) -> Predictions:
    return replace(found, ids=found.ids[::-1])


def fewer(found: Predictions) -> Predictions:
    return Predictions(found.logits[:9], found.labels[:9], found.ids[:9], found.class_names)


def other_classes(found: Predictions) -> Predictions:
    return replace(found, class_names=tuple(f"c{name}" for name in found.class_names))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return trained_run(tmp_path / "runs" / "first")


def change(run: Path, how: Change, name: str = runs.PREDICTIONS) -> None:
    found = load_predictions(run / runs.PREDICTIONS)
    save_predictions(how(found), run / name)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (first_renamed, "other images than the test split of its source, such as digits/"),
        (
            reversed_ids,
            "other images than the test split of its source, such as all in another order",
        ),
        (fewer, "other images than the test split"),
        (other_classes, "other classes than its source has"),
    ],
)
def test_mistakes_are_not_explained_where_the_predictions_are_of_another_run(
    run: Path, how: Change, words: str
) -> None:
    before = (run / runs.REPORT).read_bytes()
    change(run, how)
    with pytest.raises(DataError, match=f"predictions.safetensors has predictions for {words}"):
        explain_run_mistakes(run, offline=True)
    assert (run / runs.REPORT).read_bytes() == before
    assert not (run / runs.MISTAKES).exists()


def test_out_of_fold_predictions_of_other_images_are_a_named_error(run: Path) -> None:
    change(run, first_renamed, runs.OUT_OF_FOLD_PREDICTIONS)
    with pytest.raises(DataError, match="images that the training and validation split have not"):
        explain_run_mistakes(run, offline=True)


@pytest.mark.parametrize("name", [runs.METRICS, runs.PREDICTIONS])
def test_a_damaged_file_that_only_the_report_needs_leaves_it_as_it_was(
    run: Path, name: str
) -> None:
    before = (run / runs.REPORT).read_bytes()
    (run / name).write_bytes(b"\xff")
    splits, classifier = (
        splits_of_run(runs.read_run(run), data_dir=None, offline=True),
        load_run_classifier(run),
    )
    with pytest.warns(GlasshouseWarning, match=f"report.html stays as it was: .*{name}"):
        refresh_report(run, splits, classifier)
    assert (run / runs.REPORT).read_bytes() == before


def test_a_comparison_says_which_images_are_gone(run: Path) -> None:
    other = trained_run(run.parent / "second")
    change(run, lambda found: replace(found, ids=np.char.add(found.ids, "-old")))
    change(other, lambda found: replace(
        found, ids=np.char.add(found.ids, "-old"), logits=found.logits[:, ::-1].copy()
    ))  # fmt: skip
    found = compare_runs([run, other])
    with pytest.raises(
        DataError, match=r"cannot be found among those to compare on, such as digits/.*-old"
    ):
        disagreement_images(found, run, offline=True)


def test_seeds_of_a_step_are_only_joined_on_the_same_images(run: Path) -> None:
    other = trained_run(run.parent / "second")
    finished = [runs.read_run(folder) for folder in (run, other)]
    assert _measure(finished).scores.shape[0] == 2
    change(other, reversed_ids)
    with pytest.raises(DataError, match=r"second/predictions\.safetensors is of other test images"):
        _measure(finished)


def test_a_cell_of_classes_that_the_predictions_lack_is_a_named_error(run: Path) -> None:
    change(run, lambda found: replace(
        found, logits=found.logits[:, :3], class_names=found.class_names[:3],
        targets=np.minimum(found.labels, 2),
    ))  # fmt: skip
    workbench = Workbench(run.parent, offline=True)
    with pytest.raises(UsageError, match=r"fewer classes than evaluation\.json"):
        confusion_cell(workbench, "first", (7, 2), limit=3)
