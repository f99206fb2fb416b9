"""From training with snapshots to sheets and the page of mistakes, with the real command."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glasshouse.data.shapes import make_shapes
from glasshouse.wording import percentage
from tests.journeys.command import glasshouse_here

TRAIN = [
    "train", "shapes", "--recipe", "small-cnn", "--out", "run", "--snapshots", "2",
    "--set", "train.epochs=1", "--set", "data.train_limit=200", "--set", "train.precision=fp32",
]  # fmt: skip

NAMES = make_shapes("train", 1).class_names
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("explain")
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "photo.png")
    (root / "words.png").write_text("not an image")
    return root


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    """A short run, trained once, in the folder that commands then work in."""
    monkeypatch.chdir(folder)
    if not (folder / "run").exists():
        code, _, errors = glasshouse_here(TRAIN, capsys)
        assert code == 0, errors
    return folder / "run"


def test_a_photo_gets_its_sheet_and_its_records(run: Path, folder: Path, capsys: Capture) -> None:
    arguments = ["explain", "run", "photo.png", "--method", "grad-cam", "--method", "guided"]
    code, output, errors = glasshouse_here([*arguments, "--out", "why", "--json"], capsys)
    assert code == 0, errors
    (answer,) = json.loads(output)
    assert [each["method"] for each in answer["maps"]] == ["grad-cam", "guided"]
    files = {Path(path).name: Path(path) for path in answer["files"]}
    with Image.open(files["sheet.png"]) as sheet:
        assert sheet.width > 300
    page = json.loads(files["page.json"].read_text(encoding="utf-8"))
    assert {"image_sha256", "weights_sha256", "versions"} <= set(page)
    assert page["weights_sha256"] and page["maps"] == answer["maps"]
    record = page["maps"][0]
    known = {"targets", "layer", "method", "rule"}
    assert known <= set(record) and None not in [record[key] for key in known]
    maps = np.load(files["grad-cam.maps.npy"], allow_pickle=False)
    assert maps.ndim == 3 and np.isfinite(maps).all()


def test_one_command_draws_the_activations(run: Path, folder: Path, capsys: Capture) -> None:
    arguments = ["explain", "run", "photo.png", "--method", "activations", "--channel", "3"]
    arguments += ["--tiles", "4", "--shared-scale", "--out", "channels"]
    code, output, errors = glasshouse_here(arguments, capsys)
    assert code == 0, errors
    first, others = output.splitlines()[-2:]
    assert Path(first.strip()).is_file()
    folder, names = Path(first.strip()).parent, others.strip().removeprefix("next to it: ")
    assert len(names.split(", ")) == 2 and all(
        (folder / name).is_file() for name in names.split(", ")
    )
    code, _, errors = glasshouse_here([*arguments, "--channel", "999"], capsys)
    assert code == 2 and "no channel 999" in errors


def test_folders_and_lists_are_explained_and_files_that_cannot_be_read_come_at_the_end(
    run: Path, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "many").mkdir(exist_ok=True)
    for name in ("many/a.png", "many/b.png"):
        (folder / name).write_bytes((folder / "photo.png").read_bytes())
    (folder / "many" / "words.png").write_text("not an image")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"photo.png\nnowhere.png\n")))
    start = ["explain", "run", "--method", "saliency", "--no-checks", "--out", "all", "--json"]
    code, output, errors = glasshouse_here([*start, "many", "many/?.png", "-"], capsys)
    assert code == 3
    names = ["many/a.png", "many/b.png", "many/a.png", "many/b.png", "photo.png"]
    assert [each["image"] for each in json.loads(output)] == names
    assert "words.png: not an image" in errors and "nowhere.png: the file does not" in errors


def test_each_map_has_a_line_and_an_explained_class_its_own_probability(
    run: Path, capsys: Capture
) -> None:
    arguments = ["explain", "run", "photo.png", "--method", "grad-cam", "--method", "guided"]
    _, output, _ = glasshouse_here([*arguments, "--out", "why", "--json"], capsys)
    answer = json.loads(output)[0]
    least = min(set(NAMES) - {answer["predicted"]})
    arguments += ["--out", "why-not", "--class", least]
    code, output, errors = glasshouse_here([*arguments, "--json"], capsys)
    assert code == 0, errors
    other = json.loads(output)[0]
    assert other["explained"] == least and other["explained_probability"] < other["probability"]
    _, output, _ = glasshouse_here(arguments, capsys)
    lines = [line.strip() for line in output.splitlines()]
    assert f"explained: {least} ({percentage(other['explained_probability'])})" in lines
    assert [line.split()[0] for line in lines if line.startswith(("grad-cam ", "guided "))] == [
        "grad-cam", "guided",
    ]  # fmt: skip


def test_layers_are_listed_without_an_image(run: Path, capsys: Capture) -> None:
    code, output, errors = glasshouse_here(["explain", "run", "--layers"], capsys)
    assert code == 0, errors
    assert output.splitlines()[0].split() == ["conv1", "6x32x32", "Conv2d"]


def test_the_mistakes_page_is_linked_from_the_report(run: Path, capsys: Capture) -> None:
    cost = (run / "cost.json").read_bytes()
    assert 'href="mistakes.html"' not in (run / "report.html").read_text(encoding="utf-8")
    code, output, errors = glasshouse_here(["explain", "run", "--errors"], capsys)
    assert code == 0, errors
    assert output.strip() == str(Path("run") / "mistakes.html")
    report = (run / "report.html").read_text(encoding="utf-8")
    page = (run / "mistakes.html").read_text(encoding="utf-8")
    assert "Worst mistakes on the validation split" in report
    assert 'href="mistakes.html"' in report and 'href="report.html"' in page
    assert "Explanation maps after each epoch" in report
    assert "The worst mistakes" in page and "predicted as" in page and "Pointing game" in page
    assert "http://" not in page and "https://" not in page
    assert (run / "cost.json").read_bytes() == cost


BAD = [
    (["run", "photo.png", "--class", "sqare"], 2, "Did you mean 'square'"),
    (["run", "photo.png", "--class", "12"], 2, "no class 12: expected 0 to 9"),
    (["run", "photo.png", "--layer", "cnov1", "--method", "grad-cam"], 2, "Did you mean 'conv1'"),
    (["run", "photo.png", "--layer", "dense1", "--method", "grad-cam"], 2, "rows and columns"),
    (["run", "photo.png", "--method", "gradcam"], 2, "Did you mean 'grad-cam'"),
    (["run", "words.png"], 3, "words.png"),
    (["run", "nowhere.png"], 3, "nowhere.png"),
    (["run"], 2, "at least one IMAGE"),
    (["rnu", "photo.png"], 2, "is not a run folder"),
    (["photo.png", "--errors"], 2, "not a run folder"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD)
def test_bad_input_is_named(
    run: Path, arguments: list[str], code: int, message: str, capsys: Capture
) -> None:
    received, output, errors = glasshouse_here(["explain", *arguments], capsys)
    assert received == code, errors
    assert message in errors
    assert output == ""


def test_snapshots_without_epochs_are_refused(run: Path, capsys: Capture) -> None:
    arguments = ["train", "shapes", "--recipe", "transfer-features", "--snapshots", "2"]
    code, _, errors = glasshouse_here([*arguments, "--out", "never"], capsys)
    assert code == 2 and "--snapshots needs epochs" in errors
    assert not Path("never").exists()
