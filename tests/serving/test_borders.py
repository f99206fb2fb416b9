"""What lies just within and just beyond each limit of the workbench and its pages."""

import asyncio
import io
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nicegui import Client, ui
from nicegui.testing import User
from PIL import Image
from starlette.datastructures import Headers

from glasshouse.data.images import Splits
from glasshouse.errors import UsageError
from glasshouse.explanation.nouns import Activations
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.recipe import load_recipe
from glasshouse.serving import (
    app,
    augmented_images,
    body_limits,
    check_cache,
    inline_workbench,
    map_images,
    photo_classes,
    photos,
    run_lookup,
    run_watch,
    taught_sets,
    teaching,
)
from glasshouse.serving.check_cache import CachedCheck
from glasshouse.serving.explainer import Explainer, _shown, photo_of
from glasshouse.serving.folder_browser import browse
from glasshouse.serving.guard import OwnHostsOnly
from glasshouse.serving.hosting import hosting_from
from glasshouse.serving.inline_workbench import InlineWorkbench
from glasshouse.serving.jupyter import jupyter_server
from glasshouse.serving.map_images import Wanted, drawn_file, file_of_answer
from glasshouse.serving.pages import data_view, finder_panel, run as run_page, runs as runs_page
from glasshouse.serving.pages.explain import strip, view as explain_view
from glasshouse.serving.pages.explain.panel import Column
from glasshouse.serving.pages.parts import box, phone_form
from glasshouse.serving.pages.results import _confusion
from glasshouse.serving.pages.settings_form import _toml, _typed, overrides, setting_of
from glasshouse.serving.pages.teach import class_cards, page as teach_page, view as teach_view
from glasshouse.serving.pages.teach.trial_panel import _jpeg
from glasshouse.serving.pages.words import moment, percent, rate, score_interval, score_text
from glasshouse.serving.photos import Photo, PhotoStore
from glasshouse.serving.reach import Reach, frame_sources, own_names
from glasshouse.serving.relative import RelativeAddresses
from glasshouse.serving.run_cache import cell_positions
from glasshouse.serving.sign_in import TokenRequired, _cookies
from glasshouse.serving.taught_sets import (
    FEWEST_PER_CLASS,
    MOST_CLASSES,
    MOST_FILE_BYTES,
    MOST_IMAGES,
    MOST_SET_BYTES,
    add_class,
    set_folder,
    what_is_missing,
)
from glasshouse.serving.teaching import BackboneChoice
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.model_choices import ModelChoice
from tests.run_files import epoch_line, write_lines
from tests.runs.test_listing import write_mark, write_run
from tests.serving import made_up
from tests.serving.conftest import act, elements, outline, until, visit
from tests.serving.test_taught_sets import png

DOCS = Path(__file__).parents[2] / "docs" / "workbench.md"


def test_the_limits_are_those_of_the_documentation() -> None:
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    for words in (
        f"A file has at most {MOST_FILE_BYTES >> 20} MB, a data set at most {MOST_CLASSES} "
        f"classes, {MOST_IMAGES:,} images and {MOST_SET_BYTES >> 30} GB",
        f"the last {photos._MOST_KEPT} photos, {photos._MOST_BYTES >> 20} MB at most",
    ):
        assert words in text
    # One upload has as many files as Starlette parses, and less than a data set has.
    assert (body_limits.MOST_BODY_BYTES, body_limits.MOST_FILES) == (512 << 20, 1000)
    assert body_limits._SECONDS == 300.0 and FEWEST_PER_CLASS == 3
    assert photo_classes._FRAME_PIXELS == 2048 * 1024


def test_what_the_server_is_told(monkeypatch: pytest.MonkeyPatch, workbench: Workbench) -> None:
    told: dict[str, Any] = {}
    pages: list[dict[str, Any]] = []

    def page(path: str, **options: Any) -> Any:
        pages.append({"path": path, **options})
        return lambda function: function

    monkeypatch.setattr(ui, "run_with", lambda _, **options: told.update(options))
    monkeypatch.setattr(ui, "page", page)
    app.create_app(workbench)
    assert told["message_history_length"] == 20 and told["reconnect_timeout"] == 15.0
    assert told["tailwind"] is told["show_welcome_message"] is False
    assert told["dark"] is told["binding_refresh_interval"] is None
    assert {each["response_timeout"] for each in pages} == {30.0}
    assert [each["path"] for each in pages] == [
        "/", "/compare", "/run/{name:path}", "/data-map/{name:path}", "/train", "/teach", "/data",
        "/explain", "/{address:path}",
    ]  # fmt: skip
    Client.page_routes.clear()


@pytest.mark.parametrize(("declared", "status"), [(3 << 20, 204), ((3 << 20) + 1, 413)])
def test_a_body_of_exactly_the_limit_may_be_declared(
    monkeypatch: pytest.MonkeyPatch, declared: int, status: int
) -> None:
    monkeypatch.setattr(body_limits, "MOST_BODY_BYTES", 3 << 20)
    assert sent_with(declared, [b"x"]) == status


@pytest.mark.parametrize(("excess", "status"), [(0, 204), (1, 413)])
def test_a_body_of_exactly_the_limit_is_taken(
    monkeypatch: pytest.MonkeyPatch, excess: int, status: int
) -> None:
    monkeypatch.setattr(body_limits, "MOST_BODY_BYTES", 1000)
    assert sent_with(None, [b"x" * 400, b"x" * 600, b"x" * excess]) == status


def sent_with(declared: int | None, parts: list[bytes]) -> int:
    """The status of a request whose body has these parts."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.request":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    left = list(parts)
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [] if declared is None else [(b"content-length", str(declared).encode())]
    scope = {"type": "http", "headers": headers, "method": "POST", "path": "/"}
    asyncio.run(body_limits.LimitedBodies(answer)(scope, receive, send))
    (status,) = statuses
    return status


@pytest.mark.parametrize(("size", "is_kept"), [(100, True), (101, False)])
def test_photos_are_kept_up_to_their_bytes(
    monkeypatch: pytest.MonkeyPatch, size: int, is_kept: bool
) -> None:
    monkeypatch.setattr(photos, "_MOST_BYTES", 100)
    store = PhotoStore()
    store.keep("a", b"x" * size)
    assert (len(store._files) == 1) == is_kept
    monkeypatch.undo()
    for number in range(40):
        store.keep(str(number), b"x")
    assert len(store._files) == 32


def test_answers_are_kept_for_two_dozen_photos(workbench: Workbench) -> None:
    explainer = Explainer(workbench)
    answer = made_up.made_up_answer()
    for number in range(25):
        explainer._keep(replace(answer, key=str(number)))
    explainer._keep(replace(answer, key="1"))
    explainer._keep(replace(answer, key="25"))
    assert [explainer.answer(str(k)) is not None for k in (0, 1, 2, 25)] == [
        False,
        True,
        False,
        True,
    ]
    assert explainer.checked("0") is None and explainer.with_more("0") is None


@pytest.mark.parametrize(
    ("photo", "size", "is_ready", "shape"),
    [
        ((8, 8), (8, 8), True, (448, 448)), ((8, 12), (8, 12), True, (296, 444)),
        ((500, 500), (100, 100), False, (400, 400)), ((150, 150), (100, 100), False, (400, 400)),
        ((150, 150), (448, 448), False, (448, 448)), ((600, 600), (449, 449), False, (449, 449)),
        ((200, 900), (100, 100), False, (400, 400)),
    ],
)  # fmt: skip
def test_a_photo_is_shown_at_a_multiple_of_the_size_that_the_network_sees(
    photo: tuple[int, int], size: tuple[int, int], is_ready: bool, shape: tuple[int, int]
) -> None:
    noise = np.random.default_rng(0)
    pixels = noise.integers(0, 256, (*photo, 3), dtype=np.uint8)
    image = noise.integers(0, 256, (3, *size), dtype=np.uint8)
    shown = _shown(Photo("a", pixels, is_ready=is_ready), image, Preprocessing(*size))
    assert shown.shape == (*shape, 3)
    times = shape[0] // size[0]
    sharp = 1 if is_ready else max(1, min(times, min(photo) // min(size)))
    if sharp == 1:
        whole = image.transpose(1, 2, 0).repeat(times, 0).repeat(times, 1)
        np.testing.assert_array_equal(shown, whole)
    else:
        # More detail than the network sees: pixels differ within each of its pixels.
        cells = shown.reshape(size[0], times, size[1], times, 3)
        assert (cells != cells[:, :1, :, :1]).any()
        step = times // sharp
        blocks = shown.reshape(shape[0] // step, step, shape[1] // step, step, 3)
        assert (blocks == blocks[:, :1, :, :1]).all()


def test_an_image_of_a_set_is_ready_and_labelled() -> None:
    found = photo_of(made_up.images_of(3, "x"), 1)
    assert (found.name, found.class_name, found.is_ready) == ("x/1.png", "dog", True)
    assert found.pixels.shape == (8, 9, 3)


@pytest.mark.parametrize(("count", "is_cut"), [(400, False), (401, True)])
def test_four_hundred_entries_of_a_folder_are_listed(
    tmp_path: Path, count: int, is_cut: bool
) -> None:
    for number in range(count):
        (tmp_path / f"{number:03}").mkdir()
    found = browse([tmp_path], tmp_path)
    assert (len(found.folders), found.is_cut) == (min(count, 400), is_cut)
    assert found.folders[0] == "000" and found.file_count == 0


@pytest.mark.parametrize(
    ("given", "port"), [("1", 1), ("65535", 65535), ("0", None), ("65536", None), ("", None),
                        ("８０", None), ("8x", None)],
)  # fmt: skip
def test_a_port_is_from_1_to_65535(given: str, port: int | None) -> None:
    if port is None:
        with pytest.raises(UsageError, match="expected a port, 1 to 65535"):
            hosting_from({"CDSW_APP_PORT": given})
    else:
        assert hosting_from({"CDSW_APP_PORT": given}).port == port


@pytest.mark.parametrize(
    ("ports", "read_only", "found"),
    [((80, 90), False, 80), ((80, 90), True, 90), ((80, None), True, 80), ((None, 90), False, 90),
     ((None, None), True, None)],
)  # fmt: skip
def test_viewers_have_a_port_of_their_own_where_there_is_one(
    ports: tuple[int | None, int | None], read_only: bool, found: int | None
) -> None:
    names = ("CDSW_APP_PORT", "CDSW_READONLY_PORT")
    given = {name: str(port) for name, port in zip(names, ports, strict=True) if port}
    assert hosting_from(given).usual_port(read_only=read_only) == found


@pytest.mark.parametrize(("length", "is_long"), [(15, False), (16, True)])
def test_a_token_has_sixteen_characters(length: int, is_long: bool) -> None:
    if is_long:
        assert Reach(token="x" * length).token
    else:
        with pytest.raises(UsageError, match=r"15 characters: expected at least 16"):
            Reach(token="x" * length)


def test_names_that_a_workbench_answers_to() -> None:
    reach = Reach(hosts=("hub.example", "*.apps.example"))
    for name, is_own in (
        ("hub.example", True), ("a.apps.example", True), ("apps.example", False),
        ("a.hub.example", False), ("", False), ("[::1].apps.example", False),
    ):  # fmt: skip
        assert reach.answers_to(name) == is_own
    anyone = Reach(hosts=("*",), token="x" * 16)
    assert anyone.answers_to("evil.example") and not anyone.answers_to("[::1]")
    with pytest.raises(UsageError, match="needs a token"):
        Reach(hosts=("a", "*"))
    assert frame_sources(["self", "a.example"]) == ("'self'", "a.example:*")
    assert own_names("192.0.2.7") == ("192.0.2.7",) and own_names("::1") == ("[::1]",)
    everywhere = own_names("0.0.0.0")
    assert "127.0.0.1" in everywhere and all("%" not in name for name in everywhere)


def test_an_inline_workbench_in_its_frame_or_as_a_link() -> None:
    framed = InlineWorkbench("/a?b&c", is_framed=True)
    assert framed.height == 800 and 'height="800"' in framed._repr_html_()
    assert 'src="/a?b&amp;c"' in framed._repr_html_() and str(framed) == "/a?b&c"
    assert InlineWorkbench("/a", is_framed=False)._repr_html_().startswith("<a href")


def test_a_workbench_that_does_not_start_is_ended_after_two_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    killed: list[bool] = []
    process: Any = SimpleNamespace(poll=lambda: None, kill=lambda: killed.append(True))
    with pytest.raises(UsageError, match="within 120 s"):
        inline_workbench._wait(process, inline_workbench._free_port(), io.BytesIO())
    assert killed and now[0] == pytest.approx(120.0, abs=0.2)
    ended: Any = SimpleNamespace(poll=lambda: 2)
    with pytest.raises(UsageError) as raised:
        inline_workbench._wait(ended, 1, io.BytesIO(b"a" * 10 + b"b" * 2000))
    assert str(raised.value).endswith("did not start: " + "b" * 2000)


def test_jupyter_waits_a_minute() -> None:
    assert jupyter_server()["timeout"] == 60


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [([2, 2, 0, 1, 3, 4, 0], [2, 3, 0, 4]), ([1, 0, 1, 0, 1], [0, 1, 2, 3]), ([0, 0], [0, 1])],
)
def test_the_preview_has_four_images_of_different_classes_if_it_can(
    labels: list[int], chosen: list[int]
) -> None:
    assert augmented_images._one_per_class(np.array(labels)).tolist() == chosen


def test_the_facts_of_a_source_name_eight_classes() -> None:
    for count, names in ((8, "cat, dog, owl, class 3, class 4, class 5, class 6, class 7"),):
        for more in (0, 1):
            images = made_up.images_of(20, "a", classes=count + more)
            splits = Splits(images, images, images)
            facts = augmented_images._facts(splits)
            assert facts["classes"] == f"{count + more}: {names}{' …' * more}"
    images = made_up.images_of(20, "a", classes=3)
    few = augmented_images._facts(Splits(images, images, images))
    assert few["classes"] == "3: cat, dog, owl"
    assert facts["images"] == "20 training, 20 validation, 20 test"
    assert facts["size"] == "9x8" and facts["notes"] == "–" and "unreadable" not in facts


def test_a_preview_is_what_training_sees_in_its_first_epochs(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = made_up.images_of(6, "a")
    monkeypatch.setattr(augmented_images, "load_source", lambda *_: Splits(images, images, images))
    seen: list[tuple[int, int]] = []

    def augment(pixels: Any, keys: Any, settings: Any, *, seed: int, epoch: int) -> Any:
        seen.append((seed, epoch))
        return pixels.float() + 10.6 * (1 + epoch)

    monkeypatch.setattr(augmented_images, "augment", augment)
    monkeypatch.setattr(augmented_images, "mix", lambda images, *_, **__: (images,))
    shown: list[Any] = []
    monkeypatch.setattr(augmented_images, "image_uri", lambda image: int(image.max()))
    recipe = load_recipe("small-cnn", ["train.seed=7"])
    rows: Any = augmented_images.augmented_images(workbench, "a", recipe)[0]
    assert seen == [(7, epoch) for epoch in range(4)] and not shown
    assert rows == [[0, 11, 21, 32, 42]] * 4


def test_a_check_finds_every_row_and_none_beyond() -> None:
    found = made_up.made_up_check()
    assert found.row_of["a/0.png"] == 0 and found.row_of["c/4.png"] == 17
    for row, split, place in ((0, "train", 0), (8, "train", 8), (9, "validation", 0),
                              (12, "validation", 3), (13, "test", 0), (17, "test", 4)):  # fmt: skip
        located = found.locate(row)
        assert located is not None and (located[0], located[2]) == (split, place)
    assert found.locate(18) is None and found.locate(-1) is None and found.image(18) is None
    assert CachedCheck("k", replace(found.examination, splits=None)).locate(0) is None
    assert check_cache._KEPT == 3


class FakeRun:
    """An image of a run and its predictions, of which four are of one cell."""

    shares = np.array([[0.1, 0.9], [0.4, 0.6], [0.9, 0.1], [0.2, 0.8], [0.05, 0.95]])


def test_the_images_of_a_cell_are_the_most_confident_first(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions: Any = SimpleNamespace(labels=np.array([0, 0, 0, 0, 1]))
    monkeypatch.setattr("glasshouse.serving.run_cache.probabilities", lambda _: FakeRun.shares)
    assert cell_positions(predictions, 0, 1, 2) == ([0, 3], 3)
    assert cell_positions(predictions, 0, 1, 9) == ([0, 3, 1], 3)
    assert cell_positions(predictions, 0, 0, 9) == ([2], 1)
    assert cell_positions(predictions, 1, 0, 9) == ([], 0)


@pytest.mark.parametrize(("count", "kept", "last"), [(400, 400, 399), (799, 799, 798),
                                                     (800, 401, 799), (801, 401, 800)])  # fmt: skip
def test_the_epochs_of_a_long_run_are_thinned(
    tmp_path: Path, count: int, kept: int, last: int
) -> None:
    path = tmp_path / "metrics.jsonl"
    write_lines(path, [epoch_line(k + 1) for k in range(count)])
    listed: Any = SimpleNamespace(status="training", validation=())
    found = run_watch._epochs(path, listed, None)
    assert len(found) == kept and found[-1]["epoch"] == last + 1 and found[0]["epoch"] == 1
    step = 1 if count < 800 else 2
    assert found[1]["epoch"] == 1 + step
    listed.status = "damaged"
    assert run_watch._epochs(path, listed, None) == ()
    assert run_watch._epochs(tmp_path / "none", listed, None) == ()


def test_a_run_is_read_again_after_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    workbench = Workbench(tmp_path)
    folder = write_run(tmp_path / "run", done=False)
    first = run_watch.snapshot_of(workbench, "run")
    listed = run_lookup.listed_runs(workbench)
    assert [run.name for run in listed] == ["run"]
    write_mark(folder, pid_started=0.0)
    write_run(tmp_path / "other")
    for later, is_same, count in (
        (0.99, True, 1),
        (1.0, True, 2),
        (1.49, True, 2),
        (1.5, False, 2),
    ):
        now[0] = 1000.0 + later
        assert (run_watch.snapshot_of(workbench, "run") is first) == is_same
        assert len(run_lookup.listed_runs(workbench)) == count


def test_files_of_an_answer_by_their_place(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = made_up.made_up_answer()
    for kind, place, is_there in (
        ("photo", 0, True), ("photo", 1, False), ("grey", 0, True), ("grey", 1, False),
        ("map", 2, True), ("map", 3, False), ("map", -1, False), ("layer", 1, True),
        ("layer", 2, False), ("overlay", 0, True), ("overlay", 3, False), ("array", 2, True),
        ("other", 0, False),
    ):  # fmt: skip
        found = drawn_file(answer, kind, Wanted(place))
        assert (found is not None) == is_there
        if found is not None:
            assert bool(found.name) == (kind in ("overlay", "array"))
    assert drawn_file(answer, "array", Wanted(2)).name == "guided.npy"  # type: ignore[union-attr]
    assert file_of_answer(workbench, "none", "photo", place=0, colours="") is None
    drawn: list[tuple[Any, ...]] = []

    def draw(page: Any, *place: int, palette: str) -> Image.Image:
        drawn.append((*page.names, page.model, *place, palette))
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr(map_images, "draw_sheet", draw)
    monkeypatch.setattr(map_images, "draw_photo_and_map", draw)
    about = ("my cat.png", "one @ epoch 2")
    for colours in ("jet", "viridis", "", "pink"):
        drawn_file(answer, "sheet", Wanted(colours=colours))
        drawn_file(answer, "overlay", Wanted(1, colours))
        palette = colours if colours in ("jet", "viridis") else "inferno"
        assert drawn == [(*about, palette), (*about, 1, palette)]
        drawn.clear()
    assert Wanted() == Wanted(0, "inferno")


@pytest.mark.parametrize(("side", "factor"), [(4, 100), (30, 14), (150, 2)])
def test_a_grid_of_channels_is_enlarged_up_to_nine_hundred_pixels(side: int, factor: int) -> None:
    layer = Activations("a", np.random.default_rng(0).random((1, 4, side, side)))
    drawn = Image.open(io.BytesIO(map_images.activation_file(layer)))
    tile = (drawn.width - 1) // 2 if side * factor < 36 else drawn.width / 2
    assert tile == pytest.approx(side * factor, abs=side * factor / 20 + 2)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "Two classes or more are needed."), ({"a": 9}, "Two classes or more are needed."),
        ({"a": 3, "b": 3}, ""), ({"a": 3, "b": 2}, "'b' needs at least 3 images."),
        ({"a": 0, "b": 2}, "'a' and 'b' need at least 3 images."),
        ({"a": 1, "b": 2, "c": 9, "d": 0}, "'a', 'b' and 'd' need at least 3 images."),
    ],
)  # fmt: skip
def test_what_a_set_lacks(
    monkeypatch: pytest.MonkeyPatch, counts: dict[str, int], words: str
) -> None:
    found = {name: [Path("x")] * count for name, count in counts.items()}
    monkeypatch.setattr(taught_sets, "classes_of", lambda _: found)
    assert what_is_missing(Path("set")) == words


def test_a_class_is_removed_with_an_image_that_is_gone_already(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = set_folder(workbench, "pets")
    add_class(folder, "cat")
    lists = [{"cat": [folder / "cat" / "gone.png"]}, {"cat": []}]
    monkeypatch.setattr(taught_sets, "classes_of", lambda _: lists.pop(0))
    taught_sets.remove_class(folder, "cat")
    assert not (folder / "cat").exists()
    monkeypatch.setattr(taught_sets, "file_of", lambda *_: folder / "cat" / "gone.png")
    taught_sets.remove_image(folder, "cat", "gone.png")


def test_a_set_has_twenty_classes(workbench: Workbench) -> None:
    folder = set_folder(workbench, "pets")
    for number in range(20):
        add_class(folder, f"c{number}")
    with pytest.raises(UsageError, match="at most 20 classes"):
        add_class(folder, "one more")


def test_a_file_is_written_under_forty_letters_of_its_name(workbench: Workbench) -> None:
    folder = set_folder(workbench, "pets")
    add_class(folder, "cat")
    names = ("a" * 50 + ".png", "!!.png", "x y.z.png")
    assert taught_sets.add_images(folder, "cat", [(n, png(len(n))) for n in names]).count == 3
    stems = {path.stem.rpartition("-")[0] for path in (folder / "cat").iterdir()}
    assert stems == {"a" * 40, "image", "x-y-z"}
    digests = {len(path.stem.rpartition("-")[2]) for path in (folder / "cat").iterdir()}
    assert digests == {12}


@pytest.mark.parametrize(
    ("key", "value", "values", "words"),
    [
        ("train.schedule", "step", {"train.epochs": 9}, '{type="step", every=3}'),
        ("train.schedule", "step", {"train.epochs": 8.0}, '{type="step", every=2}'),
        ("train.schedule", "step", {"train.epochs": 2}, '{type="step", every=1}'),
        ("train.schedule", "step", {"train.epochs": None}, '{type="step", every=3}'),
        ("train.schedule", "step", {}, '{type="step", every=3}'),
        ("train.schedule", "cosine", {"train.epochs": 9}, '{type="cosine"}'),
        ("augment.horizontal_flip", "yes", {}, "true"), ("train.optimizer", "sgd", {}, '"sgd"'),
        ("augment.horizontal_flip", "alternating", {}, '"alternating"'),
        ("train.lr", 0.5, {}, "0.5"), ("train.epochs", 7, {}, "7"),
        ("train.lr", "auto", {}, '"auto"'),
    ],
)  # fmt: skip
def test_values_of_fields_as_overrides(key: str, value: Any, values: Any, words: str) -> None:
    assert _toml(key, value, values) == words


def test_values_of_fields_in_the_type_of_their_setting() -> None:
    whole, text, number = map(setting_of, ("train.epochs", "train.lr", "train.weight_decay"))
    for setting, given, found in (
        (whole, 3.0, 3), (whole, 3.5, 3.5), (whole, None, None), (whole, "", None),
        (number, 3.0, 3.0), (text, "0.5", 0.5), (text, "auto", "auto"), (text, 0.25, 0.25),
    ):  # fmt: skip
        value = _typed(setting, given)
        assert value == found and type(value) is type(found)
    recipe = load_recipe("small-residual")
    assert overrides(recipe, {"train.epochs": 11.0, "train.seed": 0.0}) == ["train.epochs=11"]
    assert setting_of("train.lr").label == "Learning rate"
    assert setting_of("train.batch_size").label == "Batch size"


@pytest.mark.parametrize(
    ("columns", "form"), [(1, ""), (4, ""), (5, "gh-lines"), (6, "gh-lines"), (7, "gh-cards")]
)
def test_how_a_phone_shows_a_table(columns: int, form: str) -> None:
    assert phone_form(columns) == form


def test_numbers_as_people_read_them() -> None:
    assert percent(None) == "–" and percent(0.12345) == "12.35 %" and percent(0.125, 0) == "12 %"
    assert score_text("accuracy", None) == "–" and score_text("accuracy", 0.5) == "50.00 %"
    assert score_interval("accuracy", 0.1234, 0.5) == "12.3 – 50.0"
    assert rate(0.00123456) == "0.00123" and moment("no time") == ""


def test_a_frame_has_at_most_400000_characters() -> None:
    prefix = "data:image/jpeg;base64,"
    body = "/9j/" * ((400_000 - len(prefix)) // 4)
    assert _jpeg(prefix + body) and len(prefix + body) > 399_990
    assert _jpeg(prefix + body + "/9j/" * 2) == b""


@pytest.mark.parametrize("sent", ["AB*C", "QUJD\n", "QUJ"])
def test_a_frame_is_base64_and_nothing_else(sent: str) -> None:
    assert _jpeg("data:image/jpeg;base64,QUJD") == b"ABC"
    assert _jpeg(f"data:image/jpeg;base64,{sent}") == b""


def test_backbones_in_words() -> None:
    assert BackboneChoice("cifar10-small").title.endswith("(comes with Glasshouse)")
    assert BackboneChoice("a").title == "a (on this machine)"
    assert BackboneChoice("a", is_download=True).title == "a (downloads its weights)"


@pytest.mark.parametrize("data_dir", [None, Path("data")])
def test_a_lesson_looks_for_data_where_the_workbench_does(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, data_dir: Path | None
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(teaching, "start_training", lambda *arguments: given.append(arguments[4]))
    place = replace(workbench, data_dir=data_dir)
    teaching.start_teaching(place, set_folder(place, "pets"), BackboneChoice("a"))
    where = [] if data_dir is None else ["--data-dir", "data"]
    assert given == [["--backbone", "a", *where, "--offline"]]


def test_a_run_that_is_deleted_is_said_until_it_is_closed(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    write_run(workbench.runs / "run", done=False)
    first = run_watch.snapshot_of(workbench, "run")
    assert first is not None

    async def fill(user: User, place: Any) -> None:
        viewer = run_page._Viewer(workbench, "run", first)
        viewer.timer = ui.timer(9.0, lambda: None)
        monkeypatch.setattr(run_page, "snapshot_of", lambda *_: None)
        monkeypatch.setattr(ui, "notify", lambda words, **options: said.append((words, options)))
        await viewer.refresh()
        assert not viewer.timer.active

    story_of(workbench, fill)
    options = {"type": "warning", "timeout": 0, "close_button": True}
    assert said == [("This run has been deleted.", options)]


def test_a_page_that_is_hidden_pauses_and_catches_up(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(workbench.runs / "run", done=False)
    first = run_watch.snapshot_of(workbench, "run")
    assert first is not None
    looks: list[str] = []

    def look(workbench: Any, name: str) -> Any:
        looks.append(name)
        return first

    async def fill(user: User, place: Any) -> None:
        viewer = run_page._Viewer(workbench, "run", first)
        await viewer.set_visible(SimpleNamespace(args=True))  # type: ignore[arg-type]
        assert not looks  # before the timer there is nothing to pause
        viewer.timer = ui.timer(9.0, lambda: None)
        monkeypatch.setattr(run_page, "snapshot_of", look)
        for is_seen, count in ((False, 0), (True, 1), (False, 1), (True, 2)):
            await viewer.set_visible(SimpleNamespace(args=is_seen))  # type: ignore[arg-type]
            assert viewer.timer.active == is_seen and len(looks) == count
        assert viewer.sent is first and 1 <= viewer.timer.interval <= 3
        viewer.sent = replace(first, status="finished", has_report=True)
        await viewer.set_visible(SimpleNamespace(args=False))  # type: ignore[arg-type]
        assert viewer.timer.active and len(looks) == 2

    story_of(workbench, fill)


def cookie_of(token: str, *, frames: tuple[str, ...] = (), scheme: str = "http") -> str:
    """The cookie that the first page sets."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def nothing(*_: Any) -> None:
        raise AssertionError("the token was not asked for")

    scope = {"type": "http", "path": "/", "query_string": f"token={token}".encode(), "headers": [],
             "scheme": scheme, "method": "GET"}  # fmt: skip
    guarded = TokenRequired(nothing, Reach(token=token, frames=frames))
    asyncio.run(guarded(scope, receive, send))
    headers = dict(sent[0]["headers"])
    assert sent[0]["status"] == 303 and headers[b"cache-control"] == b"no-store"
    cookie: str = headers[b"set-cookie"].decode()
    return cookie


@pytest.mark.parametrize(
    "layer",
    [OwnHostsOnly, TokenRequired, lambda inner, _: RelativeAddresses(inner, ("/a",))],
    ids=["hosts", "token", "relative"],
)
def test_the_start_and_the_end_of_the_server_are_passed_on(layer: Any) -> None:
    seen: list[Any] = []

    async def inner(*given: Any) -> None:
        seen.append(given)

    given: Any = ({"type": "lifespan"}, object(), object())
    asyncio.run(layer(inner, Reach(token="x" * 16))(*given))
    assert seen == [given]


def test_a_request_has_no_origin_or_one_of_the_own_pages() -> None:
    guard = OwnHostsOnly(None, Reach(hosts=("here", "*.there")))  # type: ignore[arg-type]

    def is_own(origin: str, host: str = "here:80") -> bool:
        return guard._is_own_origin(origin, Headers({"host": host}))

    assert is_own("") and is_own("http://here") and is_own("https://here:8080")
    assert is_own("http://here", "a.there") and is_own("http://a.there", "a.there:1")
    # A pattern stands for the pages of others, too.
    for origin in ("null", "http://", "ftp://here", "http://b.there", "http://elsewhere", "here"):
        assert not is_own(origin, "a.there")


def test_cookies_that_are_not_well_formed_hide_no_others() -> None:
    headers = Headers({"cookie": "a=1; b[]=\x01; =; c = 3 ;d"})
    assert {"a": "1", "c": "3"}.items() <= _cookies(headers).items()
    assert _cookies(Headers({})) == {}


def test_the_cookie_says_where_it_may_be_sent() -> None:
    plain = cookie_of("x" * 16)
    name, _, rest = plain.partition("=")
    assert re.fullmatch("glasshouse-[0-9a-f]{8}", name) and rest.endswith(
        "; HttpOnly; SameSite=Lax"
    )
    assert cookie_of("y" * 16).partition("=")[0] != name
    assert cookie_of("x" * 16, scheme="https").endswith("SameSite=Lax; Secure")
    own = cookie_of("x" * 16, frames=("'self'",), scheme="https")
    assert own.endswith("SameSite=Lax; Secure")
    framed = cookie_of("x" * 16, frames=("a.example:*",), scheme="https")
    assert framed.endswith("; HttpOnly; SameSite=None; Secure; Partitioned")
    assert cookie_of("x" * 16, frames=("a.example:*",)).endswith("SameSite=Lax")


def story_of(workbench: Workbench, fill: Any) -> None:
    """Let a function fill a page and look at it."""

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as place:
            found = fill(user, place)
            if found is not None:
                await found

    visit(workbench, story)


def test_sixty_classes_and_forty_samples_and_two_hundred_files_are_shown(
    workbench: Workbench,
) -> None:
    images = replace(
        made_up.images_of(124, "a", classes=62), targets=np.array([0] * 62 + list(range(62)))
    )
    found = replace(made_up.made_up_check())
    examination = replace(found.examination, splits=Splits(images, images, images))
    check = CachedCheck("KEY", examination)

    def fill(user: User, place: Any) -> None:
        assert check.splits is not None
        data_view._balance(check.splits)
        rows = [e for e in elements(user, scope="row") if e.tag == "th"]
        assert len(rows) == 60 and elements(user, words="and 2 more classes")
        data_view._samples(check, check.splits)
        shown = [e.props["src"] for e in elements(user) if e.tag == "img" and e.props.get("alt")]
        assert len(shown) == 40
        # Evenly from the first to the last of the 63 images of the class.
        assert (shown[0], shown[1], shown[-1]) == (
            "./data/KEY/0", "./data/KEY/1", "./data/KEY/62"
        )  # fmt: skip
        (part,) = (e for e in elements(user) if isinstance(e, ui.toggle))
        part.value = "test"
        shown = [e.props["src"] for e in elements(user) if e.tag == "img" and e.props.get("alt")]
        assert shown[0] == "./data/KEY/248"
        part.value = "validation"
        shown = [e.props["src"] for e in elements(user) if e.tag == "img" and e.props.get("alt")]
        assert shown[0] == "./data/KEY/124"
        bad = [SimpleNamespace(path=str(k), reason="x") for k in range(201)]
        data_view._bad_files(bad[:200])  # type: ignore[arg-type]
        assert len(elements(user, data_label="Reason")) == 200
        assert not [e for e in elements(user) if "more; `glasshouse" in getattr(e, "text", "")]
        data_view._bad_files(bad)  # type: ignore[arg-type]
        assert len(elements(user, data_label="Reason")) == 400
        assert elements(user, words="and 1 more; `glasshouse check --json` lists all.")

    story_of(workbench, fill)


def test_groups_of_images_are_shown_a_dozen_at_a_time(workbench: Workbench) -> None:
    check = made_up.made_up_check()
    for name in ("large", "small"):
        side = 100 if name == "large" else 99
        images = made_up.images_of(18, "a", side=side - 1)
        examination = replace(check.examination, splits=Splits(images, images, images))
        large = CachedCheck("KEY", examination)

        def fill(user: User, place: Any, large: CachedCheck = large, side: int = side) -> None:
            groups = [[k] for k in range(18)] + [[1, 2]] * 7
            data_view._groups(groups, large, is_open=True, are_pairs=False)
            assert len([e for e in elements(user) if e.tag == "li"]) == 12
            more: Any = elements(user, words="Show more (13 left)")[0]
            act(user, more)
            assert len([e for e in elements(user) if e.tag == "li"]) == 24
            assert more.text == "Show more (1 left)" and more.visible
            act(user, more)
            assert len([e for e in elements(user) if e.tag == "li"]) == 25 and not more.visible
            pixels = [e for e in elements(user) if e.tag == "img" and e.props.get("src")]
            assert ("gh-pixels" in pixels[-1].classes) == (side < 100)

        story_of(workbench, fill)


def test_a_source_is_offered_once_and_eight_at_most(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [SimpleNamespace(source=name) for name in ("a", "b", "a", "", *"cdefgh")]
    monkeypatch.setattr(data_view, "RunListing", lambda _: SimpleNamespace(read=lambda: runs))

    def fill(user: User, place: Any) -> None:
        data_view._chooser(workbench, "b")
        pills = [getattr(e, "text", "") for e in elements(user, css="gh-pill")]
        assert pills == ["Read all files again", *"abcdefgh"]
        (current,) = elements(user, aria_current="page", words="b")
        assert current.tag == "a"

    story_of(workbench, fill)


def test_runs_are_compared_from_two_to_eight(workbench: Workbench) -> None:
    note: Any = SimpleNamespace(text="")

    def fill(user: User, place: Any) -> None:
        compare = ui.button()
        for count, text, is_enabled, said in (
            (0, "Compare", False, "Select 2 to 8 runs"),
            (1, "Compare", False, "Select 2 to 8 runs"),
            (2, "Compare 2", True, ""), (8, "Compare 8", True, ""),
            (9, "Compare 9", False, "At most 8 runs can be compared; 9 are selected"),
        ):  # fmt: skip
            table: Any = SimpleNamespace(selected=[None] * count)
            runs_page._show_selection(table, compare, note)
            assert (compare.text, compare.enabled, note.text) == (text, is_enabled, said)
        for count, per_page in ((50, 0), (51, 50)):
            rows = [{"name": str(k), "metric": "accuracy"} for k in range(count)]
            made = runs_page._table(rows)
            assert made.props["pagination"]["rowsPerPage"] == per_page
            assert made.props[":hide-bottom"] == str(count <= 50).lower()

    story_of(workbench, fill)


def test_cards_show_sixty_images_and_six_reasons(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = [tmp_path / f"{k}.png" for k in range(61)]
    for file in files:
        file.touch()
    found = {"cat": files[:60]}
    monkeypatch.setattr(class_cards, "classes_of", lambda _: found)

    def fill(user: User, place: Any) -> None:
        cards = class_cards.ClassCards(tmp_path, lambda: None)
        assert len([e for e in elements(user) if e.tag == "li"]) == 60
        found["cat"] = files
        cards.show()
        assert len([e for e in elements(user) if e.tag == "li"]) == 61
        assert elements(user, words="and 1 more") and elements(user, words="61 images")
        card = cards._cards["cat"]
        for count, shown in ((6, 6), (7, 7), (8, 7)):
            card.show(taught_sets.Added(0, tuple(f"r{k}" for k in range(count))))
            (listed,) = elements(user, css="gh-refused")
            said = outline(listed)
            assert len(said) == shown and (said[-1] == f"and {count - 6} more") == (count > 6)

    story_of(workbench, fill)


def test_eight_other_sets_are_offered(workbench: Workbench) -> None:
    def fill(user: User, place: Any) -> None:
        teach_view._sets(workbench, "own", [f"s{k}" for k in range(9)])
        pills = elements(user, css="gh-pill")
        assert [e.text for e in pills] == ["own", *(f"s{k}" for k in range(8))]  # type: ignore[attr-defined]

    story_of(workbench, fill)


def test_a_thumbnail_is_112_pixels_wide(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(0))
    assert Image.open(io.BytesIO(teach_page._thumbnail(path, 0))).size == (112, 112)


def test_a_photo_that_is_too_large_to_explain_is_refused_with_the_limit(
    workbench: Workbench,
) -> None:
    explainer: Any = SimpleNamespace(workbench=workbench)
    view: Any = SimpleNamespace(explainer=explainer)

    def fill(user: User, place: Any) -> None:
        explain_view._drop(view, None)  # type: ignore[arg-type]
        (drop,) = elements(user, css="gh-drop")
        assert drop.props["max-file-size"] == 64 << 20 and drop.props["auto-upload"]
        act(user, drop, "rejected")
        assert elements(user, words="The file is too large: at most 64\u00a0MB.")

    story_of(workbench, fill)


def test_six_mistakes_and_ten_others_are_offered_for_explanation(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = made_up.images_of(30, "a", side=99)
    view: Any = SimpleNamespace(shuffles=0)

    def fill(user: User, place: Any) -> None:
        strip._others(place, images, view, None)  # type: ignore[arg-type]
        first = [e.props["title"] for e in elements(user, css="gh-thumb")]
        assert len(first) == 10 == len(set(first)) and view.shuffles == 1
        strip._others(place, images, view, None)  # type: ignore[arg-type]
        second = [e.props["title"] for e in elements(user, css="gh-thumb")]
        assert len(second) == 10 and set(second) != set(first)
        small = [e for e in elements(user) if e.tag == "img" and "gh-pixels" in e.classes]
        assert not small  # 100 pixels wide: not enlarged pixel by pixel

    story_of(workbench, fill)
    monkeypatch.setattr(strip, "run_of_choice", lambda *_: Path("run"))
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    wrong = [SimpleNamespace(id=f"a/{k}.png") for k in (31, 3, 9, 1, 2, 4, 5)]
    predictions = SimpleNamespace(is_multi_label=False)
    counts: list[int] = []
    monkeypatch.setattr(strip, "load_predictions", lambda _: predictions)

    def worst(_: Any, count: int) -> Any:
        counts.append(count)
        return wrong[:count]

    monkeypatch.setattr(strip, "worst_mistakes", worst)
    assert strip._worst_mistakes(workbench, ModelChoice("a"), images) == [3, 9, 1, 2, 4]
    assert counts == [6]


class Stream:
    """The output of a process that has ended."""

    def __init__(self, data: bytes) -> None:
        self.lines = data.splitlines(keepends=True)

    async def read(self) -> bytes:
        """All of it."""
        return b"".join(self.lines)

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> bytes:
        if not self.lines:
            raise StopAsyncIteration
        return self.lines.pop(0)


def test_only_the_end_of_a_failed_range_test_is_shown(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: dict[str, Any] = {}

    async def start(*_: Any, **__: Any) -> Any:
        async def wait() -> None:
            return None

        return SimpleNamespace(
            stdout=Stream(outputs["out"]), stderr=Stream(outputs["err"]), wait=wait,
            returncode=outputs["code"],
        )  # fmt: skip

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    recipe = load_recipe("small-cnn")

    def tested(out: bytes, err: bytes, code: int) -> Any:
        outputs.update(out=out, err=err, code=code)
        test = finder_panel._test(workbench, "digits", recipe, {}, lambda _: None)
        try:
            return asyncio.run(test)
        except UsageError as error:
            return str(error)

    assert tested(b'{"lrs": [1]}', b"", 0) == {"lrs": [1]}
    assert tested(b"", b"x" * 500, 1) == "x" * 400
    assert tested(b"", b"glasshouse: no such source\n", 2) == "no such source"
    assert tested(b"", b"", 1) == "The test failed."
    assert tested(b"", b"any", -9) == "Test stopped."
    assert tested(b"{}", b"", 0) == {}


def test_the_script_of_a_page_gets_the_cell_that_was_clicked(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    async def note(dialog: Any, workbench: Any, name: str, cell: tuple[int, int]) -> None:
        opened.append((name, cell))

    monkeypatch.setattr("glasshouse.serving.pages.results._open_cell", note)

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client:
            _confusion(workbench, "one", made_up.of_one_label())
        listeners = [(e, each) for e in elements(user) for each in e._event_listeners.values()]
        (whole,) = (e for e, each in listeners if "data-cell" in (each.js_handler or ""))
        act(user, whole, "click", "2-1")
        await until(lambda: opened)

    visit(workbench, story)
    assert opened == [("one", (2, 1))]


def test_columns_change_with_the_method_and_more_maps_are_added(workbench: Workbench) -> None:
    answer = made_up.made_up_answer()

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client, box() as place:
            column = Column(answer, "none", "viridis")
        # The map to begin with: Grad-CAM has a doubtful check.
        assert column.method == "saliency" and column.is_checking
        assert len(column.maps["saliency"]) == 2 and len(column.maps["grad-cam"]) == 1
        column.show_method("guided")
        column.show_method("none")
        assert column.method == "guided" and "Checking how far" in " ".join(outline(place))
        assert [len(column.maps[name]) for name in column.methods] == [1, 1, 2]
        column.show_no_checks()
        assert not column.is_checking and "Checking how far" not in " ".join(outline(place))
        slow = replace(answer.page.explanations[2], method="occlusion")
        page = replace(answer.page, explanations=(*answer.page.explanations, slow))
        column.wanted = "occlusion"  # as an address may ask
        column.show_more(replace(answer, page=page))
        assert column.methods == ["grad-cam", "saliency", "guided", "occlusion"]
        assert column.method == "occlusion"
        assert list(column.tiles) == column.methods and column.more.is_deleted
        slider: Any = elements(user, aria_label="Layer")[0]
        slider.value = 1
        assert elements(user, words="end: 2 channels of 3x1, each with its own colour scale")
        (grid,) = elements(user, css="gh-grid")
        assert grid.props["src"] == "./explain/answers/KEY/layer/1"

    visit(workbench, story)
