"""The pages Runs, Run, Compare and Train."""

import asyncio
import json
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nicegui import ui
from nicegui.testing import User

from glasshouse.errors import DataError, DivergedError, GlasshouseError
from glasshouse.recipe import load_recipe, to_toml
from glasshouse.runs import listing
from glasshouse.runs.background import launches, stop_training
from glasshouse.runs.failure import record_failure
from glasshouse.runs.folder import STEPS
from glasshouse.runs.listing import Listed, RunListing
from glasshouse.runs.processes import process_started
from glasshouse.serving import run_lookup, run_watch
from glasshouse.serving.pages import parts as page_parts
from glasshouse.serving.pages.live import epochs_of
from glasshouse.serving.pages.parts import connected, in_thread, table
from glasshouse.serving.pages.results import _strength, chosen_classes, result_sentence
from glasshouse.serving.pages.runs import run_rows
from glasshouse.serving.pages.search import short_names, trials_of
from glasshouse.serving.run_watch import snapshot_of
from glasshouse.serving.workbench import Workbench
from glasshouse.storage import write_json
from tests.run_files import evaluation
from tests.runs.test_listing import write_mark, write_run
from tests.serving.conftest import until, visit


def table_of(user: User) -> ui.table:
    assert user.client is not None
    return next(e for e in user.client.elements.values() if isinstance(e, ui.table))


def test_the_runs_are_listed_with_their_metrics(full: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        rows = {row["name"]: row for row in table_of(user).rows}
        assert set(rows) == {"first", "sub/second"}
        figures = json.loads((full.runs / "first" / "evaluation.json").read_text())
        assert rows["first"]["score"] == figures["accuracy"]["value"]
        assert rows["sub/second"]["address"] == "/run/sub/second"

    visit(full, story)


def test_a_finished_run_shows_its_evaluation(full: Workbench) -> None:
    figures = json.loads((full.runs / "first" / "evaluation.json").read_text())

    async def story(user: User) -> None:
        await user.open("/run/first")
        await user.should_see(f"{100 * figures['accuracy']['value']:.1f}\u00a0%")
        await user.should_see(f"{100 * figures['accuracy']['low']:.1f}\u00a0% to ")
        await user.should_see("always predicting the most frequent class gets")
        await user.should_see("Reliability diagram")
        await user.should_see("small-cnn")
        assert user.client is not None
        cells = {
            e.props["data-cell"]: e.default_slot.children[0].text  # type: ignore[attr-defined]
            for e in user.client.elements.values()
            if "data-cell" in e.props and e.tag == "td"
        }
        confusion = figures["confusion"]
        expected = {
            f"{i}-{j}": str(count)
            for i, row in enumerate(confusion)
            for j, count in enumerate(row)
            if count
        }
        assert cells == expected
        shades = {
            e.props["data-cell"]: e.default_slot.children[0].style["background"]
            for e in user.client.elements.values()
            if "data-cell" in e.props and e.tag == "td"
        }
        # A cell with its whole class has the most of the colour, an empty one none.
        for i, row in enumerate(confusion):
            for j, count in enumerate(row):
                share = _strength(count / sum(row))[0] if count else 0
                assert f" {share}%," in shades.get(f"{i}-{j}", " 0%,")

    visit(full, story)


def test_a_fuller_cell_has_more_colour_and_none_on_which_text_cannot_be_read() -> None:
    shades = [_strength(part / 200) for part in range(1, 201)]
    percents = [percent for percent, _ in shades]
    assert percents == sorted(percents) and percents[0] >= 12 and percents[-1] == 72
    assert not any(50 < percent < 68 for percent in percents)
    assert [is_much for _, is_much in shades] == [percent >= 68 for percent in percents]


@pytest.mark.parametrize(
    "name", ["no-such-run", "%2e%2e%2foutside", "sub%2f..%2f..%2foutside", "a-link-to-itself"]
)
def test_an_unknown_run_is_an_error_on_the_page(full: Workbench, name: str) -> None:
    (full.runs / "a-link-to-itself").symlink_to("a-link-to-itself")

    async def story(user: User) -> None:
        page = await user.http_client.get(f"/run/{name}")
        assert "There is no run" in page.text or page.status_code == 404

    visit(full, story)


@pytest.mark.parametrize("name", ["recipe.toml", "environment.json", "metrics.jsonl"])
def test_a_damaged_run_says_what_is_damaged(full: Workbench, name: str) -> None:
    (full.runs / "first" / name).write_text("{ cut off", encoding="utf-8")

    async def story(user: User) -> None:
        await user.open("/run/first")
        await user.should_see("damaged")
        await user.should_see(f"first/{name} is")

    visit(full, story)


def test_a_failed_start_shows_the_error(workbench: Workbench) -> None:
    record = {"run": "lost", "pid": 1, "pid_started": 0.0}
    command = ["python", "-m", "glasshouse", "train", "no-such-source"]
    write_json(workbench.runs / ".background" / "lost.json", record | {"command": command})
    said = "glasshouse: unknown source 'no-such-source'"
    (workbench.runs / ".background" / "lost.log").write_text(said, encoding="utf-8")

    async def story(user: User) -> None:
        await user.open("/run/lost")
        await user.should_see("failed")
        await user.should_see(said)

    visit(workbench, story)


def test_a_failed_start_stays_in_the_list(workbench: Workbench) -> None:
    command = ["python", "-m", "glasshouse", "train", "digits", "--out", "lost"]
    for name, was_stopped in (("lost", False), ("early", True)):
        record = {"run": name, "pid": 1, "pid_started": 0.0, "was_stopped": was_stopped}
        write_json(workbench.runs / ".background" / f"{name}.json", record | {"command": command})
    rows = {row["name"]: row for row in run_rows(workbench)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "lost": "failed",
        "early": "stopped",
    }
    assert rows["lost"]["source"] == "digits"

    async def story(user: User) -> None:
        await user.open("/run/early")
        await user.should_see("stopped")
        await user.should_see("Start again")
        user.find("Remove").click()
        for _ in range(600):
            await asyncio.sleep(0.1)
            if not (workbench.runs / ".background" / "early.json").exists():
                break
        assert [row["name"] for row in run_rows(workbench)] == ["lost"]

    visit(workbench, story)


def test_what_was_loaded_for_a_closed_page_is_dropped(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        client = user.client
        assert client is not None

        def load() -> int:
            loop.call_soon_threadsafe(client.delete)
            time.sleep(0.2)
            return 1

        async def fill() -> None:
            with client:
                await in_thread(load)
            raise AssertionError("the task went on after its page was closed")

        loop = asyncio.get_running_loop()
        with client:
            assert await in_thread(lambda: 2) == 2
        with pytest.raises(asyncio.CancelledError):
            await fill()

    visit(workbench, story)


def test_a_page_that_was_closed_before_it_opened_is_not_filled(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        client = user.client
        assert client is not None
        with client:
            await connected()
            client.delete()
            with pytest.raises(asyncio.CancelledError):
                await connected()

    visit(workbench, story)


def test_pages_wait_only_by_what_ends_when_they_are_closed() -> None:
    parts = Path(page_parts.__file__)
    for file in parts.parent.rglob("*.py"):
        if file != parts:
            code = file.read_text(encoding="utf-8")
            assert "to_thread" not in code and ".connected()" not in code, file.name


def test_runs_are_compared_with_the_paired_test(full: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/compare?run=first&run=sub/second")
        await user.should_see("2 runs")
        await user.should_see("McNemar")
        await user.should_see(content="points")
        assert user.client is not None
        # The Tab key enters the grid in one place, and arrow keys move on from there.
        cells = [e for e in user.client.elements.values() if e.props.get("role") == "gridcell"]
        assert [str(e.props["tabindex"]) for e in cells] == ["0", *["-1"] * (len(cells) - 1)]

    visit(full, story)


def test_a_first_column_of_longer_texts_is_wider_than_one_of_numbers(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client:
            cases = ((1, "1", "1fr"), (2, "training", "1fr"), (2, "in training", "1.4fr"))
            for numbers_from, cell, share in cases:
                whole = table(["a", "b", "c"], [["x", cell, "2"]], numbers_from=numbers_from)
                (grid,) = whole.default_slot.children
                assert grid.style["--first"] == share and grid.style["--columns"] == "2"

    visit(workbench, story)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_or_too_many_runs_are_not_compared(full: Workbench, count: int) -> None:
    async def story(user: User) -> None:
        await user.open("/compare?" + "&".join(f"run=r{i}" for i in range(count)))
        await user.should_see("Select 2 to 8 runs")

    visit(full, story)


def field_of(user: User, label: str) -> Any:
    assert user.client is not None
    found = [e for e in user.client.elements.values() if e.props.get("aria-label") == label]
    return found[0]


def problem_of(user: User, label: str) -> str:
    """The message next to a field, whose box may have a row of its own for the field."""
    inner = field_of(user, label).parent_slot.parent
    boxes = (inner, inner.parent_slot.parent)
    assert user.client is not None
    alerts = [e for e in user.client.elements.values() if e.props.get("role") == "alert"]
    return "".join(e.text for e in alerts if e.parent_slot.parent in boxes)  # type: ignore[attr-defined, union-attr]


@pytest.mark.parametrize(
    ("label", "value", "words"),
    [
        ("Epochs", -3, "expected at least 1"),
        ("Epochs", None, "but the field is empty"),
        ("Batch size", None, "but the field is empty"),
        ("Zoom range", 7, "expected less than 1"),
        ("Time budget, minutes", 0, "more than 0"),
        ("Source", "no/such/folder", "does not exist"),
        ("Source", "", "expected"),
        ("Other settings", "train.no_such_key=1", "no_such_key"),
        ("Other settings", "train.epochs", "expected key=value"),
    ],
)
def test_an_invalid_value_is_reported_at_its_field_before_anything_starts(
    workbench: Workbench, label: str, value: float | str | None, words: str
) -> None:
    async def story(user: User) -> None:
        await user.open("/train")
        with user:
            field_of(user, label).value = value
        user.find("Start training").click()
        await user.should_see("Check the ")
        assert words in problem_of(user, label)
        assert "error" in field_of(user, label).props
        assert not workbench.runs.exists()

    visit(workbench, story)


def test_a_source_that_no_file_could_be_named_after_has_a_run_name(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open(f"/train?source={'x' * 5000}")
        assert field_of(user, "Run name").value == f"{'x' * 120}-small-residual-1"

    visit(workbench, story)


def previewed(user: User) -> list[str]:
    assert user.client is not None
    images = [e for e in user.client.elements.values() if "gh-pixels" in e.classes]
    return [str(image.props["src"]) for image in images]


def test_the_preview_follows_a_change_and_reports_an_invalid_one(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/train")
        user.find("Show images").click()
        await until(lambda: len(previewed(user)) == 20)
        before = previewed(user)
        with user:
            field_of(user, "Rotation range").value = 90
        await until(lambda: len(previewed(user)) == 20 and previewed(user) != before)
        with user:
            field_of(user, "Rotation range").value = -1
        await until(lambda: "expected at least 0" in problem_of(user, "Rotation range"))

    visit(workbench, story)


def test_a_time_budget_takes_the_place_of_the_epochs(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/train")
        with user:
            field_of(user, "Epochs").value = None
            field_of(user, "Time budget, minutes").value = 2.5
        user.find("Read all image files again").click()
        user.find("Start training").click()
        for _ in range(600):
            await asyncio.sleep(0.1)
            if launches(workbench.runs):
                break
        (launch,) = launches(workbench.runs)
        assert launch.command[launch.command.index("--minutes") + 1] == "2.5"
        assert not any(part.startswith("train.epochs") for part in launch.command)
        assert "--reread" in launch.command
        stop_training(workbench.runs, launch.run)

    visit(workbench, story)


def evaluation_of(right: int, low: float) -> dict[str, Any]:
    return {
        "image_count": 1000, "mistake_count": 1000 - right, "commonest_share": 0.2,
        "accuracy": {"value": right / 1000, "low": low, "high": 1.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("right", "low", "words"),
    [
        (
            900,
            0.87,
            "900 of 1,000 test images are classified correctly; always predicting the most",
        ),
        (210, 0.18, "does not show that anything was learned"),
    ],
)
def test_the_result_is_compared_with_the_most_frequent_class(
    right: int, low: float, words: str
) -> None:
    found = result_sentence(evaluation_of(right, low))
    assert words in found and found.endswith("class gets 200.")


def test_a_run_on_features_has_no_figures_of_epochs(workbench: Workbench) -> None:
    folder = write_run(workbench.runs / "heads", done=False)
    recipe = to_toml(load_recipe("transfer-features"))
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    (folder / "metrics.jsonl").unlink()

    async def story(user: User) -> None:
        await user.open("/run/heads")
        await user.should_see("transfer-features")
        for words in ("Epoch", "Speed", "Learning rate", "Time left"):
            await user.should_not_see(words)

    visit(workbench, story)


@pytest.mark.parametrize(("error", "main"), [(DivergedError, "Train again"), (DataError, "Resume")])
def test_a_run_that_diverged_is_trained_again_and_one_that_failed_is_resumed(
    workbench: Workbench, error: type[GlasshouseError], main: str
) -> None:
    folder = write_run(workbench.runs / "hot", done=False)
    record_failure(folder, error("the loss became nan"))

    async def story(user: User) -> None:
        await user.open("/run/hot")
        await user.should_see("loss became nan")
        shown = [b for b in user.find(kind=ui.button).elements if b.visible]
        assert [b.text for b in shown if "gh-main" in b.classes] == [main]
        assert ("Resume" in [b.text for b in shown]) == (main == "Resume")

    visit(workbench, story)


@pytest.mark.parametrize("at_work", [True, False])
def test_a_run_that_ended_shows_no_statistic_that_it_waits_for(
    workbench: Workbench, at_work: bool
) -> None:
    folder = write_run(workbench.runs / "run", done=False)
    (folder / "metrics.jsonl").unlink()
    if at_work:
        write_mark(folder, pid_started=process_started(os.getpid()))

    async def story(user: User) -> None:
        await user.open("/run/run")
        await user.should_see("Recipe")
        sees = user.should_see if at_work else user.should_not_see
        for words in ("Time left", "Validation accuracy", "Learning rate"):
            await sees(words)

    visit(workbench, story)


def test_mistakes_that_other_files_do_not_know_are_left_out(full: Workbench) -> None:
    path = full.runs / "first" / "evaluation.json"
    figures = json.loads(path.read_text(encoding="utf-8"))
    figures["mistakes"][0]["id"] = "digits/none"
    path.write_text(json.dumps(figures), encoding="utf-8")

    async def story(user: User) -> None:
        await user.open("/run/first")
        await user.should_see("1 mistake in evaluation.json cannot be found")

    visit(full, story)


def test_the_counts_of_a_confusion_matrix_can_be_read_on_their_colours() -> None:
    strengths = [_strength(part / 100) for part in range(101)]
    assert sorted(strengths) == strengths
    # Contrasts of 4.5 in both themes: dark text on strong colours, the usual one on weak ones.
    assert all(share <= 50 for share, is_strong in strengths if not is_strong)
    assert all(68 <= share <= 72 for share, is_strong in strengths if is_strong)


def test_of_many_classes_the_most_confused_are_shown() -> None:
    confusion = [[0] * 30 for _ in range(30)]
    for i in range(30):
        confusion[i][i] = 50
    confusion[7][21] = 9
    confusion[29][3] = 5
    assert chosen_classes(confusion, 4) == [3, 7, 21, 29]
    assert chosen_classes(confusion[:3], 4) == [0, 1, 2]


NASTY = "<img src=x onerror=alert(1)>\"'`${7*7}{{7*7}}</script><script>alert(2)</script>"


def test_names_with_html_in_them_are_text(full: Workbench) -> None:
    folder = full.runs / "first"
    path = folder / "evaluation.json"
    # In every place where a class or a file is named.
    figures = path.read_text(encoding="utf-8").replace('"4"', json.dumps(NASTY))
    figures = re.sub(
        r'"id": "digits/(\d+)"', lambda m: f'"id": {json.dumps(NASTY + m[1])}', figures
    )
    path.write_text(figures, encoding="utf-8")

    async def story(user: User) -> None:
        page = await user.http_client.get("/run/first")
        assert "onerror" in page.text
        assert "<img src=x" not in page.text
        assert "<script>alert" not in page.text
        await user.open("/run/first")
        await user.should_see(NASTY)

    visit(full, story)


@pytest.mark.parametrize("is_done", [True, False])
def test_a_trial_says_what_it_is_and_is_not_resumed_outside_its_search(
    tmp_path: Path, is_done: bool
) -> None:
    folder = write_run(tmp_path / "search" / "trials" / "0000", done=False)
    (tmp_path / "search" / "tune.json").write_text("{}")
    if is_done:
        (folder / "trial.json").write_text('{"value": 0.7, "epochs": 3}')

    async def story(user: User) -> None:
        await user.open("/run/search/trials/0000")
        await user.should_see("tried" if is_done else "stopped")
        await user.should_see("A trial of a hyperparameter search")
        await user.should_see("Train again")
        await user.should_not_see("Resume")

    visit(Workbench(tmp_path), story)


def test_a_search_lists_its_trials_with_the_best_first(tmp_path: Path) -> None:
    for number, value in enumerate((0.5, 0.7, None)):
        folder = write_run(tmp_path / "search" / "trials" / f"{number:04}", done=False)
        if value is not None:
            (folder / "trial.json").write_text(json.dumps({"value": value, "epochs": 3}))
    record = {"source": "digits", "search": ["train.lr=1..2"]}
    (tmp_path / "search" / "tune.json").write_text(json.dumps(record))

    async def story(user: User) -> None:
        await user.open("/run/search")
        await user.should_see("3 trials: 2 tried and 1 stopped.")
        order = [trial.tried for trial in trials_of(tmp_path, tmp_path / "search")]
        assert order == [0.7, 0.5, None]
        await user.should_see("The command that started the search resumes it.")
        assert short_names(["train.lr", "train.batch_size"]) == ["lr", "batch size"]
        assert short_names(["a.size", "b.size"]) == ["a.size", "b.size"]
        (tmp_path / "search" / "best.toml").write_text("")
        shutil.rmtree(tmp_path / "search" / "trials" / "0002")
        await user.open("/run/search")
        await user.should_see("2 trials tried.")
        await user.should_see("glasshouse train digits --recipe")
        for damaged in ("{}", "[1]", '{"source": "digits", "search": 1}', "{"):
            (tmp_path / "search" / "tune.json").write_text(damaged)
            await user.open("/run/search")
            await user.should_see("2 trials tried.")
            await user.should_see("0001")
            await user.should_not_see("glasshouse train digits --recipe")

    visit(Workbench(tmp_path), story)


def test_a_snapshot_is_shared_and_follows_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workbench = Workbench(tmp_path)
    folder = write_run(tmp_path / "run", done=False)
    first = snapshot_of(workbench, "run")
    assert first is not None and first.status == "stopped" and len(first.epochs) == 3
    write_mark(folder, pid_started=0.0)
    assert snapshot_of(workbench, "run") is first  # still fresh: nothing is read
    monkeypatch.setattr(run_watch, "_FRESH_SECONDS", 0.0)
    second = snapshot_of(workbench, "run")
    assert second is not None and second.version == first.version + 1
    assert second.mark is not None and second.curve
    assert second.epochs is first.epochs  # what has not changed is not read again
    assert snapshot_of(workbench, "run") is second
    assert snapshot_of(workbench, "other") is None
    assert (folder / STEPS).is_file()


def test_five_hundred_runs_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(500):
        write_run(tmp_path / f"run-{i:03}")
    workbench = Workbench(tmp_path)
    rows = run_rows(workbench)
    assert len(rows) == 500
    # How long that takes is measured in bench/live_page.py; here only that it is read once.
    monkeypatch.setattr(listing, "_read", None)
    assert RunListing(tmp_path).read()[0].status == "damaged"  # what reading anew would now give
    monkeypatch.setattr(run_lookup, "_FRESH_SECONDS", 0.0)  # the list itself has expired
    assert run_rows(workbench) == rows


def test_every_field_of_the_form_has_its_label(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/train")
        assert user.client is not None
        elements = list(user.client.elements.values())
        words = {
            e.props["for"]: e.text  # type: ignore[attr-defined]
            for e in elements
            if e.tag == "label" and "for" in e.props
        }
        selects = [e for e in elements if isinstance(e, ui.select)]
        named = {words[e.props["for"]] for e in selects}
        assert {"Recipe", "Optimizer", "Schedule", "Horizontal flip", "Fill mode"} <= named

    visit(workbench, story)


def test_a_run_on_features_shows_no_epochs(workbench: Workbench) -> None:
    listed = Listed("heads", workbench.runs, "finished", recipe="transfer-features", seconds=4.5)
    assert epochs_of(0, listed) == "features"
    assert epochs_of(3, replace(listed, of=10)) == "3 / 10"
    assert epochs_of(0, replace(listed, recipe="")) == "–"


def test_explain_says_what_to_do_where_there_is_no_run(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/explain")
        await user.should_see("No test images")
        await user.should_see("Train a classifier")

    visit(workbench, story)


def test_test_images_are_offered_for_an_explanation(full: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/explain?model=first")
        await user.should_see("Test images")
        assert user.client is not None
        labels = [str(e.props.get("aria-label")) for e in user.client.elements.values()]
        assert sum(label.startswith("Explain ") for label in labels) >= 10

    visit(full, story)


def test_missing_images_are_reported_on_the_page(full: Workbench) -> None:
    path = full.runs / "first" / "environment.json"
    environment = json.loads(path.read_text(encoding="utf-8"))
    environment["data"]["source"] = str(full.runs / "vanished")
    path.write_text(json.dumps(environment), encoding="utf-8")

    async def story(user: User) -> None:
        await user.open("/run/first")
        await user.should_see("Cannot show the images: the folder or table")
        await user.open("/explain?model=first")
        await user.should_see("Its test images cannot be read")
        await user.should_see("Uploaded photos can still be explained")

    visit(full, story)


def test_a_run_with_several_labels_per_image_is_listed_by_its_mean_average_precision(
    workbench: Workbench,
) -> None:
    folder = write_run(workbench.runs / "pairs")
    found = evaluation(0.009, 0.005, 0.017) | {"top_k": None, "confusion": None, "per_label": []}
    found["mean_average_precision"] = {"value": 0.5, "low": 0.4, "high": 0.6}
    (folder / "evaluation.json").write_text(json.dumps(found))
    write_run(workbench.runs / "single")
    rows = {row["name"]: row for row in run_rows(workbench)}
    assert rows["pairs"]["score"] == 0.5
    assert rows["pairs"]["score_text"] == "0.500 mAP"
    assert rows["pairs"]["interval"] == "0.400 – 0.600"
    assert rows["single"]["score_text"] == "70.00 %"
    assert rows["single"]["interval"] == "60.0 – 80.0"

    async def story(user: User) -> None:
        await user.open("/compare?run=pairs&run=single")
        await user.should_see("0.500 mAP")
        await user.should_see("0.400 – 0.600")
        await user.should_see("70.00\u00a0%")

    visit(workbench, story)
