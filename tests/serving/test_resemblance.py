"""What the workbench says a photo resembles: against the command's answer, and on the page."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nicegui.testing import User

from glasshouse.data.images import images_by_id
from glasshouse.errors import DataError, UsageError
from glasshouse.models.classifier import load_classifier
from glasshouse.models.predict import logits_of
from glasshouse.report.encoding import image_uri
from glasshouse.runs import folder as runs
from glasshouse.serving import resemblance
from glasshouse.serving.explainer import Explainer, photo_of
from glasshouse.serving.pages import resembles
from glasshouse.serving.pages.parts import box
from glasshouse.serving.pages.resembles import draw_resemblance, show_resemblance
from glasshouse.serving.resemblance import (
    ShownResemblance,
    is_compared_at_once,
    resemblance_of,
    run_to_compare,
)
from glasshouse.serving.run_cache import run_splits
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.model_choices import ModelChoice
from glasshouse.workflow.use.photo_and_run import Resemblance, RunComparison
from glasshouse.workflow.use.similar_images import Similar
from glasshouse.workflow.use.unknown_images import Familiarity
from tests.serving.conftest import act, elements, outline, until, visit
from tests.serving.runs import trained_run

SIMILAR = Similar(("train/a.png", "train/b.png"), ("cat", "a<b"), (0.25, 0.5))


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(trained_run(tmp_path / "digits").parent, offline=True)


def answered(workbench: Workbench, row: int = 3) -> Any:
    images = run_splits(workbench, workbench.runs / "digits").test
    return Explainer(workbench).explain(ModelChoice("digits"), photo_of(images, row))


def test_the_page_says_what_the_command_says_and_shows_the_images(workbench: Workbench) -> None:
    run, answer = workbench.runs / "digits", answered(workbench)
    splits = run_splits(workbench, run)
    viewer = Workbench(workbench.runs, offline=True, read_only=True)
    assert not is_compared_at_once(viewer, run)
    with pytest.raises(UsageError, match="read-only"):
        resemblance_of(viewer, answer, run)
    assert not (run / runs.TRAINING_FEATURES).exists()
    shown = resemblance_of(workbench, answer, run)
    classifier, pixels = load_classifier(run), splits.test.pixels[3:4]
    (expected,) = RunComparison.of(run, classifier).compare(pixels, logits_of(classifier, pixels))
    assert shown.found.as_json() == expected.as_json()
    assert expected.similar is not None
    images = images_by_id(splits.train, expected.similar.ids)
    assert shown.images == {name: image_uri(image) for name, image in images.items()}
    assert len(shown.images) == 5
    # What is kept by now may be used by a viewer as well.
    assert is_compared_at_once(viewer, run)
    assert resemblance_of(viewer, answer, run).found.as_json() == expected.as_json()


def test_without_its_source_the_names_are_left(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, run = answered(workbench), workbench.runs / "digits"
    resemblance_of(workbench, answer, run)

    def gone(*_: object) -> None:
        raise DataError("gone")

    monkeypatch.setattr(resemblance, "run_splits", gone)
    shown = resemblance_of(workbench, answer, run)
    assert shown.images == {} and shown.found.similar is not None


def test_only_the_final_weights_of_a_run_have_images_to_compare_with(workbench: Workbench) -> None:
    folder = workbench.runs
    assert run_to_compare(workbench, ModelChoice("digits")) == (folder / "digits").resolve()
    assert run_to_compare(workbench, ModelChoice("digits", epoch=1)) is None
    assert run_to_compare(workbench, ModelChoice("cifar10-small")) is None


def test_many_images_are_read_when_somebody_asks(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resemblance, "_FEW", 299)
    answer = answered(workbench)

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as place:
            await show_resemblance(workbench, answer, place)
            assert "Its 300 training images are read once for this." in outline(place)
            (ask,) = elements(user, words="Compare with the training images")
            viewer = Workbench(workbench.runs, read_only=True)
            with box() as other:
                await show_resemblance(viewer, answer, other)
            assert "--similar" in "".join(outline(other))
            assert len(elements(user, words="Compare with the training images")) == 1
            act(user, ask)
            await until(lambda: elements(user, css="gh-near"))
        assert len([each for each in outline(place) if each.startswith("data:image")]) == 5

    visit(workbench, story)


def test_what_is_said_of_a_photo(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise DataError("the images have changed")

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None

        def said(as_unusual: int, among: int) -> list[str]:
            found = Resemblance(Familiarity("nearest", 0.5, as_unusual, among), SIMILAR)
            with box() as place:
                draw_resemblance(ShownResemblance(found, {"train/a.png": "data:a"}))
            return outline(place)

        with user.client:
            assert said(0, 99) == [
                "[error_outline]",
                "Unlike anything it was trained on: 0 of 99 validation images are as unusual in "
                "appearance and distance from the training images; do not rely on the answer",
                " (p = 0.010)",
                "The training images that it resembles most",
                "data:a", "cat", "0.250", "a<b", "0.500", "train/", "b.", "png",
            ]  # fmt: skip
            assert said(50, 99)[0] == "[check_circle]" and said(50, 99)[2] == " (p = 0.510)"
            assert said(0, 19)[0] == "[info_outline]" and said(0, 19)[1].startswith("Too few")
            assert said(0, 0)[0] == "[info_outline]" and "p =" not in "".join(said(0, 0))
            monkeypatch.setattr(resembles, "_run_to_compare", refuse)
            with box() as place:
                await show_resemblance(workbench, answered(workbench), place)
            assert outline(place) == [
                "It cannot be compared with the training images: the images have changed"
            ]

    visit(workbench, story)


def test_an_image_of_the_set_is_found_by_its_id(workbench: Workbench) -> None:
    train = run_splits(workbench, workbench.runs / "digits").train
    found = images_by_id(train, [str(train.ids[2]), "no such image"])
    assert list(found) == [str(train.ids[2])]
    np.testing.assert_array_equal(found[str(train.ids[2])], train.pixels[2])
