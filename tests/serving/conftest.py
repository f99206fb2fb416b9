"""Visits to the workbench without a browser."""

import asyncio
import gc
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from nicegui import Client, core, ui
from nicegui.element import Element
from nicegui.elements.upload_files import SmallFileUpload
from nicegui.testing import User, UserInteraction
from nicegui.testing.general import nicegui_reset_globals

from glasshouse.serving.app import create_app
from glasshouse.serving.workbench import Workbench
from tests.serving.runs import train_small, trained_run

# In tenths of a second: a busy machine may take long, and a page that never comes is rare.
_RETRIES = 1200


class PatientUser(User):
    """A user who waits for what a page fills in later, up to two minutes."""

    async def should_see(self, *args: Any, retries: int = _RETRIES, **options: Any) -> None:
        """Assert that the page shows something, as soon as it does."""
        await super().should_see(*args, retries=retries, **options)


Story = Callable[[User], Awaitable[None]]


def visit(workbench: Workbench, story: Story) -> None:
    """Run a story of one user of a new workbench, who visits it from this machine."""
    # NiceGUI collects garbage before and after; searching all that other tests have imported and
    # kept would take longer than the visit.
    gc.collect()
    gc.freeze()
    asyncio.run(_visit(workbench, story))


async def _visit(workbench: Workbench, story: Story) -> None:
    with nicegui_reset_globals():
        os.environ["NICEGUI_USER_SIMULATION"] = "true"
        try:
            app = create_app(workbench)
            transport = httpx.ASGITransport(app)
            async with (
                core.app.router.lifespan_context(core.app),
                httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
            ):
                await story(PatientUser(client))
        finally:
            os.environ.pop("NICEGUI_USER_SIMULATION")
            # NiceGUI would forget the modules of our pages, which other tests have imported.
            Client.page_routes.clear()


def outline(element: Element) -> list[str]:
    """The visible words, icons and addresses of an element and all in it, in their order.

    Spaces that do not break are given as spaces.
    """
    if not element.visible:
        return []
    shown = [getattr(element, "text", ""), *(element.props.get(k) for k in ("href", "src"))]
    if isinstance(element, ui.icon):
        shown.append(f"[{element.props['name']}]")
    found = [str(each).replace("\u00a0", " ") for each in shown if each]
    return found + [each for child in element.default_slot.children for each in outline(child)]


def elements(user: User, **wanted: object) -> list[Element]:
    """The elements of the page with these properties, or with a word in them (`words=`)."""
    assert user.client is not None
    found = list(user.client.elements.values())
    for name, value in wanted.items():
        if name == "words":
            found = [e for e in found if getattr(e, "text", None) == value]
        elif name == "css":
            found = [e for e in found if value in e.classes]
        else:
            found = [e for e in found if e.props.get(name.replace("_", "-")) == value]
    return found


def act(user: User, element: Element, event: str = "click", args: Any = None) -> None:
    """Let the browser report an event of an element."""
    if event == "click" and args is None:
        UserInteraction(user, {element}, None).click()
    else:
        UserInteraction(user, {element}, None).trigger(event, args)


async def upload(element: Element, *files: tuple[str, bytes]) -> None:
    """Send files to a field for uploads."""
    assert isinstance(element, ui.upload)
    sent: list[Any] = [SmallFileUpload(name, "image/png", data) for name, data in files]
    await element.handle_uploads(sent)


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something holds; a busy machine may take two minutes."""
    for _ in range(6000):
        if is_so():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen")


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    """A workbench whose folder of runs does not exist yet."""
    return Workbench(tmp_path / "runs", offline=True)


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished runs, first and sub/second."""
    folder = tmp_path_factory.mktemp("finished")
    trained_run(folder / "first")
    train_small(folder / "sub" / "second", "digits", "train.seed=1")
    return folder


@pytest.fixture
def full(tmp_path: Path, finished_runs: Path) -> Workbench:
    """A workbench with the two runs, copied, so that a test may change them."""
    shutil.copytree(finished_runs, tmp_path / "runs")
    return Workbench(tmp_path / "runs", offline=True)
