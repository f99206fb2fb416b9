"""A map is read as it was written, refuses damage, and measures groups of its images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glasshouse.errors import StorageError
from glasshouse.evaluation.data_map import DataMap, group_of, load_map, rows_with_ids, save_map
from glasshouse.evaluation.intervals import difference, wilson
from glasshouse.storage import read_tensors, write_tensors


def made_map(count: int = 40) -> DataMap:
    """Of images that alternate between two classes; the first ten answers are cat."""
    labels = np.arange(count) % 2
    predicted = np.where(np.arange(count) < 10, 0, labels)
    points = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    return DataMap(
        pca=points, tsne=2 * points, split=np.zeros(count, np.int64), labels=labels,
        predicted=predicted, confidence=np.full(count, 0.9, np.float32),
        unusual=np.linspace(0, 1, count, dtype=np.float32),
        ids=np.array([f"val/{i}.png" for i in range(count)]), class_names=("cat", "dog"),
        splits=("validation",), score="nearest", kept={"pca": 0.8, "tsne": 0.95}, pca_share=0.5,
        drawn_from=count, seed=0, weights="abc",
    )  # fmt: skip


def test_a_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    for found in (made_map(), replace(made_map(), tsne=None, kept={"pca": 0.8})):
        save_map(found, tmp_path / "map.safetensors")
        again = load_map(tmp_path / "map.safetensors")
        for name, value in vars(found).items():
            np.testing.assert_array_equal(value, getattr(again, name), strict=value is not None)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": torch.full((40,), 2)},
        {"labels": torch.full((40,), -1)},
        {"predicted": torch.zeros(39, dtype=torch.int64)},
        {"confidence": torch.full((40,), float("nan"))},
        {"tsne": torch.zeros(40, 3)},
        {"pca": torch.zeros(40, 2, dtype=torch.float64)},
        {"split": torch.ones(40, dtype=torch.int64)},
    ],
)
def test_damage_is_named_with_what_to_do(tmp_path: Path, change: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "map.safetensors"
    save_map(made_map(), path)
    tensors, facts = read_tensors(path)
    write_tensors(path, {**tensors, **change}, facts)
    with pytest.raises(StorageError, match=r"map\.safetensors is damaged.*again with `glasshouse"):
        load_map(path)


def test_a_file_cut_short_or_without_a_part_is_named(tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    save_map(made_map(), path)
    tensors, facts = read_tensors(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match="make the map again"):
        load_map(path)
    for name in facts:
        write_tensors(path, tensors, {key: each for key, each in facts.items() if key != name})
        with pytest.raises(StorageError, match=r"damaged.*make the map again"):
            load_map(path)


def test_a_group_is_measured_against_the_rest() -> None:
    found = made_map()
    group = group_of(found, "first", np.array([0, 1, 2, 3, 3]))
    assert len(group.rows) == 4
    # Of the first ten, the five dogs are answered cat.
    assert group.accuracy == wilson(2, 4) and group.rest == wilson(33, 36)
    assert group.gap == difference((33, 36), (2, 4))
    assert "4 images: 50 % (15.0 to 85.0) of the answers are right" in group.words
    worst = group_of(found, "worst", np.array([1, 3, 5, 7, 9]))
    assert worst.words.endswith(
        "It is answered worse than the rest by more than chance would explain."
    )
    even = group_of(found, "even", np.arange(10, 16))
    assert even.words.endswith("The difference may be chance.")
    assert group_of(found, "few", np.array([1])).words.endswith("too few to tell the two apart.")
    whole = group_of(found, "all", np.arange(40))
    assert whole.rest is None and whole.words.endswith("There are no others in the map.")
    assert group_of(found, "none", np.array([], int)).words == "None of its images is in this map."


def test_rows_are_found_by_id_and_unknown_ids_are_left_out() -> None:
    assert rows_with_ids(made_map(), ["val/3.png", "val/1.png", "gone.png"]).tolist() == [1, 3]


def test_the_words_say_which_split_and_how_many_of_how_many() -> None:
    found = made_map()
    assert found.words.startswith("40 validation images as points, by t-SNE")
    assert "trustworthiness is 0.950" in found.words and "test split is not shown" in found.words
    drawn = replace(found, drawn_from=1000, splits=("train", "test"), tsne=None)
    assert drawn.words.startswith(
        "40 of 1,000 training and test images, drawn at random as points, by PCA"
    )
    assert "can no longer be tested there" in drawn.words
