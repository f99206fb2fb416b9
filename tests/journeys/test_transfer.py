"""Pretrained networks on one's own images, from the command line."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from glasshouse.models.predict import load_predictions
from glasshouse.models.pretrained import build_net
from tests.conftest import make_images
from tests.journeys.command import glasshouse, glasshouse_here, start, wait_for_file

Capture = pytest.CaptureFixture[str]
FAST = ["--set", "train.precision=fp32", "--set", "train.device=cpu"]
NET = "resnet10t:weights=none,input_size=32"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images in each of four class folders; the test split takes two of each."""
    images = make_images(48, size=24)
    for row, label in enumerate(images.labels):
        path = tmp_path / "photos" / images.class_names[label] / f"{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Colours, which even an untrained network tells apart.
        colour = ((250, 30, 30), (30, 250, 30), (30, 30, 250), (250, 250, 30))[label]
        tint = Image.new("RGB", (24, 24), colour)
        noise = Image.fromarray(images.pixels[row].transpose(1, 2, 0))
        Image.blend(noise, tint, 0.5).save(path)
    return tmp_path / "photos"


def run(capsys: Capture, *arguments: object, code: int = 0) -> tuple[str, str]:
    got, output, errors = glasshouse_here([str(argument) for argument in arguments], capsys)
    assert got == code, errors
    return output, errors


def test_models_are_listed_with_parameters_size_and_licence(capsys: Capture) -> None:
    text, _ = run(capsys, "models", "resnet18*")
    assert re.search(r"^resnet18 +torchvision +11\.69 M +224x224 +not stated$", text, re.M)
    assert re.search(r"^resnet18d +timm +11\.71 M +\d+x\d+ +apache-2\.0$", text, re.M)
    cards = json.loads(run(capsys, "models", "resnet18d", "--json")[0])
    assert cards[0]["parameters"] == 11_708_744
    assert "use * as a wildcard" in run(capsys, "models", "nosuch*", code=2)[1]


def test_offline_a_missing_weights_file_and_its_place_are_named(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    arguments = ["train", "digits", "--backbone", "resnet18", "--offline", "--out", tmp_path / "r"]
    errors = run(capsys, *arguments, code=2)[1]
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in errors
    assert f"save it as {tmp_path}/hub/checkpoints/resnet18-f37072fd.pth" in errors


def test_weights_that_do_not_fit_are_named_by_their_keys(tmp_path: Path, capsys: Capture) -> None:
    state = build_net("resnet10t", 5, {}).state_dict()
    state["fc2.weight"] = state.pop("layer4.0.conv1.weight").clone()
    save_file(state, tmp_path / "w.safetensors")
    arguments = ["train", "digits", "--backbone", "resnet10t", "--out", tmp_path / "r"]
    errors = run(capsys, *arguments, "--weights", tmp_path / "w.safetensors", code=2)[1]
    assert "1 missing: layer4.0.conv1.weight" in errors
    assert "1 unexpected: fc2.weight" in errors


def test_ten_images_per_class_are_enough_for_a_report(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    common = ["train", photos, "--backbone", NET, *FAST, "--out", tmp_path / "run"]
    output, errors = run(capsys, *common, "--json")
    assert json.loads(output)["accuracy"]["value"] > 0.7
    assert "Only a new head was fitted" in errors
    assert "because the validation split is small" in errors
    assert "cross-validation loss" in errors
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Features of all images were extracted once" in page
    output, _ = run(capsys, "predict", tmp_path / "run", photos / "north-west" / "000.png")
    assert "north-west" in output


@pytest.mark.usefixtures("no_reports")
def test_a_run_and_pretrained_networks_are_compared_on_the_same_images(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    own = tmp_path / "own"
    small = ["--set", "data.image_size=24", "--set", "train.epochs=1", *FAST]
    run(capsys, "train", photos, "--recipe", "small-cnn", *small, "--out", own)
    nets = ["-b", NET, "-b", "resnet10t:weights=none,input_size=24"]
    page = tmp_path / "pairs.html"
    text, _ = run(capsys, "compare-backbones", photos, *nets, *FAST, "--run", own, "--out", page)
    rows = text.splitlines()
    assert rows[0].split("  ")[0] == "network"
    assert sum("95 % interval" in row or " to " in row for row in rows) >= 3
    assert len([row for row in rows if "own" in row and "images" in row]) >= 2
    assert "McNemar" in page.read_text()
    table = json.loads(run(capsys, "compare-backbones", photos, *nets, *FAST, "--json")[0])
    assert {row["input_size"] for row in table["backbones"]} == {24, 32}
    assert len(table["comparisons"]) == 1
    assert "needs --backbones" in run(capsys, "compare-backbones", photos, code=2)[1]


@pytest.mark.slow
def test_a_rare_class_is_learned_with_balanced_sampling(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    for image in sorted((photos / "south-west").iterdir())[4:]:
        image.unlink()
    small = ["--set", "data.image_size=24", "--set", "train.epochs=1", *FAST]
    own = ["train", photos, "--recipe", "small-cnn", *small]
    balanced = ["--set", "train.sampling=balanced"]
    run(capsys, *own, *balanced, "--out", tmp_path / "own")
    assert 'sampling = "balanced"' in (tmp_path / "own" / "recipe.toml").read_text()
    heads = ["--set", "transfer.heads=['logistic','mlp']", "--out", tmp_path / "features"]
    output, _ = run(capsys, "train", photos, "--backbone", NET, *FAST, *balanced, *heads, "--json")
    assert json.loads(output)["accuracy"]["value"] > 0.6
    twice = [*own, *balanced, "--set", "train.class_weights=balanced", "--out", tmp_path / "no"]
    assert "compensate for rare classes twice: choose one" in run(capsys, *twice, code=2)[1]


@pytest.mark.usefixtures("no_reports")
def test_skipped_files_are_named_when_only_a_head_is_fitted(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    (photos / "north-west" / "words.png").write_text("not an image")
    skip = ["--backbone", NET, *FAST, "--set", "data.on_bad_file=skip"]
    errors = run(capsys, "train", photos, *skip, "--out", tmp_path / "run")[1]
    assert "words.png: not an image" in errors
    errors = run(capsys, "folds", photos, *skip, "--folds", "2")[1]
    assert "words.png was skipped: not an image" in errors


def test_cross_validation_gives_an_accuracy_with_its_interval(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    common = ["folds", photos, "--backbone", NET, *FAST, "--folds", "3"]
    assert re.search(r"accuracy +[\d.]+ % \([\d.]+ to [\d.]+\)", run(capsys, *common)[0])
    out = tmp_path / "folds"
    facts = json.loads(run(capsys, *common, "--json", "--out", out)[0])
    assert json.loads((out / "evaluation.json").read_text(encoding="utf-8")) == facts
    kept = load_predictions(out / "predictions.safetensors")
    right = kept.logits.argmax(axis=1) == kept.labels
    assert float(right.mean()) == pytest.approx(facts["accuracy"]["value"])
    assert "is not empty" in run(capsys, *common, "--out", out, code=2)[1]
    assert facts["accuracy"]["low"] < facts["accuracy"]["value"] <= facts["accuracy"]["high"]
    assert len(facts["folds"]) == 3
    rows = facts["per_class"]
    assert len(rows) == 4 and sum(row["support"] for row in rows) == facts["images"]
    correct = sum(row["support"] * row["recall"]["value"] for row in rows)
    assert correct / facts["images"] == pytest.approx(facts["accuracy"]["value"])
    assert "fewer than the 30 folds" in run(capsys, *common[:-1], "30", code=3)[1]
    twice = ["--recipe", "transfer-head", "--set", "data.train_on_validation=true"]
    compare = ["compare-backbones", photos, "-b", NET, "-b", "resnet18"]
    for command in (common, ["label-errors", *common[1:]], compare):
        name = "compare-backbones" if command is compare else "folds"
        errors = run(capsys, *command, *twice, code=2)[1]
        assert f"data.train_on_validation: {name} needs held-out images" in errors
    assert (
        "expected a recipe with model.pretrained"
        in run(capsys, "folds", photos, "--recipe", "small-cnn", code=2)[1]
    )


def test_label_errors_are_shown_and_no_file_is_changed(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    (photos / "north-west" / "000.png").rename(photos / "south-east" / "wrong.png")
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(photos.rglob("*"))
              if p.is_file()}  # fmt: skip
    out = tmp_path / "doubts"
    common = ["label-errors", photos, "--backbone", NET, *FAST, "--out", out, "--folds", "3"]
    found = json.loads(run(capsys, *common, "--with-test", "--json")[0])
    assert found[0]["id"] == "south-east/wrong.png"
    assert (found[0]["label"], found[0]["suggested"]) == ("south-east", "north-west")
    assert "wrong.png" in (out / "label-errors.html").read_text()
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(photos.rglob("*"))
             if p.is_file()}  # fmt: skip
    assert before == after


@pytest.mark.slow
def test_a_killed_extraction_resumes_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    arguments = ["train", "shapes", "--backbone", NET, *FAST]
    cache, process = tmp_path / "cache", start(*arguments, "--out", "killed", cwd=tmp_path)
    wait_for_file(cache, "features/*/*/*.npy", process)
    assert process.poll() is None
    process.kill()
    process.communicate()
    glasshouse(*arguments, "--out", "killed", "--resume", cwd=tmp_path)
    cache.rename(tmp_path / "old-cache")
    glasshouse(*arguments, "--out", "whole", cwd=tmp_path)
    for name in ("model.safetensors", "predictions.safetensors"):
        ours, theirs = (tmp_path / run / name for run in ("killed", "whole"))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.slow
def test_the_resnet50_of_the_tutorial_is_fine_tuned_from_a_local_file(tmp_path: Path) -> None:
    state = build_net("resnet50", 1000, {}, seed=5).state_dict()
    save_file(state, tmp_path / "resnet50.safetensors")
    done = glasshouse(
        "train", "digits", "--recipe", "tutorial-resnet50", "--weights", "resnet50.safetensors",
        "--set", "train.epochs=1", "--set", "data.train_limit=256", *FAST, "--out", "run",
        "--offline", cwd=tmp_path,
    )  # fmt: skip
    assert "1000 -> 10 classes" in done.stderr
    assert "rainable: everything (23,528,522 of 23,528,522" in done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
