"""Python's and the notebook's form of what photos resemble."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import glasshouse as gh
from glasshouse.data.images import images_by_id
from glasshouse.data.sources import load_splits
from glasshouse.errors import BadImage, UsageError
from glasshouse.report.encoding import strip_uri
from glasshouse.runs import folder as runs
from glasshouse.workflow.use import find_similar as found_by
from tests.journeys.command import glasshouse_here
from tests.serving.runs import train_small


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("find") / "run", "digits")


def test_python_says_what_predict_says_and_a_notebook_shows_the_images(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = load_splits("digits", runs.read_run(run).recipe.data).train
    known, black = tmp_path / "a<b.png", tmp_path / "black.png"
    Image.fromarray(train.pixels[5].transpose(1, 2, 0)).save(known)
    Image.new("L", (8, 8)).save(black)
    found = gh.find_similar(run, [known, black])
    arguments = ["predict", str(run), str(known), str(black), "--similar", "--json"]
    expected = json.loads(glasshouse_here(arguments, capsys)[1])
    for each, answer in zip(found, expected, strict=True):
        said = each.as_json()
        assert said["similar"] == answer["similar"]
        assert said["unknown"]["words"] == answer["unknown"]["words"]
    assert len(found) == 2 and found[1].familiarity.is_unknown
    assert repr(found) == "Resemblances(2 photos, 1 unlike anything it was trained on)"
    first = found[0].similar
    assert first is not None and first.ids[0] == train.ids[5]
    pixels = images_by_id(train, first.ids)
    assert {name: found.images[name].tolist() for name in pixels} == {
        name: image.tolist() for name, image in pixels.items()
    }
    shown = found._repr_html_()
    assert shown.count("<img") == 12 and strip_uri(train.pixels[5:6], 56) in shown
    assert "a&lt;b.png" in shown.replace("<wbr>", "") and "a<b" not in shown
    assert "<strong>unlike anything" in shown and "(p\u00a0=" in shown and "http" not in shown
    assert len(shown) < 200_000
    many = replace(
        found, ids=np.repeat(found.ids, 6), photos=np.repeat(found.photos, 6, axis=0),
        found=found.found * 6,
    )  # fmt: skip
    assert len(many._repr_html_()) < 200_000 and "and 2 more photos" in many._repr_html_()

    def gone(*_: object, **__: object) -> None:
        raise gh.DataError("gone")

    monkeypatch.setattr(found_by, "splits_of_run", gone)
    without = gh.find_similar(str(run), known)
    assert without.images == {} and without._repr_html_().count("<img") == 1
    assert first.ids[0] in without._repr_html_().replace("<wbr>", "")


def test_what_cannot_be_compared_is_refused_by_name(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run folder"):
        gh.find_similar(tmp_path, ["a.png"])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(BadImage, match=r"text\.png"):
        gh.find_similar(run, tmp_path / "text.png")
