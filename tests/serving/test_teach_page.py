"""The page Teach without a browser: backbones, addresses of images, requests from elsewhere."""

from pathlib import Path

import pytest
from nicegui.testing import User, UserInteraction

from glasshouse.errors import BadImage
from glasshouse.serving import taught_sets, teaching
from glasshouse.serving.pages.teach.trial_panel import _jpeg
from glasshouse.serving.photo_classes import photo_result, shares_of_frame
from glasshouse.serving.photos import read_photo
from glasshouse.serving.taught_sets import add_class, classes_of, set_folder
from glasshouse.serving.teaching import BUNDLED, BackboneChoice, backbones, start_teaching
from glasshouse.serving.workbench import Workbench
from tests.serving.conftest import visit
from tests.serving.test_taught_sets import png

HOSTILE = "<img src=x onerror=alert(1)>"


def write_set(workbench: Workbench, *names: str) -> Path:
    folder = set_folder(workbench, "pets")
    for number, name in enumerate(names):
        add_class(folder, name)
        for k in range(3):
            # Without the process that would decode it first.
            assert not taught_sets._write(folder, name, f"{k}.png", png(10 * number + k))
    return folder


def test_an_empty_workbench_says_how_to_begin(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/teach")
        await user.should_see("Begin with the name of a class")
        await user.should_see("Two classes or more are needed.")
        await user.should_see("Nothing is downloaded")
        assert not workbench.runs.exists()

    visit(workbench, story)


def test_a_photo_that_is_too_large_to_try_is_refused_with_the_limit(workbench: Workbench) -> None:
    write_set(workbench, "cat", "dog")

    async def story(user: User) -> None:
        await user.open("/teach?set=pets")
        assert user.client is not None
        uploads = [e for e in user.client.elements.values() if "gh-try-drop" in e.classes]
        (drop,) = uploads
        (listener,) = (each for each in drop._event_listeners.values() if each.type == "rejected")
        drop._handle_event({"listener_id": listener.id, "args": None})
        await user.should_see("The file is too large: at most 20 MB.")

    visit(workbench, story)


def test_only_a_class_without_images_is_removed_without_a_question(workbench: Workbench) -> None:
    folder = write_set(workbench, "cat")
    add_class(folder, "owl")

    async def story(user: User) -> None:
        await user.open("/teach?set=pets")
        for name in ("owl", "cat"):
            label = f"Remove class {name}"
            elements = list(user.client.elements.values())  # type: ignore[union-attr]
            (button,) = (e for e in elements if e.props.get("aria-label") == label)
            UserInteraction(user, {button}, None).click()
        await user.should_see("3 images will be deleted")
        assert list(classes_of(folder)) == ["cat"]

    visit(workbench, story)


def test_classes_and_their_images_are_shown(workbench: Workbench) -> None:
    folder = write_set(workbench, "cat", HOSTILE)
    other = next(name for name in classes_of(folder) if name != "cat")
    file = classes_of(folder)["cat"][0].name

    async def story(user: User) -> None:
        await user.open("/teach?set=pets")
        await user.should_see("3 images")
        page = await user.http_client.get("/teach?set=pets")
        assert "<img src=x" not in page.text
        get = user.http_client.get
        answer = await get(f"/teach/images/pets/cat/{file}")
        assert answer.headers["content-type"] == "image/png"
        for path in (
            f"pets/{other}/{file}",
            "pets/cat/none.png",
            f"none/cat/{file}",
            f"..%2Ftaught/cat/{file}",
            "pets/%2e%2e/%2e%2e",
        ):
            assert (await get(f"/teach/images/{path}")).status_code == 404

    visit(workbench, story)


def test_an_unsafe_set_is_an_error_on_the_page(workbench: Workbench) -> None:
    async def story(user: User) -> None:
        await user.open("/teach?set=..%2F..%2Fetc")
        await user.should_see("cannot name a data set")

    visit(workbench, story)


def test_other_sites_can_neither_read_nor_send(workbench: Workbench) -> None:
    folder = write_set(workbench, "cat", "dog")
    file = classes_of(folder)["cat"][0].name

    async def story(user: User) -> None:
        client = user.http_client
        address = f"/teach/images/pets/cat/{file}"
        assert (
            await client.get(address, headers={"Origin": "https://evil.org"})
        ).status_code == 403
        assert (await client.get(address, headers={"Host": "evil.org"})).status_code == 421
        upload = "/_nicegui/client/0/upload/1"
        answer = await client.post(upload, headers={"Origin": "https://evil.org"}, content=b"x")
        assert answer.status_code == 403

    visit(workbench, story)


def test_nothing_is_downloaded_unless_somebody_asks() -> None:
    closed = Workbench(Path("runs"), offline=True)
    assert [each.name for each in backbones(closed, [])] == [BUNDLED]
    found = backbones(Workbench(Path("runs")), [])
    assert [(each.name, each.is_download) for each in found] == [
        (BUNDLED, False),
        ("mobilenet_v2", True),
    ]
    at_hand = backbones(Workbench(Path("runs")), ["vit_b_16", "resnet18", "mobilenet_v2"])
    assert [each.name for each in at_hand] == ["mobilenet_v2", "resnet18", BUNDLED, "vit_b_16"]
    assert not any(each.is_download for each in at_hand)
    assert "14 MB from download.pytorch.org" in found[1].description


@pytest.mark.parametrize("is_download", [False, True])
def test_training_opens_no_connection_unless_it_is_a_download(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, is_download: bool
) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(teaching, "start_training", lambda *arguments: calls.append(arguments))
    source = set_folder(workbench, "pets")
    assert start_teaching(workbench, source, BackboneChoice("resnet18", is_download)) == "pets-1"
    parent, name, given, recipe, arguments = calls[0]
    assert (parent, name, given, recipe) == (
        workbench.runs,
        "pets-1",
        str(source),
        "transfer-features",
    )
    assert isinstance(arguments, list)
    assert ("--offline" in arguments) is not is_download


def test_a_frame_and_a_photo_get_probabilities_and_a_map(full: Workbench) -> None:
    shares = shares_of_frame(full, "first", png(0, "JPEG"))
    assert len(shares) == 10 and sum(shares.values()) == pytest.approx(1)
    found = photo_result(full, "first", read_photo(png(0, "PNG"), "a.png"))
    assert found.shares.keys() == shares.keys()
    assert found.method == "Grad-CAM"
    with pytest.raises(BadImage, match="the webcam image"):
        shares_of_frame(full, "first", b"")


def test_a_frame_must_be_a_small_jpeg_in_a_data_address() -> None:
    assert _jpeg("data:image/jpeg;base64,/9j/") == b"\xff\xd8\xff"
    for address in ("", "data:image/svg+xml,<svg>", "data:image/jpeg;base64,%%%", "/etc/passwd"):
        assert _jpeg(address) == b""
    assert _jpeg("data:image/jpeg;base64," + "A" * 500_000) == b""
