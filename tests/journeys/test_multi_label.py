"""Images with several labels, from a table to answers: what each command does, or refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from glasshouse.evaluation.multi_label import wrong_labels
from glasshouse.models.predict import load_predictions
from tests.journeys.command import glasshouse_here

TINY = ("--backbone", "resnet10t:weights=none,input_size=32", "--set", "train.device=cpu")
QUARTERS = {"north-west": (0, 0), "north-east": (0, 1), "south-east": (1, 1)}


def write_images(folder: Path, count: int = 120) -> Path:
    """Noise in which each label brightens a quarter, with a table that names the labels."""
    random = np.random.default_rng(0)
    lines = ["path,labels"]
    for number in range(count):
        own = [name for name in QUARTERS if random.random() < 0.4]
        pixels = random.integers(0, 100, (16, 16, 3), dtype=np.uint8)
        for name in own:
            row, column = (8 * place for place in QUARTERS[name])
            pixels[row : row + 8, column : column + 8] += np.uint8(120)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
        lines.append(f"{number:03d}.png,{'|'.join(own)}")
    table = folder / "images.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    return table


def test_several_labels_from_a_table_to_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))
    table, run = str(write_images(tmp_path)), str(tmp_path / "run")

    def done(*arguments: str) -> str:
        code, output, errors = glasshouse_here(list(arguments), capsys)
        assert code == 0, errors
        return output + errors

    changes = ("train.epochs=12", "data.image_size=16", "train.lr=3e-3", "augment.mixup=0.2",
               "augment.horizontal_flip=false", "augment.rotation_range=0")  # fmt: skip
    sets = [each for change in changes for each in ("--set", change)]
    said = done("train", table, "--recipe", "small-cnn", "--snapshots", "3", "--out", run, *sets)
    assert "test mean average precision" in said
    found = json.loads(done("evaluate", run, "--json"))
    assert found["mean_average_precision"]["value"] > 0.9
    assert found["unlabelled_count"] > 0
    assert "label" in done("evaluate", run)
    report = Path(run, "report.html").read_text(encoding="utf-8")
    for words in ("Metrics per label", "Why these labels", "mean average precision",
                  "The share of validation images with all labels right goes from",
                  "have that label with a probability of 50\u00a0% or more"):  # fmt: skip
        assert words in report
    # Nothing is wrong on the validation split, and the page of mistakes says so.
    assert done("explain", run, "--errors").strip() == str(Path(run, "mistakes.html"))
    page = Path(run, "mistakes.html").read_text(encoding="utf-8")
    assert "There are no misclassified images" in page
    assert "mistakes.html" in Path(run, "report.html").read_text(encoding="utf-8")
    facts = json.loads(Path(run, "environment.json").read_text(encoding="utf-8"))
    assert facts["data"]["several_labels"] is True
    model = json.loads(Path(run, "model.json").read_text(encoding="utf-8"))
    assert len(model["thresholds"]) == 3
    # An image with two labels, and what the classifier says about it.
    rows = [line.split(",") for line in Path(table).read_text().splitlines()[1:]]
    both = next(name for name, labels in rows if labels == "north-west|south-east")
    (answer,) = json.loads(done("predict", run, str(tmp_path / both), "--json"))
    assert {each["class"] for each in answer["labels"]} == {"north-west", "south-east"}
    assert all(0 <= each["probability"] <= 1 for each in answer["labels"])
    out = str(tmp_path / "explained")
    asked = ("explain", run, str(tmp_path / both), "--method", "saliency", "--out", out)
    maps = json.loads(done(*asked, "--similar", "--json"))
    assert {each["explained"] for each in maps} == {"north-west", "south-east"}
    # What the image resembles is said once, and not again for each of its labels.
    assert [len(each.get("similar", ())) for each in maps] == [5, 0]
    assert done(*asked, "--similar").count("\n  resembles ") == 5
    assert len({file for each in maps for file in each["files"]}) == 2 * len(maps[0]["files"])


@pytest.mark.slow
def test_backbones_and_steps_are_compared_by_their_mean_average_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))
    table, page = str(write_images(tmp_path)), tmp_path / "page.html"
    nets = ["-b", "resnet10t:weights=none,input_size=32", "-b", "test_resnet:weights=none"]
    common = ["compare-backbones", table, *nets, "--set", "train.device=cpu"]
    code, output, errors = glasshouse_here([*common, "--out", str(page), "--json"], capsys)
    assert code == 0, errors
    assert "mean average precision" in page.read_text() and "accuracy" not in page.read_text()
    found = json.loads(output)
    assert found["metric"] == "mean average precision"
    (pair,) = found["comparisons"]
    by_name = {row["name"]: row["score"]["value"] for row in found["backbones"]}
    gain = by_name[pair["second"]] - by_name[pair["first"]]
    assert pair["difference"]["value"] == pytest.approx(gain) and 0 <= pair["p"] <= 1
    out = tmp_path / "ladder"
    arguments = ["ladder", table, "--epochs", "1", "--seeds", "1", "--image-size", "16",
                 "--set", "train.device=cpu", "--out", str(out)]  # fmt: skip
    code, output, errors = glasshouse_here(arguments, capsys)
    assert code == 0, errors
    assert "test mean average precision, 95 % interval" in output and "accuracy" not in output
    first = json.loads((out / "ladder.json").read_text())["rows"][0]
    run = load_predictions(out / "1-no-augmentation" / "seed-0" / "predictions.safetensors")
    expected = average_precision_score(run.label_matrix, run.logits)
    assert first["score"]["value"] == pytest.approx(expected)
    assert "accuracy" not in (out / "ladder.html").read_text()


@pytest.mark.slow
def test_several_seeds_are_listed_and_summed_up_by_their_mean_average_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))
    table, out = str(write_images(tmp_path)), tmp_path / "out"
    small = ["--recipe", "small-cnn", "--epochs", "1", "--image-size", "16"]
    code, output, errors = glasshouse_here(
        ["train", table, *small, "--seeds", "2", "--out", str(out)], capsys
    )
    assert code == 0, errors
    scores = [
        json.loads((out / f"seed-{n}" / "evaluation.json").read_text())["mean_average_precision"]
        for n in (0, 1)
    ]
    mean = sum(score["value"] for score in scores) / 2
    assert (
        f"mean average precision, mean of 2 seeds: {mean:.3f} (" in output
        and "accuracy" not in output
    )
    summary = json.loads((out / "seeds.json").read_text())
    assert summary["metric"] == "mean average precision"
    assert summary["score"] == pytest.approx(mean)
    _, listed, _ = glasshouse_here(["runs", str(out)], capsys)
    assert "test mean average precision, 95 % interval" in listed and "accuracy" not in listed
    assert all(f"{score['value']:.3f} ({score['low']:.3f} to" in listed for score in scores)
    rows = json.loads(glasshouse_here(["runs", str(out), "--json"], capsys)[1])
    assert {row["value"] for row in rows} == {score["value"] for score in scores}
    # The worst mistakes of one are those of its validation split, with maps.
    run = out / "seed-0"
    code, said, errors = glasshouse_here(["explain", str(run), "--errors"], capsys)
    assert (code, said.strip()) == (0, str(run / "mistakes.html")), errors
    wrong = wrong_labels(load_predictions(run / "validation-predictions.safetensors"))
    page = (run / "mistakes.html").read_text(encoding="utf-8")
    what = "missed" if wrong[0].is_missed else "wrongly marked"
    assert f"→ {wrong[0].label} {what}, {wrong[0].probability:.0%}".replace("%", "") in page
    assert f"Why {wrong[0].label}" in page and wrong[0].id in page
    both = ["compare", str(out / "seed-0"), str(out / "seed-1")]
    code, said, errors = glasshouse_here([*both, "--out", str(out / "page.html")], capsys)
    assert code == 0 and "mean average precision, 95 % interval" in said, errors
    (pair,) = json.loads(glasshouse_here([*both, "--json"], capsys)[1])
    gain = scores[1]["value"] - scores[0]["value"]
    assert pair["difference"]["value"] == pytest.approx(gain)
    assert f"{gain:+.3f}" in said and said.startswith(pair["verdict"])
    page = (out / "page.html").read_text(encoding="utf-8")
    shown = pair["only_first_right"] + pair["only_second_right"] + pair["both_wrong"]
    assert shown and all(f'alt="{each["id"]}' in page for each in shown[:3])


@pytest.mark.slow
def test_folds_give_the_mean_average_precision_of_scikit_learn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))
    table, out = str(write_images(tmp_path, 60)), tmp_path / "out"
    code, output, errors = glasshouse_here(
        ["folds", table, "--backbone", "resnet18", "--set", "model.pretrained.weights=none",
         "--set", "data.image_size=32", "--folds", "3",
         "--out", str(out), "--json"],
        capsys,
    )  # fmt: skip
    assert code == 0, errors
    found, held_out = json.loads(output), load_predictions(out / "predictions.safetensors")
    oracle = average_precision_score(held_out.label_matrix, held_out.probabilities, average="macro")
    assert found["mean_average_precision"]["value"] == pytest.approx(oracle)
    assert len(found["folds"]) == 3 and "accuracy" not in found
    assert [row["name"] for row in found["per_label"]] == sorted(QUARTERS)


def test_settings_that_balance_classes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("sampling", "class_weights"):
        arguments = ["train", "shapes-multi", "--out", str(tmp_path / key)]
        chosen = ["--set", f"train.{key}=balanced", "--set", "data.train_limit=20"]
        code, _, errors = glasshouse_here([*arguments, *chosen], capsys)
        assert code == 2
        assert f"train.{key} = 'balanced' needs one label per image" in errors


def test_wrong_labels_of_several_are_found_out_of_fold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))
    table, out = write_images(tmp_path), tmp_path / "out"
    lines = table.read_text().splitlines()
    # An image that shows all, of which the table says none.
    shown = max(range(1, len(lines)), key=lambda row: lines[row].count("|"))
    lines[shown] = lines[shown].split(",")[0] + ","
    table.write_text("\n".join(lines))
    arguments = ["label-errors", table, *TINY, "--with-test", "--out", out, "--json"]
    code, output, errors = glasshouse_here(list(map(str, arguments)), capsys)
    assert code == 0, errors
    found = json.loads(output)
    assert found == json.loads((out / "candidates.json").read_text())
    wrong = [each for each in found[:10] if each["id"] == lines[shown].split(",")[0]]
    assert len(wrong) >= 2 and not any(each["is_given"] for each in wrong)
    page = (out / "label-errors.html").read_text()
    assert f"not {wrong[0]['label']}" in page and wrong[0]["id"] in page


@pytest.mark.slow
def test_a_search_maximises_the_mean_average_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))
    table, out = write_images(tmp_path), tmp_path / "out"
    changes = ["train.epochs=2", "data.image_size=16", "train.precision=fp32", "train.device=cpu"]
    sets = [each for change in changes for each in ("--set", change)]
    arguments = ["tune", str(table), "--recipe", "small-cnn", *sets, "--search",
                 "train.lr=1e-5..1e-2:log", "--trials", "3", "--out", str(out)]  # fmt: skip
    code, output, errors = glasshouse_here(arguments, capsys)
    assert code == 0, errors
    trials = json.loads((out / "trials.json").read_text())["trials"]
    assert [each["metric"] for each in trials] == ["mean average precision"] * 3
    best = max(trials, key=lambda each: each["value"])
    assert f"validation mean average precision {best['value']:.3f}" in output
    assert "accuracy" not in output and "%" not in errors
    assert f"mean average precision {best['value']:.3f}" in (out / "best.toml").read_text()
    # A run with this recipe has the same predictions, which scikit-learn measures.
    run = tmp_path / "run"
    recipe = ["--recipe", str(out / "best.toml"), "--out", str(run)]
    code, _, errors = glasshouse_here(["train", str(table), *recipe], capsys)
    assert code == 0, errors
    found = load_predictions(run / "validation-predictions.safetensors")
    expected = average_precision_score(found.label_matrix, found.logits)
    assert best["value"] == pytest.approx(expected, abs=1e-12)
