"""Each page as it is, element by element, against what is kept of it in the folder outlines."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nicegui.element import Element
from nicegui.testing import User

from glasshouse.errors import DataError
from glasshouse.runs.failure import record_failure
from glasshouse.runs.processes import process_started
from glasshouse.serving.pages import compare, data_view, network, results
from glasshouse.serving.pages.explain.panel import Column
from glasshouse.serving.pages.explain.state import ExplainState
from glasshouse.serving.pages.explain.view import _looks
from glasshouse.serving.pages.finder_panel import _result
from glasshouse.serving.pages.live import change
from glasshouse.serving.pages.parts import box
from glasshouse.serving.pages.preview import _images
from glasshouse.serving.pages.teach import lesson_panel
from glasshouse.serving.pages.teach.trial_panel import TrialPanel
from glasshouse.serving.run_watch import snapshot_of
from glasshouse.serving.workbench import Workbench
from glasshouse.storage import write_json
from tests.kept import require_kept
from tests.runs.test_listing import write_mark
from tests.serving import made_up
from tests.serving.conftest import elements, until, visit
from tests.serving.page_outline import outline_of
from tests.serving.test_finder_panel import CURVE
from tests.serving.test_teach_page import write_set

KEPT = Path(__file__).parent / "outlines"


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The same time zone and folder on every machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def require(name: str, place: Element, workbench: Workbench) -> None:
    """Compare an element with what is kept of it."""
    found = outline_of(place, Path.cwd())
    require_kept(KEPT / f"{name}.txt", found)


def shows(
    workbench: Workbench, name: str, address: str, is_there: Callable[[User], object]
) -> None:
    """Visit an address, wait until its page is complete, and compare it with what is kept."""

    async def story(user: User) -> None:
        await user.open(address)
        await until(lambda: is_there(user))
        (main,) = (e for e in elements(user) if e.tag == "main")
        require(name, main, workbench)

    visit(workbench, story)


def has(words: str) -> Callable[[User], object]:
    return lambda user: elements(user, words=words)


@pytest.fixture
def several(workbench: Workbench) -> Workbench:
    """A workbench with a run of every kind and state, and training that failed to start."""
    folder = workbench.runs
    one = made_up.write_made_up_run(folder / "one", **made_up.of_one_label())
    (one / "report.html").touch()
    (one / "shortcuts.html").touch()
    write_json(one / "shortcuts.json", {"verdict": "No shortcut was found."})
    made_up.write_made_up_run(folder / "labels", **made_up.of_several_labels())
    made_up.write_made_up_run(folder / "heads", "transfer-features")
    failed = made_up.write_made_up_run(folder / "a failed one")
    record_failure(failed, DataError("the disk is full"))
    busy = made_up.write_made_up_run(folder / "busy")
    write_mark(busy, pid_started=process_started(os.getpid()))
    command = ["python", "-m", "glasshouse", "train", "digits", "--out", "lost"]
    record = {"run": "lost", "pid": 1, "pid_started": 0.0, "command": command}
    write_json(folder / ".background" / "lost.json", record)
    (folder / ".background" / "lost.log").write_text("glasshouse: no such source\n")
    return workbench


def test_the_list_of_runs(several: Workbench) -> None:
    shows(several, "runs", "/", has("Compare"))


def test_the_first_visit(workbench: Workbench) -> None:
    shows(workbench, "first-visit", "/", has("No runs yet"))
    read_only = Workbench(workbench.runs, read_only=True)
    shows(read_only, "first-visit-read-only", "/", has("No runs yet"))


def layers(*_: object) -> tuple[list[tuple[str, ...]], str]:
    return [("conv", "Conv2d", "8×4×4", "224", "3,456")], "224 parameters"


def test_a_finished_run(several: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_layer_rows", layers)
    known = {"test/1.png": 11, "test/2.png": 12}
    monkeypatch.setattr(results, "_positions_by_id", lambda *_: known)
    complete = "An image without an overlay: its map has no positive values."
    shows(
        several,
        "run",
        "/run/one",
        lambda user: elements(user, words=complete) and elements(user, words="224 parameters"),
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [("labels", "Metrics per label"), ("heads", "Recipe"), ("busy", "Stop"), ("lost", "Log"),
     ("a failed one", "Resume")],
)  # fmt: skip
def test_runs_of_other_kinds_and_states(
    several: Workbench, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setattr(network, "_layer_rows", layers)
    is_finished = name == "labels"
    shows(
        several,
        f"run-{name.replace(' ', '-')}",
        f"/run/{name}",
        lambda user: (
            elements(user, words=words)
            and (not is_finished or elements(user, words="224 parameters"))
        ),
    )


def test_what_is_sent_to_the_page_of_a_run_in_training(several: Workbench) -> None:
    found = snapshot_of(several, "busy")
    assert found is not None
    said = change(None, found).replace("}, ", "},\n") + "\n"
    require_kept(KEPT / "live.txt", said)


def test_the_comparison(several: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_paired_tests", lambda folders: made_up.paired())
    address = "/compare?run=one&run=labels&run=heads&run=one"
    shows(several, "compare", address, has(compare._NOTE))
    labels = made_up.paired()
    labels.are_several, labels.problem = True, "A problem."
    monkeypatch.setattr(compare, "_paired_tests", lambda folders: labels)
    shows(several, "compare-labels", address, has(compare._LABEL_NOTE))


def test_a_plan(several: Workbench) -> None:
    shows(several, "train", "/train", has("Start training"))
    shows(several, "train-like", "/train?like=one&source=shapes", has("Start training"))


def test_parts_of_the_plan(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        plan: Any = SimpleNamespace(form=None)
        with user.client, box() as place:
            two = {"losses": [[4.0, 2.0, 9.0]] * 2, "smoothed": [[4.0, 2.0, None]] * 2}
            _result(plan, {**CURVE, **two}, "constant")
            none = {"auto_lr": None, "suggestion": None, "smoothed": [[None] * 3]}
            _result(plan, {**CURVE, **none}, "constant")
            _images([["data:a", "data:b"], ["data:c", "data:d"]])
        require("plan-parts", place, workbench)

    visit(workbench, story)


def test_the_check_of_a_source(several: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SimpleNamespace(get=lambda *_, **__: made_up.made_up_check())
    monkeypatch.setattr(data_view, "check_cache_of", lambda _: cache)
    shows(several, "data-empty", "/data", has("No source selected"))
    shows(several, "data", "/data?source=photos", has("Unreadable files"))


def test_the_page_teach(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesson_panel, "_at_hand", lambda: ["resnet18"])
    shows(workbench, "teach-empty", "/teach", has("Begin with the name of a class"))
    folder = write_set(workbench, "cat", "a dog")
    for k, file in enumerate(sorted(folder.glob("*/*"))):
        os.utime(file, (1e9 + k, 1e9 + k))
    is_complete = "Pretrained on ImageNet. Its weights are on this machine: nothing is downloaded."
    shows(workbench, "teach", "/teach?set=pets", has(is_complete))


def test_a_trial_of_a_photo(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as place:
            panel = TrialPanel(workbench)
            panel.use("pets-1")
            panel._show_shares({"cat": 0.124, "dog": 0.876})
            with panel._seen:
                panel._show_photo("a.png", SimpleNamespace(key="KEY", place=1, method="Grad-CAM"))
        require("teach-trial", place, workbench)

    visit(workbench, story)


@pytest.mark.parametrize("is_several", [False, True])
def test_an_explained_photo(workbench: Workbench, is_several: bool) -> None:
    answer = made_up.made_up_answer(several=is_several)

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        explainer: Any = None
        view = ExplainState(explainer, [answer.model], layer="gone" if is_several else None)
        with user.client, box() as place:
            _looks(view, answer, place)
            column = Column(answer, "none" if is_several else "saliency", "diverging")
            if is_several:
                column.show_checks(answer)
                column.show_method("grad-cam")
                column.show_colours("sequential")
        require("answer-labels" if is_several else "answer", place, workbench)

    visit(workbench, story)


def test_addresses_that_lead_nowhere(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        for address, status in (("/" + "x" * 80, 404), ("/" + "x" * 81, 404)):
            page = await user.http_client.get(address)
            assert page.status_code == status
            assert ("x" * 80 in page.text) and ("x" * 81 not in page.text)
            assert ("x" * 80 + " …" in page.text) == (len(address) > 81)

    visit(workbench, story)
