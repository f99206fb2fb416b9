from pathlib import Path

import pytest

import glasshouse as gh
from glasshouse.errors import ModelError, UsageError
from glasshouse.models import known_names
from glasshouse.models.known_names import may_match, require_backbone, require_known
from glasshouse.models.pretrained import list_models


def test_the_example_photo_is_a_file_that_the_bundled_classifier_can_read() -> None:
    photo = gh.example_photo()
    images = gh.read_images(photo, gh.classifier_by_name("cifar10-tiny"))
    assert photo.is_file()
    assert images.shape == (1, 3, 32, 32)


def test_the_names_read_from_source_files_are_those_that_the_libraries_list() -> None:
    listed = {card.name.rpartition("/")[2] for card in list_models()}
    assert known_names._library_names() == listed


@pytest.mark.parametrize(
    "name",
    ["resnet18", "timm/resnet18", "resnet50.a1_in1k", "mobilenetv2_100:pad_type=same", "mine"],
)
def test_the_name_of_a_network_passes_with_its_library_tag_or_arguments(name: str) -> None:
    require_known(name, ("mine",))


@pytest.mark.parametrize("name", ["keras/resnet18", "resnett18", "mine"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a run folder, a bundled model or a network"):
        require_known(name)


def test_an_image_in_the_place_of_the_model_is_told_where_it_belongs(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.touch()
    with pytest.raises(UsageError, match=rf"before the files, as in .* cifar10-small {photo}`"):
        require_known(str(photo))


def test_a_network_to_start_from_is_of_a_library_or_bundled() -> None:
    for name in ("resnet18", "timm/resnet18", "cifar10-small"):
        require_backbone(name)
    with pytest.raises(ModelError, match=r"has a network 'cifar10-smal'\. Did you mean 'cifar10-"):
        require_backbone("cifar10-smal")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("resnet18", True),
        ("resnet1?", True),
        ("timm/vit_*", True),
        ("torchvision/resnet18", True),
        ("resnet1", False),
        ("keras/*", False),
    ],
)
def test_what_a_pattern_may_match_is_known_without_the_libraries(
    pattern: str, expected: bool
) -> None:
    assert may_match(pattern) == expected
    assert bool(list_models(pattern)) == expected


def test_any_pattern_may_match_where_the_lists_cannot_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known_names, "_library_names", frozenset)
    assert may_match("resnet1")
