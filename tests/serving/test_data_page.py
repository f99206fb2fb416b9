"""The page of a source, and the addresses of its images."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from nicegui import ui
from nicegui.testing import User
from PIL import Image

from glasshouse.serving.check_cache import check_cache_of
from glasshouse.serving.pages import data_view, lazy_page
from glasshouse.serving.workbench import Workbench
from tests.serving.conftest import visit
from tests.workflow.use.test_source_check import write_folder

HOSTILE = "<img src=x onerror=alert(1)>"


def test_without_a_source_the_page_says_what_to_do(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/data")
        await user.should_see("No source selected")
        await user.should_see("digits")

    visit(workbench, story)


def test_a_source_is_checked_once_it_has_a_name(workbench: Workbench) -> None:
    went: list[str] = []

    async def story(user: User) -> None:
        await user.open("/data")
        await user.should_see("No source selected")
        (field,) = user.find(kind=ui.input).elements
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(ui.navigate, "to", went.append)
            for words in ("  ", " my photos "):
                field.value = words
                user.find(kind=ui.input).trigger("keydown.enter")
                await asyncio.sleep(0.05)

    visit(workbench, story)
    assert went == ["/data?source=my+photos"]


def test_a_page_that_cannot_be_imported_says_so(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(name: str) -> None:
        raise ImportError("cannot import name 'other'")

    monkeypatch.setattr(lazy_page, "import_module", changed)

    async def story(user: User) -> None:
        await user.open("/data")
        await user.should_see("Restart the workbench")
        await user.should_not_see("Loading")

    visit(workbench, story)


def test_a_folder_is_checked_and_shown(workbench: Workbench, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "set", ("cat", HOSTILE))
    (source / "cat" / "broken.png").write_bytes(b"nothing")
    pixels = np.asarray(Image.open(source / "cat" / "000.png"))
    Image.fromarray(pixels).save(source / HOSTILE / "copy.png")

    async def story(user: User) -> None:
        await user.open(f"/data?source={source}")
        await user.should_see("contradicting labels")
        await user.should_see("1 file cannot be read")
        await user.should_see("broken.png")
        await user.should_see(HOSTILE)
        assert user.client is not None
        rules = [
            [getattr(each, "text", "") for each in e.default_slot.children]
            for e in user.client.elements.values()
            if e.tag == "details" and "gh-more" in e.classes
        ]
        rules = [texts for texts in rules if texts[0] == "How this is decided"]
        assert rules and all(rule for _, rule in rules)

    visit(workbench, story)


def test_an_unknown_source_is_an_error_on_the_page(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/data?source=digit")
        await user.should_see("Did you mean 'digits'")
        await user.should_not_see("Checking the images")

    visit(workbench, story)


def test_a_source_that_cannot_be_loaded_is_a_finding(workbench: Workbench, tmp_path: Path) -> None:
    async def story(user: User) -> None:
        await user.open(f"/data?source={tmp_path}")
        await user.should_see("The source cannot be loaded")

    visit(workbench, story)


def test_images_have_addresses_by_key_and_row_alone(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        found = check_cache_of(workbench).get("digits")
        get = user.http_client.get
        answer = await get(f"/data/{found.key}/5")
        assert answer.headers["content-type"] == "image/png"
        assert found.splits is not None
        total = sum(
            len(s) for s in (found.splits.train, found.splits.validation, found.splits.test)
        )
        assert (await get(f"/data/{found.key}/{total - 1}")).status_code == 200
        for path in (f"{found.key}/{total}", f"{found.key}/-1", "0/0", "..%2F..%2Fetc%2Fpasswd/1"):
            assert (await get(f"/data/{path}")).status_code == 404
        assert (await get(f"/data/{found.key}/x")).status_code == 422

    visit(workbench, story)


def test_all_files_are_read_again_when_asked(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(write_folder(tmp_path / "set", ("cat", "dog")))
    asked: list[str] = []
    monkeypatch.setattr(data_view, "read_again", asked.append)

    async def story(user: User) -> None:
        await user.open(f"/data?source={source}&again=1")
        await user.should_see("Read all files again")
        await user.should_see("Class balance")
        assert asked == []
        await user.open(f"/data?source={source}&again=reread")
        await user.should_see("Class balance")
        assert asked == [source]
        await user.open("/data?source=digits")
        await user.should_not_see("Read all files again")

    visit(workbench, story)
