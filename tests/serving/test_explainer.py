"""What the page Explain relies on: cached models, uploaded images, kept results, their files."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nicegui.testing import User
from PIL import Image

from glasshouse.errors import BadImage, ModelError, UsageError
from glasshouse.explanation.draw.overlay import colour_scale
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.models import known_names
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import load_predictions, predict_logits
from glasshouse.models.pretrained import build_net, names_at_hand
from glasshouse.serving.explainer import Explainer, photo_of
from glasshouse.serving.map_images import activation_file, map_file
from glasshouse.serving.photos import Photo, read_photo
from glasshouse.serving.run_cache import classifier_of
from glasshouse.serving.workbench import Workbench
from glasshouse.storage import tensors_to_bytes, write_bytes
from glasshouse.workflow.train.kept_epochs import weights_of_epoch
from glasshouse.workflow.use.model_choices import (
    ModelChoice,
    classifier_of_choice,
    epochs_of_choice,
    model_names,
    run_of_choice,
)
from tests.serving.conftest import visit
from tests.serving.runs import trained_run

RUN = ModelChoice("sweep/digits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory.mktemp("runs") / "sweep" / "digits").parents[1]


@pytest.fixture
def explainer(folder: Path) -> Explainer:
    return Explainer(Workbench(folder, offline=True))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def logits_of(classifier: Classifier, images: np.ndarray) -> torch.Tensor:
    return predict_logits(classifier.net, classifier.preprocessing, images)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_runs_and_their_kept_epochs_can_be_chosen(folder: Path) -> None:
    assert model_names(folder)[0] == "sweep/digits"
    assert model_names(folder)[1:] == known_names.bundled_names()
    assert epochs_of_choice(folder, RUN) == [1, 2]
    first, second, final = (
        classifier_of_choice(folder, ModelChoice(RUN.name, epoch)) for epoch in (1, 2, None)
    )
    for classifier, epoch in ((first, 1), (second, 2)):
        for name, values in weights_of_epoch(folder / RUN.name, epoch).items():
            assert torch.equal(classifier.net.state_dict()[name], values)
    weights = [dict(c.net.named_parameters()) for c in (first, second, final)]
    assert all(torch.equal(weights[1][name], weights[2][name]) for name in weights[1])
    assert not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    with pytest.raises(UsageError, match=r"epoch 7 of sweep/digits is not kept. .*keep_every=1"):
        classifier_of_choice(folder, ModelChoice(RUN.name, 7))


def test_half_precision_weights_of_an_epoch_answer_as_the_whole_ones(
    folder: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(folder / RUN.name, tmp_path / "digits")
    whole = weights_of_epoch(run, 1)
    shutil.rmtree(run / "checkpoint")
    halved = {n: v.half() if v.dim() > 1 else v for n, v in whole.items()}
    write_bytes(run / "epochs" / "00001.safetensors", tensors_to_bytes(halved))
    images = Explainer(Workbench(folder, offline=True)).test_images(RUN).pixels[:50]
    few, all_bits = (
        logits_of(classifier_of_choice(parent, choice), images)
        for parent, choice in (
            (tmp_path, ModelChoice("digits", 1)),
            (folder, ModelChoice(RUN.name, 1)),
        )
    )
    assert epochs_of_choice(tmp_path, ModelChoice("digits")) == [1]
    assert 0 < (few - all_bits).abs().max() < 0.02


def test_a_net_of_the_zoo_comes_with_the_weights_that_are_given(
    folder: Path, tmp_path: Path
) -> None:
    state = build_net("test_resnet", 7, {}, seed=5).state_dict()
    file = tmp_path / "weights.safetensors"
    write_bytes(file, tensors_to_bytes(state))
    choice = ModelChoice("test_resnet:input_size=64", weights=file)
    classifier = classifier_of_choice(folder, choice)
    assert torch.equal(classifier.net.state_dict()["fc.weight"], state["fc.weight"])
    assert str(choice) == "test_resnet:input_size=64 (weights.safetensors)"
    explainer = Explainer(Workbench(folder))
    answer = explainer.explain(choice, Photo("x.png", noise(90, 70)))
    assert answer.page.images.shape == (1, 3, 64, 64)
    assert explainer.image_model([choice, RUN]) == RUN
    assert explainer.image_model([choice]) == choice


def test_weights_that_are_not_on_this_machine_are_never_fetched(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "resnet18" not in names_at_hand()
    with pytest.raises(ModelError, match="resnet18 are not on this machine"):
        classifier_of_choice(folder, ModelChoice("resnet18"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth").touch()
    assert "resnet18" in names_at_hand()


@pytest.mark.parametrize("name", ["../runs/sweep/digits", "/etc", "sweep", "", "..", ".", "a\0b"])
def test_only_runs_below_the_folder_are_ever_loaded(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert run_of_choice(folder, ModelChoice(name)) is None
    with pytest.raises(UsageError, match="is not a run folder"):
        classifier_of_choice(folder, ModelChoice(name))


def test_an_answer_is_the_one_that_was_measured(explainer: Explainer, folder: Path) -> None:
    images = explainer.test_images(RUN)
    measured = load_predictions(folder / "sweep" / "digits" / "predictions.safetensors")
    assert images.ids.tolist() == measured.ids.tolist()
    answer = explainer.explain(RUN, photo_of(images, 7))
    np.testing.assert_allclose(answer.page.logits[0], measured.logits[7], atol=1e-4)
    assert answer.photo.class_name == images.class_names[measured.labels[7]]
    assert explainer.explain(RUN, photo_of(images, 7)).classifier is answer.classifier


def test_all_pages_share_one_classifier_of_a_run(explainer: Explainer, folder: Path) -> None:
    found = explainer.classifier(RUN)
    assert classifier_of(folder / RUN.name) is found
    elsewhere = Explainer(Workbench(folder / "sweep", offline=True))
    assert elsewhere.classifier(ModelChoice("digits")) is found
    assert explainer.classifier(ModelChoice(RUN.name, 1)) is not found


def test_a_class_can_be_chosen_and_an_unknown_one_is_named(explainer: Explainer) -> None:
    photo = Photo("x.png", noise(40, 60))
    answer = explainer.explain(RUN, photo, "3")
    assert {int(e.targets[0]) for e in answer.page.explanations} == {3}
    with pytest.raises(UsageError, match="no class 'cat'"):
        explainer.explain(RUN, photo, "cat")


def test_checks_come_later_under_the_same_key(explainer: Explainer) -> None:
    answer = explainer.explain(RUN, Photo("x.png", noise(40, 60)))
    assert not answer.page.explanations[0].checks
    checked = explainer.checked(answer.key)
    assert checked is not None
    assert all(explanation.checks for explanation in checked.page.explanations)
    assert explainer.answer(answer.key) is checked
    assert explainer.checked("0") is None


def test_slow_maps_are_added_on_request(explainer: Explainer) -> None:
    answer = explainer.explain(RUN, Photo("x.png", noise(40, 60)), "3")
    before = [e.method for e in answer.page.explanations]
    for _ in range(2):
        more = explainer.with_more(answer.key)
        assert more is not None
        methods = [e.method for e in more.page.explanations]
        assert methods == [*before, "smoothgrad", "integrated-gradients", "occlusion"]
        assert {int(e.targets[0]) for e in more.page.explanations} == {3}
        assert all(e.checks for e in more.page.explanations[-3:])
    assert explainer.with_more("0") is None


def test_the_oldest_results_are_dropped_first(explainer: Explainer) -> None:
    photo = Photo("x.png", noise(8, 8))
    keys = [explainer.explain(RUN, photo).key for _ in range(26)]
    assert [explainer.answer(key) is None for key in keys[:3]] == [True, True, False]


def test_the_photo_is_shown_with_the_nets_own_field_of_view(explainer: Explainer) -> None:
    large = explainer.explain(RUN, Photo("x.png", noise(900, 1200)))
    small = explainer.explain(RUN, Photo("x.png", noise(8, 8)))
    for answer in (large, small):
        assert answer.shown.shape == (448, 448, 3)
    np.testing.assert_array_equal(small.shown[::56, ::56], small.page.images[0].transpose(1, 2, 0))


def test_an_uploaded_file_is_read_in_a_separate_process(tmp_path: Path) -> None:
    pixels = noise(20, 30)
    photo = read_photo(png(pixels), "<b>mine</b>.png")
    np.testing.assert_array_equal(photo.pixels, pixels)
    assert photo.name == "<b>mine</b>.png"
    for data in (b"", b"no image", png(pixels)[:200], b"<svg onload=alert(1)>"):
        with pytest.raises(BadImage, match="mine"):
            read_photo(data, "mine.png")


def test_layers_run_from_the_first_to_the_last_with_a_map(explainer: Explainer) -> None:
    found = explainer.explain(RUN, Photo("x.png", noise(40, 60))).page.activations
    names = [each.layer for each in found]
    assert names == sorted(names)
    assert all(each.values.ndim == 4 and min(each.values.shape[2:]) > 1 for each in found)
    assert 2 <= len(found) <= 12


def test_maps_are_coloured_by_what_they_are(explainer: Explainer) -> None:
    answer = explainer.explain(RUN, Photo("x.png", noise(40, 60)))
    place = [e.method for e in answer.page.explanations].index("grad-cam")
    explanation = answer.page.explanations[place]
    assert not colour_scale(explanation, shown(explanation)[0], "jet").is_signed
    drawn = np.asarray(Image.open(io.BytesIO(map_file(answer, place, "inferno"))))
    assert drawn.shape == (*answer.shown.shape[:2], 4)
    other = np.asarray(Image.open(io.BytesIO(map_file(answer, place, "viridis"))))
    assert not np.array_equal(drawn, other)
    strongest = np.unravel_index(explanation.maps[0].argmax(), explanation.maps[0].shape)
    cell = 448 // explanation.maps.shape[1]
    row, column = (int(k) * cell + cell // 2 for k in strongest)
    assert drawn[row, column].sum() > 0.8 * drawn.reshape(-1, 4).sum(1).max()
    assert not drawn[shown(explanation, drawn.shape[:2])[0] == 0, 3].any()


def test_activations_are_drawn_with_one_tile_per_channel(explainer: Explainer) -> None:
    answer = explainer.explain(RUN, Photo("x.png", noise(40, 60)))
    layer = answer.page.activations[0]
    drawn = Image.open(io.BytesIO(activation_file(layer)))
    assert drawn.mode == "RGBA"
    opaque = (np.asarray(drawn)[..., 3] == 255).any(axis=0).astype(int)
    columns = int(np.ceil(np.sqrt(layer.values.shape[1])))
    assert (np.diff(opaque, prepend=0) == 1).sum() == columns


def test_files_are_reached_by_key_and_number_alone(folder: Path) -> None:
    from glasshouse.serving.explainer import explainer_of

    workbench = Workbench(folder, offline=True)

    async def story(user: User) -> None:
        answer = explainer_of(workbench).explain(RUN, Photo("x.png", noise(40, 60)))
        base, get = f"/explain/answers/{answer.key}", user.http_client.get
        for name in ("photo", "map/0?colours=jet", "layer/0", "sheet", "overlay/0", "grey"):
            found = await get(f"{base}/{name}")
            assert found.status_code == 200, name
            assert Image.open(io.BytesIO(found.content)).format == "PNG"
        raw = await get(f"{base}/array/3")
        values = np.load(io.BytesIO(raw.content), allow_pickle=False)
        np.testing.assert_array_equal(values, answer.page.explanations[3].maps[0])
        assert raw.headers["content-disposition"] == 'attachment; filename="grad-cam.npy"'
        for name in ("map/99", "array/99", "array/-1", "layer/99", "secret", "secret/1"):
            assert (await get(f"{base}/{name}")).status_code == 404, name
        assert (await get(f"{base}/map/x")).status_code == 422
        for path in (
            "/explain/answers/0/photo",
            "/explain/answers/..%2F..%2Fx/photo",
            f"{base}/../../../etc/passwd",
        ):
            assert (await get(path)).status_code == 404, path

    visit(workbench, story)


def test_the_page_says_what_to_do_with_and_without_models(
    workbench: Workbench, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def without(user: User) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(known_names, "ASSETS", tmp_path / "none")
            await user.open("/explain")
            await user.should_see("No model to explain yet")

    async def with_models(user: User) -> None:
        await user.open("/explain")
        await user.should_see("Drop a photo or choose a test image")
        await user.should_see("Its worst mistakes")

    visit(workbench, without)
    visit(Workbench(folder, offline=True), with_models)


def test_a_test_image_can_be_linked_to(folder: Path) -> None:
    workbench = Workbench(folder, offline=True)
    name = load_predictions(folder / "sweep" / "digits" / "predictions.safetensors").ids[4]

    async def story(user: User) -> None:
        await user.open(f"/explain?model=sweep/digits&image={name}")
        await user.should_see("Grad-CAM")
        await user.should_see(f"{name}, labelled")

    visit(workbench, story)
