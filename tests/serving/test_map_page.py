"""The page with a map: its bytes, its images, selections, groups, and what it says without one."""

import base64
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from nicegui.testing import User

from glasshouse.data.images import ImageSet
from glasshouse.data.sources import load_splits
from glasshouse.errors import DataError, UsageError
from glasshouse.evaluation.data_map import DataMap, save_map
from glasshouse.report.encoding import image_file
from glasshouse.runs.folder import read_run
from glasshouse.serving import run_maps
from glasshouse.serving.pages import map_view
from glasshouse.serving.pages.data_map import PAGE
from glasshouse.serving.pages.map_chart import MapChart
from glasshouse.serving.run_maps import bits_of_rows, rows_of_bits, rows_where
from glasshouse.serving.workbench import Workbench
from glasshouse.storage import read_json
from tests.evaluation.test_data_map import made_map
from tests.serving.conftest import act, elements, until, visit
from tests.serving.test_teach_events import within


def mapped(workbench: Workbench) -> tuple[DataMap, ImageSet]:
    """A map of validation images of the run first, put into its folder."""
    folder = workbench.runs / "first"
    run = read_run(folder)
    images = load_splits(run.source, run.recipe.data, offline=True).validation
    sha = read_json(folder / "model.json")["weights"]["sha256"]
    made = made_map(40)
    fields: dict[str, Any] = {**vars(made), "ids": images.ids[:40], "weights": sha}
    found = DataMap(**fields)
    save_map(found, folder / "map.safetensors")
    return found, images


def client_of(workbench: Workbench) -> TestClient:
    app = FastAPI()
    assert PAGE.routes is not None
    app.include_router(PAGE.routes(workbench))
    return TestClient(app)


def test_the_points_are_the_bytes_that_the_script_reads(full: Workbench) -> None:
    found, _ = mapped(full)
    data = client_of(full).get("/map-points/first").content
    floats = np.frombuffer(data[: 4 * 40 * 6], "<f4")
    np.testing.assert_array_equal(floats[:80].reshape(40, 2), found.pca)
    np.testing.assert_array_equal(floats[80:160].reshape(40, 2), found.tsne)
    np.testing.assert_array_equal(floats[160:200], found.confidence)
    np.testing.assert_array_equal(floats[200:], found.unusual)
    names = np.frombuffer(data[960:1120], "<u2").reshape(2, 40)
    np.testing.assert_array_equal(names, [found.labels, found.predicted])
    parts = np.frombuffer(data[1120:], np.uint8).reshape(4, 40)
    np.testing.assert_array_equal(
        parts, [found.labels, found.predicted, found.labels != found.predicted, found.split]
    )


def test_an_image_is_that_of_its_point_and_nothing_else_is_served(full: Workbench) -> None:
    found, images = mapped(full)
    client = client_of(full)
    for position in (0, 39):
        (row,) = np.flatnonzero(images.ids == found.ids[position])
        answer = client.get(f"/map-image/{position}/first")
        assert (answer.content, answer.headers["content-type"]) == image_file(images.pixels[row])
    for address in ("/map-image/40/first", "/map-image/-1/first", "/map-image/0/..%2Fother",
                    "/map-points/..%2Ffirst", "/map-points/sub/second"):  # fmt: skip
        assert client.get(address).status_code == 404, address


def test_a_damaged_map_is_named_with_what_to_do(full: Workbench) -> None:
    mapped(full)
    (full.runs / "first" / "map.safetensors").write_bytes(b"nothing")
    answer = client_of(full).get("/map-points/first")
    assert answer.status_code == 404 and "again with `glasshouse map`" in answer.json()["detail"]

    async def story(user: User) -> None:
        await user.open("/data-map/first")
        await user.should_see("make the map again")
        await user.should_see("Make the map")

    visit(full, story)


def test_bits_are_the_rows_and_foreign_bits_are_refused() -> None:
    found = made_map(43)
    rows = np.array([0, 7, 8, 42])
    np.testing.assert_array_equal(rows_of_bits(found, bits_of_rows(found, rows)), rows)
    assert bits_of_rows(found, np.array([0])) == base64.b64encode(b"\x80" + bytes(5)).decode()
    for bits in ("", "AA==", "no bits", None):
        with pytest.raises(UsageError, match="reload it"):
            rows_of_bits(found, bits)


def test_rows_are_selected_by_class_answer_mistake_and_text() -> None:
    found = made_map(40)
    everything = {"label": None, "answer": None, "mistakes": False, "words": ""}
    assert len(rows_where(found, **everything)) == 40  # type: ignore[arg-type]
    wrong = rows_where(found, label=1, answer=0, mistakes=True, words="")
    assert wrong.tolist() == [1, 3, 5, 7, 9]
    assert rows_where(found, label=0, answer=None, mistakes=False, words="VAL/2").tolist() == [
        2, 20, 22, 24, 26, 28,
    ]  # fmt: skip


def test_a_selection_shows_its_images_and_becomes_a_group(full: Workbench) -> None:
    found, _ = mapped(full)

    async def story(user: User) -> None:
        await user.open("/data-map/first")
        await user.should_see("40 validation images as points, by t-SNE")
        (chart,) = [each for each in elements(user) if isinstance(each, MapChart)]
        assert chart.props["planes"] == ["pca", "tsne"] and chart.props["plane"] == "tsne"
        act(user, chart, "area", bits_of_rows(found, np.array([1, 3, 5, 7, 9, 11])))
        await user.should_see("6 images: 17 % (3.0 to 56.4) of the answers are right")
        await user.should_see(str(found.ids[9]))
        (field,) = [e for e in elements(user) if e.props.get("maxlength") == "60"]
        field.value = "odd ones"  # type: ignore[attr-defined]
        user.find("Keep as a group").click()
        await until((full.runs / "first" / "map-groups.json").is_file)
        kept = read_json(full.runs / "first" / "map-groups.json")
        assert kept == {
            "groups": [{"name": "odd ones", "images": found.ids[[1, 3, 5, 7, 9, 11]].tolist()}]
        }
        user.find("Clear").click()
        await user.should_see("Nothing is selected")
        (press,) = elements(user, aria_label="Show the group odd ones")
        act(user, press)
        await user.should_see("6 images: 17 %")
        (press,) = elements(user, aria_label="Remove the group odd ones")
        act(user, press)
        await user.should_see("None yet")
        await until((full.runs / "first" / "map.html").is_file)

    visit(full, story)


def test_a_source_that_has_moved_leaves_the_points(full: Workbench, tmp_path: Path) -> None:
    found, _ = mapped(full)
    folder = full.runs / "first"
    text = (folder / "environment.json").read_text(encoding="utf-8")
    gone = text.replace('"source": "digits"', f'"source": "{tmp_path / "gone"}"')
    (folder / "environment.json").write_text(gone, encoding="utf-8")

    async def story(user: User) -> None:
        await user.open("/data-map/first")
        await user.should_see("40 validation images as points")
        (chart,) = [each for each in elements(user) if isinstance(each, MapChart)]
        act(user, chart, "area", bits_of_rows(found, np.array([1, 3])))
        await user.should_see("Cannot show the images")

    visit(full, story)


def test_the_page_makes_a_map_and_says_why_it_cannot(
    full: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[object] = [DataError("the images are on the moon"), None]

    def make(folder: Path, splits: tuple[str, ...], **options: Any) -> None:
        assert splits == ("validation",) and options["offline"]
        options["progress"]("t-SNE", 0, 40)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        mapped(full)

    monkeypatch.setattr(run_maps, "make_run_map", make)

    async def story(user: User) -> None:
        await user.open("/data-map/first")
        await user.should_see("No map yet")
        user.find("Make the map").click()
        await user.should_see("Cannot make the map: the images are on the moon")
        user.find("Try again").click()
        await user.should_see("40 validation images as points, by t-SNE")

    visit(full, story)


def test_a_layout_that_comes_later_moves_the_points_and_other_images_begin_anew(
    full: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made_map(40)
    first = replace(whole, tsne=None, kept={"pca": 0.8})
    kept = [(first, 1), (first, 1), (whole, 2), (made_map(24), 3)]
    monkeypatch.setattr(map_view, "map_of_run", lambda _: kept.pop(0))

    async def story(user: User) -> None:
        await user.open("/")
        assert user.client is not None
        with user.client:
            page = map_view._MapPage(full, "first", full.runs / "first")
        await within(user, page.look())
        chart, selection = page.chart, page.selection
        assert chart is not None and selection is not None and not page.timer.active
        assert page.planes.options == ["PCA"] and chart.props["plane"] == "pca"
        await within(user, page.look())
        assert page.chart is chart and page.version == 1
        selection.rows = np.array([3])
        await within(user, page.look())
        assert page.chart is chart and page.selection is selection
        assert page.planes.options == ["PCA", "t-SNE"] and page.planes.value == "t-SNE"
        assert (chart.props["plane"], chart.props["version"]) == ("tsne", "2")
        assert selection.found is whole and selection.rows.tolist() == [3]
        assert "t-SNE" in page.words.text
        page.planes.value = "PCA"
        assert chart.props["plane"] == "pca"
        await within(user, page.look())
        assert page.selection is not selection and page.version == 3
        assert page.chart is not None and page.chart.props["count"] == 24

    visit(full, story)


def test_a_map_that_cannot_be_begun_says_why(
    full: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(workbench: Workbench, folder: Path, splits: list[str]) -> None:
        raise UsageError(f"no map of {splits[0]} images today")

    monkeypatch.setattr(map_view, "start_map", refuse)

    async def story(user: User) -> None:
        await user.open("/data-map/first")
        await user.should_see("No map yet")
        user.find("Make the map").click()
        await until(lambda: user.notify.contains("no map of validation images today"))
        await user.should_see("No map yet")

    visit(full, story)


def test_an_area_of_other_points_is_refused_and_images_are_found_by_words(full: Workbench) -> None:
    found, _ = mapped(full)
    identity = str(found.ids[7]).upper()

    async def story(user: User) -> None:
        await user.open("/data-map/first")
        await user.should_see("40 validation images as points")
        (chart,) = [each for each in elements(user) if isinstance(each, MapChart)]
        act(user, chart, "area", "no bits")
        await until(lambda: user.notify.messages)
        (words,) = elements(user, aria_label="Part of a file name")
        words.value = "none is called like that"  # type: ignore[attr-defined]
        act(user, elements(user, words="Select")[0])
        await user.should_see("No image of this map is like that.")
        words.value = f" {identity} "  # type: ignore[attr-defined]
        act(user, words, "keydown.enter")
        await user.should_see("1 image:")

    visit(full, story)


def test_a_map_of_other_weights_is_none_and_read_only_pages_make_none(full: Workbench) -> None:
    mapped(full)
    shutil.copy(full.runs / "sub" / "second" / "model.json", full.runs / "first" / "model.json")
    viewers = Workbench(full.runs, offline=True, read_only=True)
    assert run_maps.map_of_run(full.runs / "first") is None
    with pytest.raises(UsageError, match="read-only"):
        run_maps.start_map(viewers, full.runs / "first", ("validation",))

    async def story(user: User) -> None:
        await user.open("/data-map/first")
        await user.should_see("No map yet")
        await user.should_not_see("Make the map")

    visit(viewers, story)
