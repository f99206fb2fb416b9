"""A workbench for viewers: it shows runs, and starts, changes and removes nothing."""

from pathlib import Path

import pytest
from nicegui import ui
from nicegui.testing import User

from glasshouse.errors import UsageError
from glasshouse.serving.pages import run as run_page
from glasshouse.serving.run_cache import chosen_classifier
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.model_choices import ModelChoice
from tests.serving.conftest import visit


@pytest.fixture
def viewers(finished_runs: Path) -> Workbench:
    return Workbench(finished_runs, offline=True, read_only=True)


def test_pages_that_start_or_write_something_are_not_there(viewers: Workbench) -> None:
    async def story(user: User) -> None:
        for path, status in (
            ("/", 200), ("/explain", 200), ("/train", 404), ("/teach", 404), ("/data", 404)
        ):  # fmt: skip
            assert (await user.http_client.get(path)).status_code == status, path
        page = (await user.http_client.get("/")).text
        assert "/explain" in page
        assert not any(f'{name}"' in page for name in ("/train", "/teach", "/data"))

    visit(viewers, story)


def test_a_run_is_shown_without_buttons_that_change_it(viewers: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/run/first")
        await user.should_see("finished")
        for name in ("Stop", "Resume", "Remove", "Train again"):
            await user.should_not_see(kind=ui.button, content=name)

    visit(viewers, story)


def test_a_button_that_is_pressed_by_a_program_changes_nothing(
    viewers: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(ui, "notify", lambda text, **_: said.append(text))

    def action(workbench: Workbench, name: str) -> None:
        pytest.fail("it was done")

    run_page._attempt(action, viewers, "first")
    assert len(said) == 1 and "read-only" in said[0]


def test_no_file_of_the_machine_is_opened_as_weights(viewers: Workbench, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"anything")
    with pytest.raises(UsageError, match="read-only"):
        chosen_classifier(viewers, ModelChoice("resnet18", weights=file))
