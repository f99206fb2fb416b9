"""What pages of the workbench do when their buttons and fields report something."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nicegui import ui
from nicegui.testing import User

from glasshouse.errors import UsageError
from glasshouse.serving.pages import curves, finder_panel, results, run
from glasshouse.serving.pages.charts import spark_path
from glasshouse.serving.pages.finder_panel import finder_options
from glasshouse.serving.pages.folder_picker import folder_picker
from glasshouse.serving.pages.label_results import show_label_headline
from glasshouse.serving.pages.network import _some
from glasshouse.serving.pages.parts import box, table
from glasshouse.serving.pages.results import _cell_words, _confusion, _open_cell
from glasshouse.serving.workbench import Workbench
from tests.serving.conftest import act, elements, outline, until, visit
from tests.serving.test_finder_panel import CURVE


def next_of(answers: list[Any]) -> Any:
    """The first answer, which is taken from the list; raised where it is an error."""
    answer = answers.pop(0)
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_a_folder_is_chosen_by_walking_to_it(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "work"
    (root / "images" / "cat").mkdir(parents=True)
    (root / "images" / "a.csv").touch()
    (root / "images" / "b.txt").touch()
    monkeypatch.chdir(root)
    monkeypatch.setenv("HOME", str(tmp_path))
    chosen: list[str] = []

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client:
            browse = folder_picker(workbench, lambda: str(root / "missing"), chosen.append)

        async def goes_to(folder: Path) -> None:
            await until(lambda: elements(user, css="gh-path", words=str(folder)))

        def entry(words: str) -> Any:
            (found,) = (e for e in elements(user, css="gh-folder") if words in outline(e))
            return found

        act(user, browse)
        await goes_to(root)
        act(user, entry("images"))
        await goes_to(root / "images")
        assert elements(user, words="1 subfolder, 2 files")
        shown = [outline(each)[1] for each in elements(user, css="gh-folder")]
        assert shown == ["Parent folder", "cat", "a.csv"]
        act(user, entry("a.csv"))
        assert chosen == [str(root / "images" / "a.csv")]
        act(user, entry("Parent folder"))
        await goes_to(root)
        act(user, elements(user, words="Home")[0])
        await goes_to(tmp_path)
        act(user, elements(user, words="Use this folder")[0])
        assert chosen[1:] == [str(tmp_path)]

    visit(workbench, story)


def confusion_of(count: int) -> dict[str, Any]:
    """An evaluation of some classes, of which each is taken for the next one once."""
    names = [f"c{k}" for k in range(count)]
    rows = [[9 if i == j else int(j == i + 1) for j in range(count)] for i in range(count)]
    pair = {"true": "c0", "predicted": "c1", "count": 1}
    unknown = pair | {"true": "x"}
    return {"class_names": names, "confusion": rows, "confused_pairs": [pair, unknown]}


@pytest.mark.parametrize("count", [20, 21])
def test_a_confusion_matrix_has_twenty_classes_at_most(workbench: Workbench, count: int) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as place:
            _confusion(workbench, "first", confusion_of(count))
        shown = outline(place)
        remark = "rows: true class, columns: predicted class" if count == 20 else "the 20 most"
        assert shown[1].startswith(remark)
        heads = elements(user, role="columnheader")
        assert [outline(each)[0] for each in heads] == [f"c{k}" for k in range(count)][:20]
        cells = elements(user, role="gridcell")
        assert len(cells) == 400 and len(elements(user, role="rowheader")) == 20
        assert [str(cell.props["tabindex"]) for cell in cells[:2]] == ["0", "-1"]
        assert cells[0].props["data-cell"] == "0-0" and cells[1].props["data-cell"] == "0-1"
        assert cells[0].props["title"] == "c0 correct: 9, 90.0 % of the class"
        assert cells[1].props["title"] == "c0 classified as c1: 1, 10.0 % of the class"
        assert "data-cell" not in cells[2].props and outline(cells[2]) == ["·"]
        assert "c0 classified as c1: 1" in shown
        assert shown[-1].endswith("names a pair of classes that it does not list.")

    visit(workbench, story)


def test_a_cell_of_the_confusion_matrix_opens_its_images(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [(("cat", "dog"), 3, [(7, "a/1", 0.876)]), UsageError("no images")]

    monkeypatch.setattr(results, "_confusion_cell", lambda *_: next_of(answers))

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client:
            dialog = ui.dialog()
            await _open_cell(dialog, workbench, "first", (0, 1))
            shown = outline(dialog.default_slot.children[0])
            assert dialog.value
            assert shown[:2] == ["cat classified as dog", "the 1 most confident of 3 images"]
            assert "88 % confidence" in shown and any("/image/7/first" in each for each in shown)
            await _open_cell(dialog, workbench, "first", (0, 1))
            assert outline(dialog.default_slot.children[0]) == ["no images"]

    visit(workbench, story)
    assert _cell_words(("cat", "cat"), 2, 2) == ("cat, classified correctly", "2 images")


def test_the_results_of_several_labels_have_every_number(workbench: Workbench) -> None:
    interval = {"value": 0.5, "low": 0.25, "high": 0.75}
    found: dict[str, Any] = {
        "mean_average_precision": interval, "image_count": 1234, "accuracy": {"value": 0.125},
        "chance": 0.0625, "commonest_share": 0.375, "macro_f1": {"value": 0.875},
        "micro_f1": 0.9375, "calibrated_loss": 0.12345, "unlabelled_count": 5678, "per_label": [],
        "reliability": [], "ece": 0.03, "temperature": 1.0, "calibration": None,
    }  # fmt: skip

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as place:
            show_label_headline(found)
        assert outline(place) == [
            "0.500", "Test mean average precision, 95 % confidence interval", "0.250 to 0.750",
            "Guessing would give 0.062. All labels are right for 12.50 % of 1,234 test images.",
        ]  # fmt: skip

    visit(workbench, story)


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_run_is_stopped_and_resumed_unless_the_workbench_is_read_only(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, has_begun: bool
) -> None:
    said: list[str] = []
    done: list[tuple[Any, ...]] = []
    monkeypatch.setattr(run, "stop_training", lambda *given: done.append(given))
    monkeypatch.setattr(run, "resume_training", lambda *given: done.append(given))
    monkeypatch.setattr(ui, "notify", lambda words, **_: said.append(words))
    if has_begun:
        (workbench.runs / "a").mkdir(parents=True)
        (workbench.runs / "a" / "recipe.toml").touch()
    for action in (run._stop, run._resume):
        run._attempt(action, workbench, "a")
    assert said == (
        [run._STOPPING, "Resumed."] if has_begun else [run._STOPPED_EARLY, "Started again."]
    )
    assert done == [(workbench.runs, "a"), (workbench.runs, "a", ("--offline",))]
    run._attempt(run._stop, Workbench(workbench.runs, read_only=True), "a")
    assert len(done) == 2 and "this workbench is read-only" in said[-1]


@pytest.mark.parametrize(("schedule", "value"), [("cosine", "0.004"), ("per_epoch", "auto")])
def test_a_range_test_offers_its_learning_rate(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, schedule: str, value: str
) -> None:
    field = SimpleNamespace(value="0.1")
    train = SimpleNamespace(schedule=SimpleNamespace(type=schedule))
    plan: Any = SimpleNamespace(
        resolved=lambda: SimpleNamespace(train=train),
        checked_source=lambda: "digits",
        form=SimpleNamespace(fields={"train.lr": field}),
    )
    answers: list[Any] = [CURVE, UsageError("Test stopped."), {**CURVE, "auto_lr": None}]
    answers[2]["suggestion"] = None

    async def tested(*_: object) -> Any:
        return next_of(answers)

    monkeypatch.setattr(finder_panel, "_test", tested)

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client:
            finder_panel.show_finder(workbench, plan)
        find: Any = elements(user, words="Run test")[0]
        stop = elements(user, words="Stop")[0]
        assert not stop.visible
        act(user, find)
        await until(lambda: elements(user, words="Recommended: 0.004"))
        act(user, elements(user, words=f"Use {value}")[0])
        assert field.value == value and find.enabled and not stop.visible
        act(user, find)
        await until(lambda: elements(user, words="Test stopped."))
        assert find.enabled and not stop.visible
        act(user, find)
        await until(lambda: elements(user, words="No recommendation: use 0.001."))
        assert not elements(user, words="Test stopped.")

    visit(workbench, story)


@pytest.mark.parametrize(
    ("steps", "epochs", "has_line", "rates"),
    [(1, 0, False, 1), (2, 1, True, 2), (2, 2, False, 2), (3, 5, False, 5), (0, 0, False, 0)],
)
def test_steps_are_drawn_where_they_are_more_than_the_epochs(
    steps: int, epochs: int, has_line: bool, rates: int
) -> None:
    lines = [{"epoch": k, "lr": 0.5} for k in range(epochs)]
    now: Any = SimpleNamespace(
        curve=[(k / 2, 1.5, 0.25, 0.125) for k in range(steps)], epochs=lines
    )
    drawn = next(iter(curves._steps(now, 2, 100.0)), None)
    assert (drawn is not None) == has_line
    if drawn is not None:
        assert drawn["data"] == [[k / 2, 25.0] for k in range(steps)]
    found = curves._rates(now)
    assert len(found) == rates
    assert {rate for _, rate in found} <= ({0.125} if steps > epochs else {0.5})


def test_the_chart_of_a_range_test_shows_what_matters() -> None:
    curve = {**CURVE, "losses": [[4.0, 3.0, 9.0]], "smoothed": [[4.0, 3.0, None]]}
    axis = finder_options(curve)["yAxis"]
    assert (axis["min"], axis["max"]) == (2.7, 6.4)  # 3 - 0.1 * (6.4 - 3), and 4 * 1.6


def test_a_few_names_are_listed_and_the_others_counted() -> None:
    names = [f"c{k}" for k in range(13)]
    assert _some(names[:12]) == ", ".join(names[:12])
    assert _some(names) == ", ".join(names[:12]) + " and 1 more"


def test_a_sparkline_takes_two_values_and_fills_its_frame() -> None:
    assert spark_path([1.0]) == ""
    assert spark_path([0.0, 1.0]) == "M1.0 17.0L71.0 1.0"
    assert spark_path([2.0, 2.0]) == "M1.0 1.0L71.0 1.0"
    assert spark_path([0.0, 0.5, 1.0], 12, 6) == "M1.0 5.0L6.0 3.0L11.0 1.0"
    assert len(spark_path(list(map(float, range(480)))).split("L")) == 49


def test_the_numbers_of_a_table_are_on_the_right(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client:
            table(["a", "b", "c"], [["x", "1", "2"]], numbers_from=1)
        for css in ("th", "td"):
            cells = [e for e in elements(user) if e.tag == css]
            assert ["gh-number" in cell.classes for cell in cells] == [False, True, True]

    visit(workbench, story)
