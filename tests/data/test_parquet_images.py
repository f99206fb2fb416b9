"""Which columns of a Parquet file are the images and the labels."""

from pathlib import Path

import pytest

from glasshouse.data.parquet_images import _chosen, _columns
from glasshouse.errors import DataError

pa = pytest.importorskip("pyarrow")


@pytest.mark.parametrize("names", [["img", "image"], ["image", "img"], ["thumb", "IMAGE"]])
def test_of_several_columns_with_images_the_one_with_the_usual_name_is_read(
    names: list[str],
) -> None:
    schema = pa.schema([*((name, pa.binary()) for name in names), ("label", pa.int64())])
    assert _columns(Path("a.parquet"), schema).image.lower() == "image"


def test_a_declared_column_comes_before_a_usual_name() -> None:
    usual = ("image", "img")
    where = (Path("a.parquet"), "images")
    assert _chosen(*where, ["image", "scan.bytes"], usual, ["scan"]) == "scan.bytes"
    assert _chosen(*where, ["scan"], usual, []) == "scan"
    with pytest.raises(DataError, match=r"several columns of images \(left, right\): name the one"):
        _chosen(*where, ["left", "right"], usual, [])


@pytest.mark.parametrize("names", [["fine_label", "label"], ["cls", "Target"]])
def test_the_labels_are_the_column_with_the_first_of_the_usual_names(names: list[str]) -> None:
    schema = pa.schema([("image", pa.binary()), *((name, pa.int64()) for name in names)])
    assert _columns(Path("a.parquet"), schema).label == names[1]
