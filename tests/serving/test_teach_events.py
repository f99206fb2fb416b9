"""What the page Teach does when its fields, buttons, uploads and the webcam report something."""

import asyncio
import base64
from collections.abc import Awaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nicegui import ui
from nicegui.element import Element
from nicegui.testing import User

from glasshouse.errors import UsageError
from glasshouse.runs import folder as runs
from glasshouse.runs.background import Launch
from glasshouse.serving import teaching
from glasshouse.serving.pages.parts import text
from glasshouse.serving.pages.teach import class_cards, lesson_panel, trial_panel
from glasshouse.serving.pages.teach.lesson_panel import LessonPanel
from glasshouse.serving.pages.teach.trial_panel import TrialPanel
from glasshouse.serving.photo_classes import PhotoResult
from glasshouse.serving.taught_sets import (
    MOST_FILE_BYTES,
    classes_of,
    set_folder,
)
from glasshouse.serving.teaching import launch_of_set, runs_of_set, step_of
from glasshouse.serving.workbench import Workbench
from tests.serving.conftest import act, elements, outline, until, upload, visit
from tests.serving.made_up import made_up_answer
from tests.serving.test_taught_sets import png
from tests.serving.test_teach_page import write_set


def frame(purpose: str, number: int = 0) -> dict[str, str]:
    data = base64.b64encode(png(number, "JPEG")).decode()
    return {"purpose": purpose, "frame": f"data:image/jpeg;base64,{data}"}


def test_classes_are_added_renamed_and_refused_by_their_fields(workbench: Workbench) -> None:
    folder = write_set(workbench, "cat")

    async def story(user: User) -> None:
        await user.open("/teach?set=pets")

        def field(label: str) -> Any:
            return elements(user, aria_label=label)[0]

        for name, problem in (("test", "is the name of a split"), ("owl", "")):
            # The browser takes the name out of the field, and sends it.
            act(user, elements(user, words="Add class")[0], "click", name)
            if problem:
                await user.should_see(problem)
        assert list(classes_of(folder)) == ["cat", "owl"]
        act(user, field("Name of a new class"), "keydown.enter", "fox")
        assert list(classes_of(folder)) == ["cat", "fox", "owl"]
        cat = field("Name of class cat")
        cat.value = "con"
        act(user, cat, "blur")
        await user.should_see("has a special meaning for file systems")
        assert cat.value == "cat" and len(classes_of(folder)["cat"]) == 3
        cat.value = "lynx"
        act(user, cat, "keydown.enter")
        assert list(classes_of(folder)) == ["fox", "lynx", "owl"]
        assert elements(user, aria_label="Name of class lynx")

    visit(workbench, story)


def test_files_are_uploaded_refused_by_name_and_removed(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_set(workbench, "cat", "dog")
    monkeypatch.setattr(class_cards, "_SHOWN", 4)

    async def story(user: User) -> None:
        await user.open("/teach?set=pets")
        drop = elements(user, css="gh-drop", batch=True)[0]
        bad = [(f"{k}.txt", b"no image") for k in range(8)]
        await upload(drop, ("new.png", png(99)), *bad)
        await until(lambda: elements(user, css="gh-refused"))
        reasons = outline(elements(user, css="gh-refused")[0])
        assert len(reasons) == 7 and reasons[-1] == "and 2 more"
        assert len(classes_of(folder)["cat"]) == 4 and len(classes_of(folder)["dog"]) == 3
        await upload(drop, ("newer.png", png(98)))
        await until(lambda: len(classes_of(folder)["cat"]) == 5)
        await until(lambda: not elements(user, css="gh-refused"))
        shown = outline(elements(user, css="gh-taught")[0])
        assert shown[-1] == "and 1 more" and shown.count("×") == 4
        (newest,) = (file.name for file in classes_of(folder)["cat"] if file.name[:5] == "newer")
        act(user, elements(user, aria_label=f"Remove {newest}")[0])
        assert len(classes_of(folder)["cat"]) == 4
        assert "and 1 more" not in outline(elements(user, css="gh-taught")[0])
        limits = "a file has at most 20 MB, and one upload at most 512 MB and 1,000 files"
        act(user, drop, "rejected")
        assert outline(elements(user, css="gh-refused")[0]) == [
            f"Some files were refused: {limits}."
        ]
        act(user, drop, "failed")
        (said,) = outline(elements(user, css="gh-refused")[0])
        assert said == f"The upload was refused or broke off: {limits}."
        assert drop.props["max-file-size"] == 20 << 20
        assert drop.props["max-total-size"] == 511 << 20

    visit(workbench, story)


@pytest.mark.parametrize("excess", [0, 1])
def test_no_more_of_a_file_is_read_than_shows_that_it_is_too_large(excess: int) -> None:
    async def read() -> bytes:
        return b"all"

    file: Any = SimpleNamespace(size=lambda: MOST_FILE_BYTES + excess, read=read)
    found = asyncio.run(class_cards._content(file))
    assert found == b"all" if not excess else len(found) == MOST_FILE_BYTES + 1


def event(**arguments: Any) -> Any:
    """What the page's script reports."""
    return SimpleNamespace(args=arguments)


async def within(user: User, answer: Awaitable[None]) -> None:
    """Answer what the page's script or a timer reports, as NiceGUI does: as a part of the page."""
    assert user.client is not None
    with user.client:
        await answer


def lesson(user: User, workbench: Workbench, folder: Path) -> tuple[LessonPanel, list[str]]:
    """The panel on the page of a user, and the runs that it offers for trial."""
    trained: list[str] = []
    assert user.client is not None
    with user.client:
        found = LessonPanel(workbench, folder)
    found.on_trained = trained.append
    return found, trained


def test_a_lesson_is_followed_from_its_start_to_its_result(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_set(workbench, "cat", "dog")
    now: Any = SimpleNamespace(is_at_work=True, status="training", is_over=False)
    listed: Any = SimpleNamespace(name="pets-1", score=(0.876, 0.5, 0.991), status="finished")
    monkeypatch.setattr(lesson_panel, "start_teaching", lambda *_: "pets-1")
    monkeypatch.setattr(lesson_panel, "snapshot_of", lambda *_: now)
    monkeypatch.setattr(lesson_panel, "step_of", lambda *_: "Computing features")
    monkeypatch.setattr(lesson_panel, "runs_of_set", lambda *_: [listed])

    async def story(user: User) -> None:
        await user.open("/")
        panel, trained = lesson(user, workbench, folder)
        panel.on_images()
        assert panel._go.enabled and "A fifth of the images" in panel._missing.text
        await within(user, panel._start())
        assert panel._timer.active and not panel._go.enabled
        assert outline(panel._state) == ["Starting"]
        panel.on_images()
        assert not panel._go.enabled
        panel._started -= 75
        await within(user, panel._look())
        assert outline(panel._state) == ["Computing features", "1:15 min"]
        now.is_at_work, now.status = False, "finished"
        await within(user, panel._look())
        assert panel._timer.active and not trained
        now.is_over = True
        await within(user, panel._look())
        assert not panel._timer.active and panel._go.enabled and trained == ["pets-1"]
        shown = outline(panel._state)
        assert shown[:3] == [
            "[check_circle]", "pets-1 is trained.",
            "88 % right on the images held out for the test (95 % confidence interval 50 % to "
            "99 %).",
        ]  # fmt: skip
        assert [shown[k] for k in (3, 5, 7, 9)] == [
            "Results", "Explain", "Check the images", "Other networks",
        ]  # fmt: skip
        assert shown[-1] == f"Images: {folder}"
        listed.score = None
        panel._show_result("pets-1")
        assert outline(panel._state)[2] == "Results"

    visit(workbench, story)


@pytest.mark.parametrize("log", ["", "\n".join(f"line {k}" for k in range(10))])
def test_a_lesson_that_fails_shows_the_end_of_its_log(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    folder = write_set(workbench, "cat", "dog")
    now: Any = SimpleNamespace(is_at_work=False, status="failed", is_over=False)
    monkeypatch.setattr(lesson_panel, "snapshot_of", lambda *_: now)
    monkeypatch.setattr(lesson_panel, "log_end", lambda *_: log)

    async def story(user: User) -> None:
        await user.open("/")
        panel, trained = lesson(user, workbench, folder)
        panel._follow("pets-1")
        await within(user, panel._look())
        shown = outline(panel._state)
        assert shown[0] == "The training stopped with this message:"
        expected = "\n".join(f"line {k}" for k in range(2, 10)) if log else "(no message)"
        assert shown[1] == expected and not trained and panel._go.enabled

    visit(workbench, story)


def test_a_lesson_begins_with_what_there_is(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = set_folder(workbench, "pets")
    launch = Launch("pets-2", pid=1, pid_started=0.0, command=("python",))
    found: list[Any] = [
        SimpleNamespace(name="pets-2", score=None, status="stopped"),
        SimpleNamespace(name="pets-1", score=None, status="finished"),
    ]
    at_work: list[Launch] = []
    monkeypatch.setattr(lesson_panel, "launch_of_set", lambda *_: next(iter(at_work), None))
    monkeypatch.setattr(lesson_panel, "runs_of_set", lambda *_: found)
    monkeypatch.setattr(lesson_panel, "_at_hand", lambda: ["resnet18"])

    def refuse(*_: object) -> str:
        raise UsageError("too few images")

    monkeypatch.setattr(lesson_panel, "start_teaching", refuse)

    async def story(user: User) -> None:
        await user.open("/")
        panel, trained = lesson(user, workbench, folder)
        assert panel._choice.value == "cifar10-small" and "32x32" in panel._words.text
        await within(user, panel.begin())
        assert trained == ["pets-1"] and not panel._timer.active
        assert panel._choice.value == "resnet18" and not panel._go.enabled
        await within(user, panel._start())
        assert outline(panel._state) == ["too few images"]
        at_work.append(launch)
        await within(user, panel.begin())
        assert panel._run == "pets-2" and panel._timer.active

    visit(workbench, story)


def test_the_step_of_a_lesson_follows_the_files_of_its_run(workbench: Workbench) -> None:
    said = [step_of(workbench, "pets-1")]
    for name in (runs.RECIPE, runs.HEADS, runs.MODEL):
        path = workbench.runs / "pets-1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        said.append(step_of(workbench, "pets-1"))
    assert said == [
        "Loading the network and the images", "Computing features and fitting the classifier",
        "Testing on images that were held out", "Writing the report",
    ]  # fmt: skip


def bars(panel: TrialPanel) -> dict[str, tuple[str, str, bool]]:
    """Of each class: its share, the width of its bar, and whether it is marked as the best."""
    rows = [number.parent_slot.parent for number, _ in panel._bars.values()]
    return {
        name: (number.text, bar.style["width"], "gh-explained" in row.classes)
        for (name, (number, bar)), row in zip(panel._bars.items(), rows, strict=True)
    }


def trial(user: User, workbench: Workbench) -> TrialPanel:
    assert user.client is not None
    with user.client:
        return TrialPanel(workbench)


def test_a_photo_is_tried(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = made_up_answer()
    result = PhotoResult({"cat": 0.25, "dog": 0.75}, answer, "key", 3, "Grad-CAM")
    monkeypatch.setattr(trial_panel, "_photo_result", lambda *_: result)

    async def compare(_: object, compared: object, place: Element) -> None:
        assert compared is answer
        with place:
            text("It resembles a cat.")

    monkeypatch.setattr(trial_panel, "show_resemblance", compare)

    async def story(user: User) -> None:
        await user.open("/")
        panel = trial(user, workbench)
        assert panel._nothing.visible and not panel._body.visible and not panel._off.visible
        panel.use("pets-1")
        assert panel._body.visible and not panel._nothing.visible
        assert panel._body.props["data-trying"] == "pets-1"
        (drop,) = elements(user, css="gh-try-drop")
        await upload(drop, ("a.png", png(1)))
        await until(lambda: elements(user, words="Explain this photo in full"))
        assert bars(panel) == {
            "cat": ("25 %", "25.0%", False), "dog": ("75 %", "75.0%", True),
        }  # fmt: skip
        assert outline(panel._seen) == [
            "./explain/answers/key/photo", "a.png", "./explain/answers/key/grey",
            "./explain/answers/key/map/3", "Grad-CAM: what speaks for it",
        ]  # fmt: skip
        assert "explain?model=pets-1&photo=" in outline(panel._more)[-1]
        await until(lambda: outline(panel._near) == ["It resembles a cat."])
        await upload(drop, ("b.png", b"no image"))
        await until(lambda: panel._problem.text)
        assert outline(panel._near) == []
        assert "b.png" in panel._problem.text and not panel._bars

    visit(workbench, story)


def test_the_bars_follow_the_webcam_while_it_is_on(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: list[str] = []
    taught: list[tuple[str, list[tuple[str, bytes]]]] = []
    monkeypatch.setattr(ui, "run_javascript", scripts.append)
    monkeypatch.setattr(trial_panel, "_shares_of_frame", lambda *_: {"cat": 0.9, "dog": 0.1})

    async def keep(name: str, files: list[tuple[str, bytes]]) -> None:
        taught.append((name, files))

    async def story(user: User) -> None:
        await user.open("/")
        panel = trial(user, workbench)
        panel.on_frame = keep

        def seen() -> list[bool]:
            return [each.visible for each in (panel._video, panel._camera, panel._off)]

        panel._on_state(event(on=True, problem="dark"))
        assert not scripts and panel._problem.text == "dark"
        panel.use("pets-1")
        assert scripts == ['webcam.want("try")']
        panel._on_state(event(on=True))
        assert seen() == [True, False, True]
        assert len(scripts) == 2 and panel._problem.text == ""
        await within(user, panel._on_frame(event(**frame("try"))))
        assert bars(panel) == {
            "cat": ("90 %", "90.0%", True), "dog": ("10 %", "10.0%", False),
        }  # fmt: skip
        assert not taught
        await within(user, panel._on_frame(event(**frame("class:cat", 5))))
        assert taught == [("cat", [("webcam.jpg", png(5, "JPEG"))])]
        panel._on_state(event(on=False))
        assert seen() == [False, True, False] and len(scripts) == 2
        await within(user, panel._on_frame(event(**frame("try"))))
        assert not panel._bars  # a late frame, after the webcam was turned off

    visit(workbench, story)


def test_runs_and_launches_of_a_set_are_those_of_its_folder(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs_of_set(workbench, set_folder(workbench, "pets")) == []
    folder = set_folder(workbench, "pets")
    command = ("python", "-m", "glasshouse", "train", str(folder), "--recipe", "x")
    at_work: list[Any] = [
        SimpleNamespace(run="a", is_running=False, command=command),
        SimpleNamespace(run="b", is_running=True, command=("1", "2", "3", "4", "other")),
        SimpleNamespace(run="c", is_running=True, command=command),
    ]
    monkeypatch.setattr(teaching, "launches", lambda _: at_work)
    found = launch_of_set(workbench, folder)
    assert found is not None and found.run == "c"
