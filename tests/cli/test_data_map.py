"""The command writes a map, its page and its part of the report, or says why it cannot."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.errors import ModelError
from glasshouse.evaluation.data_map import load_map
from glasshouse.models.classifier import load_classifier
from glasshouse.workflow.use import run_map
from glasshouse.workflow.use.map_groups import name_group, remove_group
from glasshouse.workflow.use.run_map import make_run_map
from tests.cli.test_groups import planted_photos
from tests.journeys.command import glasshouse_here
from tests.run_files import without_reports

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    from glasshouse.cli.main import app

    folder = tmp_path_factory.mktemp("map")
    photos = planted_photos(folder / "photos")
    arguments = ["--recipe", "small-cnn", "--epochs", "1", "--batch-size", "16"]
    arguments += ["--image-size", "8", "--out", str(folder / "run")]
    with without_reports():
        app(["train", str(photos), *arguments], standalone_mode=False)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, whose source is found again."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def test_the_map_is_written_named_and_shown_in_the_report(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    code, output, errors = glasshouse_here(["map", str(run)], capsys)
    assert code == 0, errors
    found = json.loads((run / "map.json").read_text(encoding="utf-8"))
    assert output.startswith(found["verdict"]) and found["images"] == 120
    assert found["splits"] == {"validation": 120} and found["layouts"] == ["pca", "tsne"]
    points = load_map(run / "map.safetensors")
    assert set(points.ids) == {
        f"val/{name}/{number:03d}.png" for name in ("red", "green") for number in range(60)
    }
    saved = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    assert list(points.class_names) == saved["class_names"]
    report = (run / "report.html").read_text(encoding="utf-8")
    assert 'href="map.html"' in report and "The map with mistakes marked." in report
    name_group(run, "  by  the sea ", points.ids[:9].tolist())
    monkeypatch.setattr(run_map, "refresh_report", Mock())  # once is enough
    code, document, _ = glasshouse_here(["map", str(run), "--json"], capsys)
    again = load_map(run / "map.safetensors")
    np.testing.assert_array_equal(again.tsne, points.tsne)
    (group,) = json.loads(document)["groups"]
    assert code == 0 and (group["name"], group["images"]) == ("by the sea", 9)
    assert "by the sea" in (run / "map.html").read_text(encoding="utf-8")
    remove_group(run, "by the sea")


@pytest.mark.slow
def test_splits_are_shown_together(run: Path, capsys: Capture) -> None:
    arguments = ["map", str(run), "--split", "train", "--split", "test", "--json"]
    code, document, errors = glasshouse_here(arguments, capsys)
    assert code == 0, errors
    assert json.loads(document)["splits"] == {"train": 80, "test": 20}
    assert "By split" in (run / "map.html").read_text(encoding="utf-8")


def test_what_cannot_be_shown_is_refused(run: Path, trained: Path, capsys: Capture) -> None:
    code, _, errors = glasshouse_here(["map", str(run), "--split", "all"], capsys)
    assert code == 2 and "expected a split of train, validation, test, received all" in errors
    (run / "evaluation.json").unlink()
    code, _, errors = glasshouse_here(["map", str(run), "--split", "test"], capsys)
    assert code == 2 and "has not used its test split yet" in errors
    (run / "map-groups.json").write_text('{"groups": [{"name": 3}]}', encoding="utf-8")
    (trained / "photos").rename(trained / "moved")
    code, _, errors = glasshouse_here(["map", str(run)], capsys)
    (trained / "moved").rename(trained / "photos")
    assert code in (2, 3) and "photos" in errors
    code, _, errors = glasshouse_here(["map", str(run)], capsys)
    assert code != 0 and "map-groups.json is damaged" in errors


class HeadInAProduct(nn.Module):
    """A network whose logits come from no layer: its convolution is taken for the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.weights = nn.Parameter(torch.ones(4, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images to logits."""
        found: torch.Tensor = self.first(images).mean((2, 3)) @ self.weights
        return found


def test_a_network_whose_last_layer_is_not_found_is_refused(run: Path) -> None:
    own = replace(load_classifier(run), net=HeadInAProduct())
    with pytest.raises(ModelError, match=r"that layer is not found: .*let a Linear layer return"):
        make_run_map(run, classifier=own)
