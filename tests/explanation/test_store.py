import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glasshouse.errors import StorageError, UsageError
from glasshouse.explanation.explain import contrast, explain_page
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Explanation, ExplanationPage
from glasshouse.explanation.store import (
    explanation_json,
    load_explanation,
    load_page,
    save_page,
    weights_hash,
)
from glasshouse.explanation.trust.checks import check_page
from glasshouse.models.classifier import Classifier
from tests.explanation.nets import classifier_of, module_net, some_images


def some_page(classifier: Classifier, *, count: int = 3) -> ExplanationPage:
    page = explain_page(
        classifier, some_images(count), methods=["guided", "grad-cam", "smoothgrad"]
    )
    return check_page(classifier, page)


def require_equal(found: Explanation, expected: Explanation) -> None:
    for each in fields(Explanation):
        mine, theirs = getattr(found, each.name), getattr(expected, each.name)
        if isinstance(theirs, np.ndarray):
            assert mine.dtype == theirs.dtype, each.name
            np.testing.assert_array_equal(mine, theirs)
        else:
            assert mine == theirs, each.name


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_a_page_survives_the_disk_exactly(tmp_path: Path, mirror: bool, double: bool) -> None:
    classifier = replace(classifier_of(module_net(), double=double), mirror=mirror, temperature=1.7)
    page = some_page(classifier)
    paths = save_page(page, tmp_path, classifier)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    again = load_page(tmp_path)
    np.testing.assert_array_equal(again.logits, page.logits)
    np.testing.assert_array_equal(again.images, page.images)
    assert again.class_names == page.class_names and again.layer_choice == page.layer_choice
    assert again.temperature == 1.7 and again.activations == ()
    for found, expected in zip(again.explanations, page.explanations, strict=True):
        require_equal(found, expected)
        np.testing.assert_array_equal(shown(found), shown(expected))
    require_equal(load_explanation(tmp_path, "grad-cam"), page.explanations[1])
    with pytest.raises(UsageError, match="no map of the method 'occlusion'"):
        load_explanation(tmp_path, "occlusion")


def test_a_contrast_survives_the_disk(tmp_path: Path) -> None:
    classifier, images = classifier_of(module_net()), some_images()
    found = contrast(classifier, images, target_class=0, against=[1, 2, 3])
    save_page(ExplanationPage(images, found.logits, found.class_names, (found,)), tmp_path)
    require_equal(load_explanation(tmp_path, "grad-cam"), found)


def test_a_page_has_one_hash_of_the_weights_and_one_copy_of_the_images(tmp_path: Path) -> None:
    classifier = classifier_of(module_net())
    page = some_page(classifier)
    save_page(page, tmp_path, classifier)
    assert [path.name for path in tmp_path.glob("*images*")] == ["images.npy"]
    text = (tmp_path / "page.json").read_text(encoding="utf-8")
    facts = json.loads(text)
    assert text.count(weights_hash(classifier)) == 1
    assert len(facts["image_sha256"]) == 3 and "torch" in facts["versions"]
    assert facts["maps"] == [explanation_json(each) for each in page.explanations]


DAMAGES = {
    "guided.maps.npy": b"no",
    "grad-cam.maps.npy": b"",
    "guided.channels.npy": b"\x93NUMPY",
    "images.npy": b"",
    "page.json": b'{"maps": []}',
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_a_storage_error(tmp_path: Path, name: str) -> None:
    save_page(some_page(classifier_of(module_net())), tmp_path)
    (tmp_path / name).write_bytes(DAMAGES[name])
    with pytest.raises(StorageError, match="complete page"):
        load_page(tmp_path)


@pytest.mark.parametrize("name", ["images.npy", "grad-cam.maps.npy", "page.json"])
def test_a_missing_file_is_a_storage_error(tmp_path: Path, name: str) -> None:
    save_page(some_page(classifier_of(module_net())), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(StorageError):
        load_page(tmp_path)


@pytest.mark.parametrize("name", ["images.npy", "grad-cam.maps.npy"])
def test_files_of_other_images_are_a_storage_error(tmp_path: Path, name: str) -> None:
    classifier = classifier_of(module_net())
    save_page(some_page(classifier), tmp_path / "a")
    save_page(some_page(classifier, count=2), tmp_path / "b")
    (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
    with pytest.raises(StorageError, match="complete page"):
        load_page(tmp_path / "a")


def test_the_hash_of_the_weights_changes_with_any_of_them() -> None:
    first, second = classifier_of(module_net()), classifier_of(module_net())
    assert weights_hash(first) == weights_hash(second)
    with torch.no_grad():
        next(second.net.parameters())[0, 0, 0, 0] += 1e-3
    assert weights_hash(first) != weights_hash(second)


@pytest.mark.parametrize("key", ["method", "precision"])
def test_a_page_of_somebody_else_names_no_other_file_and_no_object(
    tmp_path: Path, key: str
) -> None:
    classifier = classifier_of(module_net())
    save_page(some_page(classifier), tmp_path / "page", classifier)
    facts = json.loads((tmp_path / "page" / "page.json").read_text(encoding="utf-8"))
    if key == "method":
        name = facts["maps"][0]["method"]
        (tmp_path / "page" / f"{name}.maps.npy").rename(tmp_path / "other.maps.npy")
        facts["maps"][0]["method"] = "../other"
    else:
        facts["precision"] = "O"
    (tmp_path / "page" / "page.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(StorageError, match="does not hold a complete page"):
        load_page(tmp_path / "page")


def test_an_array_that_declares_more_than_its_file_has_is_never_allocated(tmp_path: Path) -> None:
    classifier = classifier_of(module_net())
    save_page(some_page(classifier), tmp_path / "page", classifier)
    for path in sorted((tmp_path / "page").glob("*.npy")):
        before = path.read_bytes()
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 16, 16)}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(1 << 10))
        with pytest.raises(StorageError, match="does not hold a complete page"):
            load_page(tmp_path / "page")
        np.savez_compressed(file=path.with_suffix(".npz"), zeros=np.zeros(1 << 20))
        path.with_suffix(".npz").replace(path)
        with pytest.raises(StorageError, match="does not hold a complete page"):
            load_page(tmp_path / "page")
        path.write_bytes(before)
    assert load_page(tmp_path / "page").explanations
