"""What the page Explain does when somebody chooses a model, an image, a class or a map."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nicegui import ui
from nicegui.testing import User
from torch import nn

from glasshouse.errors import BadImage, DataError, UsageError
from glasshouse.explanation.draw.overlay import DEFAULT
from glasshouse.serving.pages import model_picker
from glasshouse.serving.pages.explain import strip as strip_module, view as explain_view
from glasshouse.serving.pages.explain.panel import Column
from glasshouse.serving.pages.explain.state import ExplainState
from glasshouse.serving.pages.explain.strip import fill_strip
from glasshouse.serving.pages.explain.view import _controls, _drop, _explained, _show, _show_upload
from glasshouse.serving.pages.model_picker import Chooser
from glasshouse.serving.pages.parts import box
from glasshouse.serving.photos import photo_store_of
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.model_choices import ModelChoice
from tests.serving import made_up
from tests.serving.conftest import act, elements, outline, until, upload, visit
from tests.serving.test_page_events import next_of
from tests.serving.test_teach_events import within

EPOCHS = {"one": [1, 3], "long": [1, 2, 3], "short": [4]}


class Fields:
    """The fields of two models on a page, and what was reported of them."""

    def __init__(self, user: User, *chosen: ModelChoice) -> None:
        self.changes: list[list[ModelChoice]] = []
        assert user.client is not None
        with user.client:
            self.chooser = Chooser(Path("runs"), list(EPOCHS), chosen, self._changed)
        self.first, self.second = self.chooser._fields

    async def _changed(self) -> None:
        self.changes.append(self.chooser.chosen)

    async def change(self) -> list[ModelChoice]:
        """The models after the one change that is reported."""
        await until(lambda: self.changes)
        (chosen,) = self.changes
        self.changes.clear()
        return chosen


def seen(fields: Any) -> list[bool]:
    return [fields.epoch.visible, fields.hint.visible, fields.weights.visible]


@pytest.fixture
def _kept_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_picker, "epochs_of_choice", lambda _, c: EPOCHS.get(c.name, []))


@pytest.mark.usefixtures("_kept_epochs")
def test_models_have_fields_for_what_they_were_chosen_with(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        page = Fields(user, ModelChoice("one", 3), ModelChoice("resnet50", 7))
        first, second, names = page.first, page.second, list(EPOCHS)
        assert first.epoch.options == {0: "final", 3: "epoch 3", 1: "epoch 1"}
        assert second.epoch.options == {0: "final"}
        assert first.name.options == names and second.name.options == [*names, "resnet50"]
        assert page.chooser.chosen == [ModelChoice("one", 3), ModelChoice("resnet50")]
        assert seen(first) == [True, True, False] and seen(second) == [False, False, True]
        monkeypatch.setattr(model_picker, "names_at_hand", lambda: ["resnet18", "one"])
        await within(user, page.chooser.offer_nets_at_hand())
        assert first.name.options == [*names, "resnet18"]
        assert second.name.options == [*names, "resnet50", "resnet18"]
        monkeypatch.setattr(model_picker, "names_at_hand", list)
        await within(user, page.chooser.offer_nets_at_hand())
        assert first.name.options == [*names, "resnet18"] and not page.changes

    visit(workbench, story)


@pytest.mark.usefixtures("_kept_epochs")
def test_a_change_of_a_model_is_reported_once_with_what_belongs_to_it(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        page = Fields(user, ModelChoice("one", 3), ModelChoice("resnet50"))
        first, second = page.first, page.second
        second.weights.value = " ~/net.safetensors "
        act(user, second.weights, "change")
        weights = Path("~/net.safetensors").expanduser()
        assert await page.change() == [
            ModelChoice("one", 3), ModelChoice("resnet50", None, weights),
        ]  # fmt: skip
        first.epoch.value = 1
        assert (await page.change())[0] == ModelChoice("one", 1)
        for name, expected in (
            ("long", [True, False, False]), ("short", [True, True, False]),
            ("vgg11", [False, False, True]), ("one", [True, True, False]),
        ):  # fmt: skip
            first.name.set_options([*EPOCHS, "vgg11"], value=name)
            assert (await page.change())[0] == ModelChoice(name)
            assert seen(first) == expected
        second.name.value = None
        assert await page.change() == [ModelChoice("one")]
        assert seen(second) == [False, False, False] and second.weights.value == ""

    visit(workbench, story)


class Explainer:
    """Answers with fixed maps, and notes what it was asked for."""

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        self.asked: list[tuple[Any, ...]] = []
        self.problem: Exception | None = None
        self.images = made_up.images_of(30, "a")

    def explain(self, model: Any, photo: Any, class_name: Any = None, layer: Any = None) -> Any:
        """The made-up answer, for this model."""
        self.asked.append((str(model), photo.name, class_name, layer))
        if self.problem is not None:
            raise self.problem
        return replace(made_up.made_up_answer(), key=str(model), model=model, photo=photo)

    def classifier(self, _: Any) -> Any:
        """A network of two layers for two classes."""
        net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
        return SimpleNamespace(class_names=("cat", "dog"), net=net)

    def image_model(self, models: Any) -> Any:
        """The first of them."""
        return models[0]

    def test_images(self, model: Any) -> Any:
        """Thirty black images; none of the model "gone"."""
        if model.name == "gone":
            raise DataError("the folder is gone")
        return self.images

    def with_more(self, key: str) -> Any:
        """The answer with one more map; None once it was forgotten."""
        if key == "forgotten":
            return None
        answer = replace(made_up.made_up_answer(), key=key)
        slow = replace(answer.page.explanations[2], method="occlusion")
        page = replace(answer.page, explanations=(*answer.page.explanations, slow))
        return replace(answer, page=page)

    def checked(self, key: str) -> Any:
        """The same answer, which was checked from the beginning."""
        return replace(made_up.made_up_answer(), key=key)


def state(workbench: Workbench, *names: str) -> tuple[ExplainState, Explainer]:
    explainer: Any = Explainer(workbench)
    return ExplainState(explainer, [ModelChoice(name) for name in names]), explainer


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The answers whose similar images are shown, where their columns show them."""
    found: list[str] = []
    places: list[Any] = []
    init = Column.__init__

    def noted(self: Any, *given: Any) -> None:
        init(self, *given)
        places.append(self.near)

    async def resemblance(_: Any, answer: Any, place: Any) -> None:
        assert place in places
        found.append(answer.key)

    monkeypatch.setattr(Column, "__init__", noted)
    monkeypatch.setattr(explain_view, "show_resemblance", resemblance)
    return found


async def opened(user: User, scripts: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A place on a page, whose scripts are noted instead of run."""
    await user.open("/")
    assert user.client is not None
    monkeypatch.setattr(user.client, "run_javascript", scripts.append)
    with user.client, box() as place:
        return place


def test_an_image_is_explained_by_each_model(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, near: list[str]
) -> None:
    view, explainer = state(workbench, "one", "two")
    scripts: list[str] = []

    async def story(user: User) -> None:
        place = await opened(user, scripts, monkeypatch)
        await _show(view, place)
        assert view.turn == 0 and not explainer.asked  # no photo yet
        view.photo, view.asked = made_up.made_up_answer().photo, {"image": "a/3.png"}
        view.class_name, view.layer = "dog", "1"
        await _show(view, place)
        assert explainer.asked == [(m, "my cat.png", "dog", "1") for m in ("one", "two")]
        assert near == ["one", "two"] and view.turn == 1
        assert [column.answer.key for column in view.columns] == ["one", "two"]
        assert not any(column.is_checking for column in view.columns)
        assert elements(user, css="gh-columns") and not elements(user, css="gh-single")
        assert not elements(user, css="gh-waiting")
        # What applies to both columns comes first, and once.
        assert len(elements(user, css="gh-looks")) == 1
        assert "history.replaceState" in scripts[0] and "class=dog&layer=1" in scripts[0]
        assert "scrollIntoView" in scripts[1] and place.html_id in scripts[1]
        # A class and a layer that a network does not have are left to it.
        view.class_name, view.layer, view.models = "owl", "none", view.models[:1]
        explainer.asked.clear()
        await _show(view, place)
        assert explainer.asked == [("one", "my cat.png", None, None)]
        assert elements(user, css="gh-single") and not elements(user, css="gh-columns")
        explainer.problem = UsageError("no such thing")
        await _show(view, place)
        assert outline(place)[1:] == ["This image cannot be explained", "no such thing"]

    visit(workbench, story)


@pytest.mark.usefixtures("near")
def test_a_map_is_chosen_in_all_columns_and_more_are_added_to_one(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, _ = state(workbench, "one", "two")
    view.photo = made_up.made_up_answer().photo
    scripts: list[str] = []

    async def story(user: User) -> None:
        place = await opened(user, scripts, monkeypatch)
        await _show(view, place)
        first, second = view.columns
        scripts.clear()
        first.on_method("saliency")
        assert first.method == second.method == view.method == "saliency"
        assert "method=saliency" in scripts[0]
        act(user, first.more)
        await until(lambda: first.methods[-1] == "occlusion")
        assert second.methods[-1] == "guided" and first.method == "saliency"

    visit(workbench, story)


def test_the_map_to_begin_with_is_shown_unless_another_one_is_chosen(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = made_up.made_up_answer()
    maps = tuple(replace(each, checks=()) for each in checked.page.explanations)
    answer = replace(checked, page=replace(checked.page, explanations=maps))

    async def story(user: User) -> None:
        with await opened(user, [], monkeypatch):
            open_, chosen, named = (
                Column(answer, method, DEFAULT) for method in (None, None, "grad-cam")
            )
        assert open_.method == "grad-cam"
        chosen.show_method("guided")
        for column in (open_, chosen, named):
            column.show_checks(checked)
        # Grad-CAM has a doubtful check.
        assert [each.method for each in (open_, chosen, named)] == [
            "saliency", "guided", "grad-cam"
        ]  # fmt: skip
        assert [name for name, tile in open_.tiles.items()
                if tile.props["aria-pressed"] == "true"] == ["saliency"]  # fmt: skip
        assert "why dog rather than cat" in outline(open_.words)
        assert "Grad-CAM failed more checks, so this map comes first." in outline(open_.words)
        open_.show_method("guided")
        assert "Grad-CAM failed more checks" not in " ".join(outline(open_.words))

    visit(workbench, story)


def test_fields_above_the_maps_change_what_is_shown(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, _ = state(workbench, "one")
    shown: list[tuple[str | None, str | None]] = []

    async def note(view: Any, place: Any) -> None:
        shown.append((view.class_name, view.layer))

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        answer = made_up.made_up_answer()
        many = replace(answer.page, class_names=tuple(f"c{k}" for k in range(21)),
                       logits=np.zeros((1, 21)))  # fmt: skip
        with user.client, box() as place:
            explain_view._looks(view, answer, place)
            view.columns = [Column(answer, "grad-cam", "inferno")]
        classes: Any = elements(user, css="gh-class")[0]
        layers: Any = elements(user, css="gh-layer")[0]
        assert classes.options == list(answer.page.class_names) and classes.value == "dog"
        assert layers.value == "" and layers.options == {
            "": "default (block.2)", "stem": "stem, 12x8", "end": "end, 3x1",
        }  # fmt: skip
        monkeypatch.setattr(explain_view, "_show", note)
        classes.value = "cat"
        await until(lambda: shown)
        layers.value = "stem"
        await until(lambda: len(shown) == 2)
        layers.value = ""
        await until(lambda: len(shown) == 3)
        assert shown == [("cat", None), ("cat", "stem"), ("cat", None)]
        (toggle,) = (e for e in elements(user) if type(e).__name__ == "Toggle")
        toggle.value = "jet"  # type: ignore[attr-defined]
        assert view.colours == "jet" and view.columns[0].colours == "jet"
        searched = []
        for page in (answer.page, replace(many, class_names=many.class_names[:20]), many):
            with user.client, box() as other:
                explain_view._looks(view, replace(answer, page=page), other)
            field = next(e for e in other.descendants() if "gh-class" in e.classes)
            searched.append(bool(field.props.get("use-input")))
        assert searched == [False, False, True]

    visit(workbench, story)


def test_late_results_are_dropped(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    view, explainer = state(workbench, "one")
    view.photo = made_up.made_up_answer().photo

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as place:
            pass

        async def overtaken(*_: Any) -> Any:
            view.turn += 1  # somebody asked for something else meanwhile
            if explainer.problem is not None:
                raise explainer.problem
            return made_up.made_up_answer()

        monkeypatch.setattr(explain_view, "in_thread", overtaken)
        for explainer.problem in (None, UsageError("too late")):
            await _show(view, place)
            assert outline(place) == ["Explaining …"] and not view.columns
        column: Any = SimpleNamespace(answer=SimpleNamespace(key="one"), words=place,
                                      show_more=lambda _: pytest.fail("too late"))  # fmt: skip
        explainer.problem = None
        await explain_view._add_more(view, view.turn, column)

        async def forgotten(*_: Any) -> Any:
            return None

        monkeypatch.setattr(explain_view, "in_thread", forgotten)
        await explain_view._add_more(view, view.turn, column)

    visit(workbench, story)


def test_a_layer_without_rows_and_columns_falls_back_to_the_default(workbench: Workbench) -> None:
    view, explainer = state(workbench, "one")
    view.layer, view.class_name = "0", "cat"
    photo = made_up.made_up_answer().photo
    asked: list[tuple[Any, ...]] = []

    def explain(model: Any, photo: Any, class_name: Any = None, layer: Any = None) -> Any:
        asked.append((class_name, layer))
        if layer is not None:
            raise UsageError("a flat layer")
        return "the answer"

    explainer.explain = explain  # type: ignore[method-assign]
    assert _explained(view, view.models[0], photo) == "the answer"  # type: ignore[comparison-overlap]
    assert asked == [("cat", "0"), ("cat", None)]


def test_photos_are_dropped_and_refused(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, _ = state(workbench, "one")
    view.class_name = "dog"
    shown: list[str] = []
    photo = made_up.made_up_answer().photo
    narrow = replace(photo, warning="Few levels.")
    answers: list[Any] = [BadImage("a.png", "cut off"), photo, narrow]

    async def show() -> None:
        assert view.photo is not None
        shown.append(view.photo.name)

    def read(data: bytes, name: str) -> Any:
        assert data == b"data" and name == "a.png"
        return next_of(answers)

    monkeypatch.setattr(explain_view, "read_photo", read)

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client:
            _drop(view, show)
        (drop,) = (e for e in elements(user) if isinstance(e, ui.upload))
        (message,) = elements(user, css="gh-message")
        reset: list[int] = []
        monkeypatch.setattr(drop, "reset", lambda: reset.append(1))
        await upload(drop, ("a.png", b"data"))
        await until(lambda: outline(message))
        assert "cut off" in outline(message)[0] and not shown and reset == [1]
        assert view.class_name == "dog"
        await upload(drop, ("a.png", b"data"))
        await until(lambda: shown)
        assert not outline(message) and view.class_name is None and set(view.asked) == {"photo"}
        await upload(drop, ("a.png", b"data"))
        await until(lambda: len(shown) == 2)
        assert outline(message) == ["Few levels."] and len(reset) == 3

    visit(workbench, story)


def test_a_photo_is_found_again_while_it_is_kept(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, _ = state(workbench, "one")
    shown: list[str] = []
    photo = made_up.made_up_answer().photo

    async def show() -> None:
        assert view.photo is photo
        shown.append(view.asked["photo"])

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        monkeypatch.setattr(photo_store_of(workbench), "photo", {"key": photo}.get)
        with user.client:
            with box() as place:
                pass
            await _show_upload(view, place, show, "key")
            assert shown == ["key"] and not outline(place)
            await _show_upload(view, place, show, "old")
        assert outline(place)[1] == "This photo is no longer kept" and shown == ["key"]

    visit(workbench, story)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is shown: the image, the class, the layer."""
    monkeypatch.setattr(model_picker, "epochs_of_choice", lambda *_: [])
    monkeypatch.setattr(strip_module, "_worst_mistakes", lambda *_: [4, 2])
    return []


def noting(view: ExplainState, shown: list[tuple[Any, ...]]) -> Callable[[], Awaitable[None]]:
    async def show() -> None:
        shown.append((view.photo and view.photo.name, view.class_name, view.layer))

    return show


def test_an_image_is_chosen_by_its_address_or_by_a_click(
    workbench: Workbench, shown: list[tuple[Any, ...]]
) -> None:
    view, _ = state(workbench, "one")
    view.class_name, view.layer = "dog", "stem"
    show = noting(view, shown)

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as strip:
            await fill_strip(view, strip, show, "a/7.png")
        assert shown == [("a/7.png", "dog", "stem")] and view.asked == {"image": "a/7.png"}
        thumbs = elements(user, css="gh-thumb")
        assert [e.props["title"] for e in thumbs[:2]] == ["dog · a/4.png", "owl · a/2.png"]
        assert thumbs[0].props["aria-label"] == "Explain a/4.png, an image of dog"
        assert len(thumbs) == 12
        act(user, thumbs[1])
        await until(lambda: len(shown) == 2)
        assert shown[1] == ("a/2.png", None, "stem") and view.asked == {"image": "a/2.png"}
        before = [e.props["title"] for e in thumbs[2:]]
        act(user, elements(user, words="Other images")[0])
        await until(lambda: view.shuffles == 2)
        assert [e.props["title"] for e in elements(user, css="gh-thumb")][2:] != before

    visit(workbench, story)


def test_another_model_has_other_images_classes_and_layers(
    workbench: Workbench, shown: list[tuple[Any, ...]]
) -> None:
    view, _ = state(workbench, "one")
    view.class_name, view.layer = "dog", "stem"

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client:
            strip, chooser = _controls(view, ["one", "two", "gone"], noting(view, shown))
        first, second = chooser._fields
        first.name.value = "gone"
        await until(lambda: shown)
        assert shown == [(None, None, None)] and view.models == [ModelChoice("gone")]
        assert "the folder is gone" in " ".join(outline(strip))
        # A second model changes neither.
        view.class_name, view.layer = "cat", "end"
        second.name.value = "one"
        await until(lambda: len(shown) == 2)
        assert shown[1] == (None, "cat", "end")
        assert view.models == [ModelChoice("gone"), ModelChoice("one")]
        second.name.value = first.name.value = None
        await asyncio.sleep(0.1)
        assert view.models[0] == ModelChoice("gone")

    visit(workbench, story)


def test_why_there_are_no_images_to_choose_from(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        for read_only, folder in ((False, None), (True, None), (False, Path("run"))):
            view, _ = state(Workbench(workbench.runs, read_only=read_only), "gone")
            monkeypatch.setattr(strip_module, "run_of_choice", lambda *_, to=folder: to)
            with user.client, box() as place:
                await fill_strip(view, place, explain_view._nothing_yet, "")  # type: ignore[arg-type]
            words = outline(place)
            if folder is None:
                assert words[0] == "No test images"
                assert words[1].startswith("the folder is gone. For a run that was trained here")
                assert ("Train a classifier" in words) == (not read_only)
            else:
                assert words == [
                    "Its test images cannot be read",
                    "the folder is gone. Uploaded photos can still be explained.",
                ]

    visit(workbench, story)
