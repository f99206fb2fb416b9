"""What pages show when what they asked for comes, changes, or does not come."""

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nicegui import ui
from nicegui.element import Element
from nicegui.testing import User

from glasshouse.errors import DataError, UsageError
from glasshouse.recipe import load_recipe
from glasshouse.runs import folder as runs
from glasshouse.serving import run_cache
from glasshouse.serving.pages import (
    network,
    preview,
    resembles,
    results,
    run,
    runs as runs_page,
    train,
    verdicts,
)
from glasshouse.serving.pages.finder_panel import show_finder
from glasshouse.serving.pages.parts import box
from glasshouse.serving.pages.settings_form import setting_of, value_in
from glasshouse.serving.pages.teach import view as teach_view
from glasshouse.serving.pages.training_plan import TrainingPlan
from glasshouse.serving.pages.words import compare_address
from glasshouse.serving.paired_tests import PairedTests
from glasshouse.serving.service.infer_requests import _best, _class_text
from glasshouse.serving.workbench import Workbench
from tests.serving import made_up
from tests.serving.conftest import act, elements, outline, until, visit
from tests.serving.test_page_events import next_of
from tests.serving.test_teach_events import within

PAGES = {"report": runs.REPORT, "shortcuts": runs.SHORTCUTS_PAGE, "groups": runs.GROUPS_PAGE}


def timer_of(user: User, interval: float) -> Any:
    """The timer of the page with this interval."""
    (found,) = (e for e in elements(user) if isinstance(e, ui.timer) and e.interval == interval)
    return found


def test_each_page_of_a_run_has_its_address(workbench: Workbench) -> None:
    folder = made_up.write_made_up_run(workbench.runs / "one", **made_up.of_one_label())

    async def story(user: User) -> None:
        for name in PAGES:
            missing = await user.http_client.get(f"/{name}/one")
            assert missing.status_code == 404 and "yet" in missing.text
        for name, file in PAGES.items():
            (folder / file).write_text(name)
        for name in PAGES:
            page = await user.http_client.get(f"/{name}/one")
            assert (page.status_code, page.text) == (200, name)
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert (await user.http_client.get(f"/{name}/none")).status_code == 404

    visit(workbench, story)
    assert compare_address(["a b", "c"]) == "/compare?run=a+b&run=c"


@pytest.mark.parametrize("command", ["shortcuts", "groups"])
def test_a_question_about_a_run_is_asked_and_answered(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    folder = made_up.write_made_up_run(workbench.runs / "a run", **made_up.of_one_label())
    (question,) = (each for each in verdicts._QUESTIONS if each.command == command)
    answers: list[Any] = [DataError("the images are gone"), None]
    while_asked: list[list[str]] = []

    async def asked(find: Any, of: Path) -> None:
        assert of == folder and find is question.find
        while_asked.append(outline(place[0]))
        if next_of(answers) is None:
            (folder / f"{command}.json").write_text('{"verdict": "Nothing was found."}')
            (folder / question.file).write_text("page")

    place: list[Any] = []
    monkeypatch.setattr(verdicts, "in_thread", asked)

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as whole:
            verdicts._show(workbench, "a run", question)
        place.append(whole)
        start = elements(user, words=question.ask)[0]
        details = elements(user, words=question.details)[0]
        before = outline(whole)
        assert f"glasshouse {command} '{folder}'" in " ".join(before)
        assert start.visible and not details.visible
        act(user, start)
        await until(lambda: user.notify.contains("the images are gone"))
        await until(lambda: outline(whole) == before)
        act(user, start)
        await until(lambda: "Nothing was found." in outline(whole))
        assert not start.visible and details.visible
        assert all(verdicts._WORKING in each for each in while_asked) and len(while_asked) == 2
        assert not any(question.ask in each for each in while_asked)

    visit(workbench, story)


def test_a_question_is_not_asked_of_a_read_only_workbench(workbench: Workbench) -> None:
    made_up.write_made_up_run(workbench.runs / "one", **made_up.of_one_label())

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client:
            read_only = Workbench(workbench.runs, read_only=True)
            verdicts._show(read_only, "one", verdicts._QUESTIONS[0])
        start = elements(user, words=verdicts._QUESTIONS[0].ask)[0]
        assert not start.visible
        start.set_visibility(True)
        act(user, start)
        await until(lambda: user.notify.contains("read-only"))
        await until(lambda: not start.visible)

    visit(workbench, story)


def test_a_new_data_set_is_begun_or_its_name_is_refused(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        monkeypatch.setattr(ui.navigate, "to", gone.append)
        with user.client, box() as place:
            teach_view._sets(workbench, "b", ["a", "b"])
        pills = [e for e in place.descendants() if "gh-pill" in e.classes]
        assert [outline(pill)[0] for pill in pills] == ["b", "a"]
        assert [pill.props.get("aria-current") for pill in pills] == ["page", None]
        (field,) = (e for e in place.descendants() if isinstance(e, ui.input))
        (problem,) = (e for e in place.descendants() if e.props.get("role") == "alert")
        field.value = "../out"
        act(user, elements(user, words="New data set")[0])
        assert problem.text and not gone  # type: ignore[attr-defined]
        field.value = " pets-7 "
        act(user, field, "keydown.enter")
        assert gone == ["/teach?set=pets-7"]

    visit(workbench, story)


def test_the_list_of_runs_follows_its_folder(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up.write_made_up_run(workbench.runs / "one", **made_up.of_one_label())

    async def story(user: User) -> None:
        await user.open("/")
        await until(lambda: [e for e in elements(user) if isinstance(e, ui.table)])
        (table,) = (e for e in elements(user) if isinstance(e, ui.table))
        (filter_,) = (e for e in elements(user, aria_label="Filter runs"))
        refresh = timer_of(user, runs_page._REFRESH_SECONDS).callback
        rows = table.rows
        await within(user, refresh())
        assert table.rows is rows
        both = [{**rows[0], "name": name} for name in ("one", "two")]
        monkeypatch.setattr(runs_page, "run_rows", lambda _: both)
        await within(user, refresh())
        assert {row["name"] for row in table.rows} == {"one", "two"}
        filter_.value = "tw"  # type: ignore[attr-defined]
        assert table.filter == "tw"
        filter_.value = None  # type: ignore[attr-defined]
        assert not table.filter

    visit(workbench, story)


def filled(place: Element) -> bool:
    words = outline(place)
    return len(words) > 1 and not {"Show layers", "Loading the network …"} & set(words)


def test_layers_are_shown_when_they_are_asked_for(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [
        UsageError("not finished"),
        ([("conv", "Conv2d", "8", "2", "3")], "2 in all"),
    ]
    monkeypatch.setattr(network, "_layer_rows", lambda *_: next_of(answers))

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        places = []
        for _ in range(2):
            with user.client, box() as place:
                network.show_network(workbench, "one", at_once=False)
            places.append(place)
        assert outline(places[0]) == ["Network", "Show layers"]
        for place in places:
            press = next(e for e in place.descendants() if isinstance(e, ui.button))
            act(user, press)
            await until(partial(filled, place))
        assert outline(places[0]) == ["Network", "not finished"]
        assert outline(places[1])[-1] == "2 in all" and "Conv2d" in outline(places[1])

    visit(workbench, story)


def test_results_that_cannot_be_shown_say_why_and_no_mistakes_are_said(
    workbench: Workbench,
) -> None:
    def damaged(workbench: Workbench, name: str) -> None:
        raise KeyError(name)

    folder = made_up.write_made_up_run(workbench.runs / "heads", "transfer-features")

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as place:
            run._fill(place, damaged, workbench, "one")
        assert outline(place) == ["Cannot show the results: 'one'"]
        found: Any = {**made_up.of_one_label(), "mistakes": []}
        with user.client, box() as place:
            results._mistakes(workbench, "one", found)
        assert outline(place) == [
            "Most confident mistakes", "None: every test image is classified correctly.",
        ]  # fmt: skip

    visit(workbench, story)
    words = results._training_words(folder)
    assert words.startswith("Recipe transfer-features on data/photos, heads fitted to features in")


def test_a_preview_follows_changes_once_it_was_asked_for(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [
        UsageError("no such source"), ([["a", "b"]], {"size": "8x8"}),
        ([["c", "d"]], {"size": "9x9"}),
    ]  # fmt: skip
    asked: list[tuple[Any, ...]] = []

    def images(*given: Any) -> Any:
        asked.append(given)
        return next_of(answers)

    monkeypatch.setattr(preview, "_augmented_images", images)

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as place:
            plan: Any = SimpleNamespace(
                source=ui.input(), changed=[], resolved=lambda: "recipe",
                checked_source=lambda: "digits",
            )  # fmt: skip
            preview.show_preview(workbench, plan)
        (follow,) = plan.changed
        follow()
        look: Any = elements(user, words="Show images")[0]
        act(user, look)
        await until(lambda: elements(user, words="no such source"))
        assert asked == [(workbench, "digits", "recipe")]  # and none before it was asked for
        act(user, look)
        await until(lambda: elements(user, words="8x8"))
        assert not elements(user, words="no such source") and "loading" not in look.props
        follow()
        await until(lambda: elements(user, words="9x9"))
        assert not elements(user, words="8x8")
        alternatives = [e.props["alt"] for e in place.descendants() if e.tag == "img"]
        assert alternatives == ["training image", "the same image, augmented"]
        plan.source.value = "cifar10"
        assert not elements(user, words="9x9") and len(asked) == 3

    visit(workbench, story)


def test_a_range_test_ends_with_its_page(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        plan: Any = SimpleNamespace(resolved=lambda: None, checked_source=lambda: "digits")

        async def tested(_: Any, __: Any, ___: Any, running: Any, say: Any) -> Any:
            for name, code in (("busy", None), ("over", 0)):
                running[name] = SimpleNamespace(
                    returncode=code, kill=lambda name=name: ended.append(name)
                )
            say("step 7")
            assert elements(user, words="step 7") and not find.enabled and stop.visible
            act(user, stop)
            assert ended == ["busy"]
            user.client.delete()  # type: ignore[union-attr]
            raise UsageError("Test stopped.")

        monkeypatch.setattr("glasshouse.serving.pages.finder_panel._test", tested)
        with user.client:
            show_finder(workbench, plan)
        find: Any = elements(user, words="Run test")[0]
        stop = elements(user, words="Stop")[0]
        act(user, find)
        await until(lambda: len(ended) == 2)
        assert ended == ["busy", "busy"]

    visit(workbench, story)


def test_a_comparison_that_fails_or_is_not_possible(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = SimpleNamespace(model="one")
    failing: dict[str, Any] = {"_run_to_compare": None}

    def answering(name: str) -> Any:
        return lambda *_: next_of([failing[name]])

    for name in ("_run_to_compare", "_is_compared_at_once", "_training_count", "_resemblance_of"):
        monkeypatch.setattr(resembles, name, answering(name))

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None

        async def shown(**given: Any) -> list[str]:
            failing.update({f"_{name}": value for name, value in given.items()})
            assert user.client is not None
            with user.client, box() as place:
                await resembles.show_resemblance(workbench, answer, place)
            return outline(place)

        start = "It cannot be compared with the training images: "
        assert await shown(run_to_compare=None) == []
        assert await shown(run_to_compare=DataError("damaged")) == [f"{start}damaged"]
        found = await shown(run_to_compare=Path("a run"), is_compared_at_once=True,
                            resemblance_of=DataError("moved"))  # fmt: skip
        assert found == [f"{start}moved"]
        familiarity = SimpleNamespace(is_unknown=False, can_tell=True, p_value=None)
        one = SimpleNamespace(
            familiarity=familiarity, sentence=lambda **_: "it is usual.", similar=None
        )
        found = await shown(resemblance_of=SimpleNamespace(found=one, images={}))
        assert found == ["[check_circle]", "It is usual."]
        found = await shown(is_compared_at_once=False, training_count=1234)
        assert found == [
            "What it resembles", "Its 1,234 training images are read once for this.",
            "Compare with the training images", "[search]",
        ] or found[:3] == [
            "What it resembles", "Its 1,234 training images are read once for this.",
            "Compare with the training images",
        ]  # fmt: skip

    visit(workbench, story)


def test_the_network_of_a_run_that_is_not_finished_is_that_of_its_recipe(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = SimpleNamespace(model=SimpleNamespace(pretrained=None))
    data: dict[str, Any] = {"size": [9, 12], "class_names": ["a", "b"]}
    fake = SimpleNamespace(recipe=recipe, environment={"data": data})
    monkeypatch.setattr(runs, "read_run", lambda _: fake)
    monkeypatch.setattr(run_cache, "build", lambda *given, seed: (given, seed))
    found: Any = run_cache.net_of(workbench.runs)
    assert found == (((recipe.model, 2, (3, 9, 12)), 0), (3, 9, 12))
    data["size"] = None
    with pytest.raises(UsageError, match="when the run is finished"):
        run_cache.net_of(workbench.runs)
    data["size"] = [9, 12]
    recipe.model.pretrained = "resnet18"
    with pytest.raises(UsageError, match="when the run is finished"):
        run_cache.net_of(workbench.runs)


def test_classes_as_texts_of_the_inference_protocol() -> None:
    def text(names: tuple[str, ...], thresholds: tuple[float, ...] | None = None) -> str:
        shares = np.array([0.125, 0.5, 0.375])
        scores: Any = SimpleNamespace(logits=np.log(shares), probabilities=shares)
        classifier: Any = SimpleNamespace(class_names=names, thresholds=thresholds)
        return _class_text(scores, classifier)

    assert text(("a", "b", "c")) == "b" and text(()) == "1"
    assert text(("a", "b", "c"), (0.5, 0.5, 0.375)) == "b|c"
    assert text(("a", "b", "c"), (0.5, 0.6, 0.4)) == ""
    values = np.array([0.5, 2.0, 2.0], np.float32)
    assert _best(values, 2, ("a", "b", "c")) == ["2.000000:1:b", "2.000000:2:c"]
    assert _best(values, 9, ()) == ["2.000000:1", "2.000000:2", "0.500000:0"]


def test_no_tests_are_of_runs_with_one_label_and_without_problems() -> None:
    none = PairedTests()
    assert (none.comparisons, none.are_several, none.problem, none.unfinished) == (
        (),
        False,
        "",
        (),
    )
    assert not none.unfit


def test_the_layers_of_a_finished_run_are_shown_at_once_and_once(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def rows(*_: Any) -> Any:
        asked.append(1)
        return [], "nothing in all"

    monkeypatch.setattr(network, "_layer_rows", rows)

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as place:
            network.show_network(workbench, "one", at_once=True)
        assert "Show layers" not in outline(place)
        await until(lambda: "nothing in all" in outline(place))
        await asyncio.sleep(0.15)
        assert len(asked) == 1

    visit(workbench, story)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[TrainingPlan]:
    """The plan of each page of training that is opened."""
    found: list[TrainingPlan] = []

    def made() -> TrainingPlan:
        found.append(TrainingPlan())
        return found[-1]

    monkeypatch.setattr(train, "TrainingPlan", made)
    return found


def test_fields_and_name_of_a_plan_follow_its_recipe_and_source(
    workbench: Workbench, plans: list[TrainingPlan]
) -> None:
    async def story(user: User) -> None:
        await user.open("/train")
        await until(lambda: plans and elements(user, words="Start training"))
        (plan,) = plans
        (name,) = (e for e in elements(user, aria_label="Run name") if isinstance(e, ui.input))

        def shows(recipe: str) -> bool:
            wanted = load_recipe(recipe)
            known = {key: value_in(wanted, key) for key in plan.form.fields}
            said = elements(user, words=wanted.description)
            return bool(said) and all(
                field.value == (str(known[key]) if isinstance(field.value, str) else known[key])
                for key, field in plan.form.fields.items()
            )

        assert shows("small-residual") and name.value == "digits-small-residual-1"
        plan.recipe.value = "small-cnn"
        assert shows("small-cnn") and name.value == "digits-small-cnn-1"
        act(user, elements(user, words="shapes")[0])
        assert plan.source.value == "shapes" and name.value == "shapes-small-cnn-1"
        name.value = "mine"
        plan.recipe.value = "small-residual"
        assert shows("small-residual") and name.value == "mine"
        epochs = plan.form.fields["train.epochs"]
        assert "train.epochs" in plan.values
        plan.minutes.value = 2
        assert not epochs.enabled and "train.epochs" not in plan.values
        assert plan.arguments()[-2:] == ["--minutes", "2"]
        plan.minutes.value = None
        assert epochs.enabled

    visit(workbench, story)


def test_each_line_of_a_problem_is_shown_where_it_belongs(
    workbench: Workbench, plans: list[TrainingPlan]
) -> None:
    async def story(user: User) -> None:
        await user.open("/train")
        await until(lambda: plans and elements(user, words="Start training"))
        (plan,) = plans
        message = "the recipe is not valid:\n train.lr: too large\n train.epochs: none\n a.b: odd"
        assert user.client is not None
        with user.client:
            said = plan._mark(message)
            labels = [setting_of(key).label for key in ("train.lr", "train.epochs")]
            assert said == f"Check the marked field: {', '.join(labels)}.\na.b: odd"
            assert elements(user, words="too large") and elements(user, words="none")
            # What was typed below the fields is told there.
            plan.form.clear_problems()
            plan.more.value = " train.lr = 9 \n\n"
            assert plan.extra == ["train.lr = 9"]
            assert plan._mark("train.lr: too large") == "Check the marked field: Any other key."
            assert elements(user, words="train.lr: too large")
            assert not elements(user, words="too large")

    visit(workbench, story)


@pytest.mark.parametrize(("count", "per_page"), [(1, 0), (50, 0), (51, 50), (120, 50)])
def test_more_than_fifty_runs_are_shown_on_several_pages(
    workbench: Workbench, count: int, per_page: int
) -> None:
    made_up.write_made_up_run(workbench.runs / "one", **made_up.of_one_label())
    (row,) = runs_page.run_rows(workbench)

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client:
            table = runs_page._table([{**row, "name": str(k)} for k in range(count)])
        assert table.pagination == {"rowsPerPage": per_page}
        assert table.props[":hide-bottom"] == str(not per_page).lower()

    visit(workbench, story)
