"""Whatever holds the same image gives the same answer, and what is no image says what to pass."""

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import glasshouse as gh
from glasshouse.data.decode import MAX_PIXELS, decode_opened
from glasshouse.errors import GlasshouseWarning
from glasshouse.models.image_inputs import of_network_size, require_network_size
from tests.journeys.command import glasshouse_here

CLASSIFIER = "cifar10-small"


@pytest.fixture(scope="module")
def classifier() -> gh.Classifier:
    return gh.classifier_by_name(CLASSIFIER)


def save(kind: str, folder: Path) -> Path:
    """A file of each kind that a careless reader gets wrong."""
    random = np.random.default_rng(0)
    smooth = random.integers(0, 255, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(smooth).resize((70, 50), Image.Resampling.BICUBIC)
    path = folder / f"{kind}.png"
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    elif kind == "transparent":
        image.putalpha(image.convert("L"))
        image.save(path)
    elif kind == "grey":
        image.convert("L").save(path)
    elif kind == "deep":
        Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16)) * 250).save(path)
    elif kind == "palette":
        image.convert("P").save(path)
    else:
        image.save(path := folder / "photo.jpg")
    return path


@pytest.mark.parametrize("kind", ["photo", "turned", "transparent", "grey", "deep", "palette"])
@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
def test_a_path_a_pillow_image_and_an_array_are_the_same_image(
    kind: str, resize: Any, tmp_path: Path, classifier: gh.Classifier
) -> None:
    path = save(kind, tmp_path)
    own = replace(classifier.preprocessing, resize=resize, crop_fraction=0.875)
    cropped = replace(classifier, preprocessing=own)
    expected = gh.read_images(path, cropped)
    assert expected.shape == (1, 3, 32, 32)
    with Image.open(path) as opened:
        before = opened.size
        given: list[Any] = [str(path), opened, gh.decode(path)]
        assert all((gh.read_images(each, cropped) == expected).all() for each in given)
        assert (gh.read_images(given, cropped) == expected).all()
        assert opened.size == before
    assert (gh.read_images([expected[0]], cropped) == expected).all()
    assert (gh.read_images(expected, cropped) == expected).all()


def test_grey_transparent_and_several_arrays_are_what_pillow_makes_of_them(
    tmp_path: Path, classifier: gh.Classifier
) -> None:
    with Image.open(save("transparent", tmp_path)) as opened:
        expected = gh.read_images(opened, classifier)
        assert (gh.read_images(np.asarray(opened), classifier) == expected).all()
    with Image.open(save("grey", tmp_path)) as opened:
        grey = np.asarray(opened)
        expected = gh.read_images(opened, classifier)
    for array in (grey, grey[:, :, None], np.stack([grey] * 3, axis=2)):
        assert (gh.read_images(array, classifier) == expected).all()
    batch = np.stack([np.stack([grey] * 3, axis=2)] * 2)
    assert (gh.read_images(batch, classifier) == expected).all()


@pytest.mark.filterwarnings("ignore::glasshouse.explanation.explain.ExplanationWarning")
@pytest.mark.parametrize("kind", ["photo", "turned", "transparent"])
def test_python_answers_as_the_command_line_does(
    kind: str, tmp_path: Path, classifier: gh.Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(kind, tmp_path)
    _, output, _ = glasshouse_here(["predict", CLASSIFIER, str(path), "--json"], capsys)
    predictions = classifier.predict(path)
    answer = json.loads(output)[0]["top"]
    assert answer[0]["class"] == predictions.names[0]
    shares = sorted(predictions.probabilities[0], reverse=True)
    assert [each["probability"] for each in answer] == [round(float(s), 6) for s in shares[:5]]
    out = ["--out", str(tmp_path / "why"), "--json"]
    arguments = ["explain", CLASSIFIER, str(path), "--method", "saliency", "--method", "grad-cam"]
    code, output, errors = glasshouse_here([*arguments, *out], capsys)
    assert code == 0, errors
    files = {Path(name).name: name for name in json.loads(output)[0]["files"]}
    for found in gh.explain(classifier, path, methods=["saliency", "grad-cam"]):
        stored = np.load(files[f"{found.method}.maps.npy"], allow_pickle=False)
        np.testing.assert_allclose(found.maps.astype(stored.dtype), stored, rtol=1e-4, atol=1e-6)


def test_predictions_of_files_have_names_and_no_labels(
    tmp_path: Path, classifier: gh.Classifier
) -> None:
    path = save("photo", tmp_path)
    predictions = classifier.predict([path, Image.new("RGB", (40, 40))])
    assert predictions.ids.tolist() == [str(path), "image 1"]
    assert predictions.labels.tolist() == [-1, -1]
    assert predictions.probabilities.shape == (2, 10)
    assert predictions.names[0] in classifier.class_names
    first = repr(predictions).splitlines()[1]
    assert first.startswith(f"  {path}: {predictions.names[0]} ") and first.count("%") == 3
    assert len(set(classifier.predict([path, path]).ids)) == 2
    with pytest.raises(gh.DataError, match="no label"):
        gh.evaluate(predictions)


def test_a_set_keeps_its_labels_and_ids(classifier: gh.Classifier) -> None:
    images = gh.take(gh.load_splits("shapes", gh.DataSettings(image_size=32)).test, range(4))
    own = replace(images, class_names=classifier.class_names)
    predictions = classifier.predict(own)
    assert predictions.labels is own.labels and predictions.ids is own.ids
    assert predictions.logits.tobytes() == gh.predict(classifier, own).logits.tobytes()
    assert (gh.classify(classifier, own) == predictions.probabilities).all()
    with pytest.raises(gh.DataError, match="the classifier was trained for airplane"):
        classifier.predict(images)


WRONG: list[tuple[Any, str]] = [
    ("nowhere.jpg", "nowhere.jpg: the file does not exist"),
    ("https://example.org/cat.jpg", "a web address: download the image"),
    (".", "a folder; pass its files, or load it with load_splits"),
    ([], "received none"),
    (None, "expected the path of an image file.* received None$"),
    ([1, 2], "expected the path of an image file.* received the int 1$"),
    (b"\xff\xd8", r"received bytes \(an encoded image is opened with PIL"),
    (np.full((4, 5, 3), np.nan), "with values that are infinite or not numbers; replace them"),
    (torch.zeros(3, 32, 32), r"received a Tensor \(as uint8 \(n, 3, height, width\), its"),
    (np.zeros((32, 32, 3), np.float32), r"values 0 to 1 become 0 to 255 with \(255 \* image\)"),
    (np.full((32, 32, 3), 9.0), r"received float64 \(32, 32, 3\); its values fit: use image.round"),
    (np.linspace(-1, 1, 3072).reshape(32, 32, 3), "values -1 to 1; undo the normalisation or"),
    (np.ones((32, 32, 3), bool), r"use 255 \* image.astype\('uint8'\)"),
    (np.zeros((40, 32, 2), np.uint8), r"\(height, width, 3\).* received uint8 \(40, 32, 2\)"),
    (np.zeros((3, 40, 40), np.uint8), r"one RGB image as image.transpose\(1, 2, 0\), three grey"),
    ([np.zeros((3, 40, 40), np.uint8)], "the images are 40x40, but the classifier takes 32x32"),
    (np.zeros((2, 3, 40, 40), np.uint8), r"are 40x40.* DataSettings\(image_size=32\)"),
    (np.zeros((0, 3, 32, 32), np.uint8), "received none"),
    (np.zeros((0, 8, 3), np.uint8), r"received uint8 \(0, 8, 3\)"),
    (np.zeros(9, np.uint8), r"received uint8 \(9,\)"),
]


@pytest.mark.parametrize(("thing", "words"), WRONG, ids=[words[:30] for _, words in WRONG])
def test_what_is_no_image_says_what_to_pass(
    thing: Any, words: str, classifier: gh.Classifier
) -> None:
    with pytest.raises(gh.DataError, match=words):
        classifier.predict(thing)
    with pytest.raises(gh.DataError, match=words):
        gh.explain(classifier, thing)


def test_the_advice_on_a_size_is_one_that_can_be_followed() -> None:
    images = gh.ImageSet.from_arrays(np.zeros((2, 8, 8), np.uint8), [0, 1])
    for size, advice in (((16, 16), r"DataSettings\(image_size=16\)"), ((16, 20), "to 16x20")):
        with pytest.raises(gh.DataError, match=f"are 8x8, but the classifier takes .*{advice}"):
            of_network_size(images.pixels, gh.Preprocessing(*size))
        with pytest.raises(gh.DataError, match=f"are 8x8, but the classifier takes .*{advice}"):
            require_network_size(images, gh.Preprocessing(*size))
    require_network_size(gh.take(images, []), gh.Preprocessing(16, 16))
    require_network_size(images, gh.Preprocessing(8, 8))


@pytest.mark.parametrize("size", [(32, 36), (40, 36)])
def test_three_axes_of_which_the_first_has_three_are_read_as_the_message_says(
    size: tuple[int, int], classifier: gh.Classifier
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, *size), dtype=np.uint8)
    with pytest.raises(gh.DataError) as refused:
        classifier.predict(image)
    alone, grey = re.findall(r"(?:image|ones) as (.*?)(?:, three|$)", str(refused.value))
    one, three = (eval(text, {"image": image, "np": np}) for text in (alone, grey))
    expected = gh.read_images(Image.fromarray(image.transpose(1, 2, 0)), classifier)
    assert (gh.read_images(one, classifier) == expected).all()
    expected = gh.read_images([Image.fromarray(each) for each in image], classifier)
    assert (gh.read_images(three, classifier) == expected).all()
    assert (gh.read_images(list(image), classifier) == expected).all()


@pytest.mark.parametrize("values", [range(256), range(0, 512, 2)])
def test_a_pillow_image_that_uses_few_of_its_values_is_named(
    values: range, classifier: gh.Classifier
) -> None:
    ramp = np.array(values, np.int32).reshape(16, 16)
    wrong: list[Any] = [Image.new("RGB", (16, 16)), Image.fromarray(ramp)]
    words = rf"1 image with few grey levels: image 1 \(values 0 to {ramp.max()} of 65,535\).*"
    with pytest.warns(GlasshouseWarning, match=words + r"become an image of 8 bits with Image\.f"):
        dark = gh.read_images(wrong, classifier)
    assert dark.max() <= 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = Image.fromarray(ramp)
        right = Image.fromarray(np.asarray(image).astype("uint8"))
        assert gh.read_images(right, classifier).max() > 200
        gh.read_images(Image.fromarray(ramp * 128), classifier)


def test_a_closed_or_a_huge_pillow_image_is_a_bad_image(tmp_path: Path) -> None:
    with Image.open(save("photo", tmp_path)) as opened:
        pass
    with pytest.raises(gh.BadImage, match="closed"):
        decode_opened(opened)
    side = int(MAX_PIXELS**0.5) + 1
    huge = Image.new("1", (side, side))
    with pytest.raises(gh.BadImage, match="above the limit"):
        decode_opened(huge)
    assert decode_opened(Image.new("L", (6000, 5000))).shape == (2500, 3000, 3)
