"""Places are named by strings as well as by paths, wherever the front door takes one."""

import inspect
from pathlib import Path

import pytest

import glasshouse as gh

# Made by the package alone.
RETURNED = {"InlineReport"}
# Their fields are paths; what they are made of may be strings.
CONVERTING = {"TrainRequest", "Search"}


def test_every_public_function_takes_a_string_for_a_place() -> None:
    only_paths = []
    for name in sorted(set(dir(gh)) - RETURNED - CONVERTING):
        found = getattr(gh, name)
        is_made = inspect.isclass(found) and not issubclass(found, Exception)
        if not (inspect.isfunction(found) or is_made):
            continue
        try:
            parameters = inspect.signature(found).parameters.values()
        except ValueError:
            continue  # of a type that takes whatever there is
        for parameter in parameters:
            annotation = str(parameter.annotation)
            if "Path" in annotation and "str" not in annotation:
                only_paths.append(f"{name}({parameter.name})")
    assert only_paths == []


def test_requests_are_made_of_strings() -> None:
    recipe = gh.load_recipe("small-cnn")
    request = gh.TrainRequest("digits", recipe, "run", data_dir="data", weights="w.pt")  # type: ignore[arg-type]
    assert (request.out, request.data_dir, request.weights) == (
        Path("run"), Path("data"), Path("w.pt"),
    )  # fmt: skip
    assert gh.TrainRequest("digits", recipe, Path("run")).data_dir is None
    space = (gh.parse_search("train.lr=0.1,0.2"),)
    search = gh.Search("digits", "small-cnn", space, "out", data_dir="data")  # type: ignore[arg-type]
    assert (search.out, search.data_dir) == (Path("out"), Path("data"))


def test_a_folder_of_data_named_by_a_string_is_looked_into(tmp_path: Path) -> None:
    with pytest.raises(gh.DataError, match="cifar"):
        gh.load_splits("cifar10", data_dir=str(tmp_path), offline=True)


def test_pages_of_maps_are_read_from_a_string(tmp_path: Path) -> None:
    with pytest.raises(gh.StorageError):
        gh.load_page(str(tmp_path))
    with pytest.raises(gh.StorageError):
        gh.load_explanation(str(tmp_path), "saliency")
    with pytest.raises(gh.UsageError, match="does not exist"):
        gh.reproduce(str(tmp_path / "none"), str(tmp_path / "again"))
    with pytest.raises(gh.UsageError):
        gh.compare_runs([str(tmp_path / "one"), str(tmp_path / "two")])
