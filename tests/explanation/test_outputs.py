"""Activations, mistakes, records on disk and the images of all of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glasshouse.data.images import ImageSet
from glasshouse.errors import DataError, StorageError, UsageError
from glasshouse.explanation.activations import Activations, activations, channel_grid
from glasshouse.explanation.draw.cells import draw_mistakes, to_png
from glasshouse.explanation.draw.sheet import draw_sheet
from glasshouse.explanation.draw.strip import draw_strip
from glasshouse.explanation.draw.tiles import draw_activations, draw_channel
from glasshouse.explanation.explain import explain, explain_page
from glasshouse.explanation.maps.class_maps import class_maps
from glasshouse.explanation.methods import ExplainSettings
from glasshouse.explanation.mistakes import (
    confused_pairs,
    explain_mistakes,
    strongly_confused,
    worst_mistakes,
)
from glasshouse.explanation.nouns import load_explanation, save_explanation, shown, weights_hash
from glasshouse.explanation.trust.checks import check_all, sheet_methods, telling_layers
from glasshouse.models.predict import Predictions, predict
from glasshouse.report.explanation_page import render_mistakes_page
from glasshouse.workflow.use.explain_files import ExplainRequest, as_json, explain_images
from tests.explanation.nets import (
    NAMES,
    activated_net,
    classifier_of,
    module_net,
    pooled_net,
    relative,
    some_images,
)

PNG = b"\x89PNG"


def some_image_set(count: int = 12) -> ImageSet:
    labels = np.arange(count, dtype=np.int64) % 5
    ids = np.array([f"p/{i}" for i in range(count)])
    return ImageSet(some_images(count), labels, ids, NAMES)


def test_activations_are_the_outputs_of_the_named_layers() -> None:
    classifier = classifier_of(module_net(inplace=True))
    first, last = activations(classifier, some_image_set(2).pixels, ["0", "8"])
    assert (first.values < 0).any() and first.values.shape == (2, 6, 14, 14)
    assert last.values.shape == (2, 5)
    with pytest.raises(UsageError, match="no layer '77'"):
        activations(classifier, some_image_set(2).pixels, ["77"])


def test_a_grid_keeps_every_channel_and_marks_the_dead() -> None:
    values = np.random.default_rng(0).random((1, 10, 4, 4))
    values[0, 3] = 0.5
    layer = Activations("conv", values)
    before = values.copy()
    grid = channel_grid(layer)
    assert grid.tiles.shape == (3, 4, 4, 4)
    assert np.isnan(grid.tiles[2, 2:]).all() and np.isfinite(grid.tiles[2, :2]).all()
    assert np.flatnonzero(grid.dead).tolist() == [3]
    np.testing.assert_array_equal(values, before)
    shared = channel_grid(layer, columns=5, shared_scale=True)
    np.testing.assert_allclose(shared.tiles[1, 2], (values[0, 7] - values.min()) / np.ptp(values))


def test_all_classes_at_once_equal_each_class_alone() -> None:
    classifier = classifier_of(pooled_net(), double=True)
    maps = class_maps(classifier, some_images(2))
    assert maps.shape == (2, 5, 12, 12)
    for k in range(5):
        (one,) = explain(classifier, some_images(2), methods=["grad-cam"], target_class=k)
        assert relative(maps[:, k], one.maps) < 1e-12
    with pytest.raises(UsageError, match=r"not linear \(.*Relu"):
        class_maps(classifier_of(module_net()), some_images(2))


def test_an_explanation_survives_the_disk(tmp_path: Path) -> None:
    classifier = classifier_of(module_net())
    found = explain(classifier, some_images(), methods=["guided", "grad-cam"])
    for explanation in check_all(classifier, found):
        path = save_explanation(explanation, tmp_path, classifier)
        again = load_explanation(path)
        np.testing.assert_array_equal(again.maps, explanation.maps)
        np.testing.assert_array_equal(shown(again), shown(explanation))
        assert (again.notes, again.checks) == (explanation.notes, explanation.checks)
        facts = json.loads(path.read_text())
        assert facts["weights_sha256"] == weights_hash(classifier)
        assert len(facts["image_sha256"]) == 3 and "torch" in facts["versions"]
    (tmp_path / "guided.maps.npy").write_bytes(b"no")
    with pytest.raises(StorageError, match="not a whole record"):
        load_explanation(tmp_path / "guided.json")


def test_the_hash_of_the_weights_changes_with_any_of_them() -> None:
    first, second = classifier_of(module_net()), classifier_of(module_net())
    assert weights_hash(first) == weights_hash(second)
    with torch.no_grad():
        next(second.net.parameters())[0, 0, 0, 0] += 1e-3
    assert weights_hash(first) != weights_hash(second)


def made_up_predictions() -> Predictions:
    labels = np.array([0, 0, 0, 1, 2], dtype=np.int64)
    logits = np.zeros((5, 3), dtype=np.float32)
    for row, (guess, strength) in enumerate([(0, 1), (1, 2), (1, 5), (0, 3), (2, 1)]):
        logits[row, guess] = strength
    return Predictions(logits, labels, np.array(list("abcde")), ("x", "y", "z"))


def test_mistakes_are_sorted_by_how_certain_they_were() -> None:
    assert worst_mistakes(made_up_predictions(), 2).tolist() == [2, 3]
    first, second = confused_pairs(made_up_predictions(), 5)
    assert (first.true, first.predicted, first.positions) == (0, 1, (2, 1))
    assert (second.true, second.predicted, second.positions) == (1, 0, (3,))


def test_every_strongly_confused_pair_is_shown_and_three_at_least() -> None:
    # Of 40 images a class a twentieth is two.
    labels = np.repeat(np.arange(6), 40)
    guesses = labels.copy()
    for start, places in {0: [1] * 12 + [2] * 3 + [3] * 2 + [4], 40: [0, 2]}.items():
        guesses[start : start + len(places)] = places
    logits = np.eye(6, dtype=np.float32)[guesses]
    predictions = Predictions(logits, labels, labels.astype(np.str_), tuple("abcdef"))
    found = [(pair.true, pair.predicted) for pair in strongly_confused(predictions)]
    assert found == [(0, 1), (0, 2), (0, 3)]
    guesses[80:90] = 5
    guesses[120:124] = 5
    strong = replace(predictions, logits=np.eye(6, dtype=np.float32)[guesses])
    found = [(pair.true, pair.predicted) for pair in strongly_confused(strong)]
    assert found == [(0, 1), (2, 5), (3, 5), (0, 2), (0, 3)]


def test_mistakes_are_explained_for_both_classes_and_their_difference() -> None:
    classifier, images = classifier_of(pooled_net(), double=True), some_image_set()
    predictions = predict(classifier_of(pooled_net()), images)
    found = explain_mistakes(classifier, images, predictions, count=3, pairs=1)
    assert len(found) == 2 and "taken for" in found[1].title
    worst = found[0]
    assert relative(worst.contrast.maps, worst.predicted.maps - worst.true.maps) < 1e-9
    page = render_mistakes_page(found)
    assert page.count("data:image/png;base64") == 2 and "http://" not in page
    assert worst._repr_png_().startswith(PNG)
    assert to_png(draw_mistakes(worst)).startswith(PNG)
    other = replace(predictions, ids=predictions.ids[::-1])
    with pytest.raises(DataError, match="the predictions of these images"):
        explain_mistakes(classifier, images, other)


@pytest.mark.filterwarnings("ignore::glasshouse.explanation.graph.relu_rules.ExplanationWarning")
def test_everything_draws_itself_and_equal_things_give_equal_bytes() -> None:
    classifier = classifier_of(module_net())
    settings = ExplainSettings(activation_layers=("1", "7"))
    page = explain_page(classifier, some_images(), settings=settings)
    explanation = page.explanations[3]
    assert explanation._repr_png_() == explanation._repr_png_()
    assert page._repr_png_().startswith(PNG)
    assert explanation._repr_html_().startswith('<img src="data:image/png')
    for layer in page.activations:
        assert layer._repr_png_().startswith(PNG)
    for figure in (
        draw_sheet(page),
        draw_channel(page.activations[0], 2),
        draw_activations(page.activations[0], most=4, shared_scale=True),
        draw_strip([("epoch 1", explanation), ("epoch 2", explanation)]),
    ):
        assert to_png(figure).startswith(PNG)


def test_rules_about_relus_are_left_out_where_there_are_none() -> None:
    smooth = classifier_of(activated_net(torch.nn.SiLU()))
    assert not {"guided", "relu", "guided-grad-cam"} & {*sheet_methods(smooth, some_images()[0])}
    classifier = classifier_of(module_net())
    assert "guided" in sheet_methods(classifier, some_images()[0])
    assert [info.name for info in telling_layers(classifier, some_images()[0])] == ["1", "3"]


@pytest.mark.filterwarnings("ignore::glasshouse.explanation.graph.relu_rules.ExplanationWarning")
def test_grad_cam_under_the_rules_is_on_the_sheet_where_it_is_another_map() -> None:
    rules = {"grad-cam-guided-rule", "grad-cam-relu-rule"}
    image = some_images()[0]
    dense = classifier_of(module_net())  # a ReLU between dense layers, behind the last map
    assert rules <= {*sheet_methods(dense, image)} and rules <= {*sheet_methods(dense, image, "0")}
    pooled = classifier_of(pooled_net())
    assert not rules & {*sheet_methods(pooled, image)}
    assert rules <= {*sheet_methods(pooled, image, "0")}
    (cam,) = explain(pooled, some_images(), methods=["grad-cam"])
    assert "under the guided and the relu rule is this very map" in " ".join(cam.notes)
    (cam,) = explain(dense, some_images(), methods=["grad-cam"])
    assert "this very map" not in " ".join(cam.notes)
    with pytest.raises(UsageError, match="Did you mean"):
        sheet_methods(dense, image, "00")


def test_an_image_gets_a_folder_with_its_sheet_and_records(tmp_path: Path) -> None:
    request = ExplainRequest(tmp_path, methods=("grad-cam", "activations"), class_name="ship")
    found = explain_images(
        classifier_of(module_net()), some_image_set(2).pixels, ["a.png", "b/a.png"], request
    )
    assert len({path.parent for each in found for path in each.files}) == 2
    names = {path.name for path in found[0].files}
    assert {"sheet.png", "activations-one-channel.png", "grad-cam.json"} <= names
    assert all(path.exists() for each in found for path in each.files)
    answer = json.loads(json.dumps(as_json(found[0])))
    assert answer["explained"] == "ship" and "faithfulness" in answer["maps"][0]["checks"]
    with pytest.raises(UsageError, match="Besides these: all, activations"):
        explain_images(
            classifier_of(module_net()),
            some_image_set(1).pixels,
            ["a.png"],
            replace(request, methods=("gradcam",)),
        )
