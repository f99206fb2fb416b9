"""Which columns of a Parquet file are the images and the labels, and what its schema says."""

import importlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glasshouse.data.class_names import normal_name
from glasshouse.errors import DataError

# As Hugging Face's data sets call them, the usual ones first.
_IMAGE_NAMES = ("image", "img", "images", "pixel_values", "jpg", "png")
_LABEL_NAMES = ("label", "labels", "class", "target", "fine_label", "cls")


@dataclass(frozen=True)
class ImageColumns:
    """Which columns hold what. image: that of the bytes, as image.bytes within a structure.

    path: the column of the name of each image; split: that of its split; None where there is none.
    class_names: of a label that is a number, if they are declared.
    """

    image: str
    path: str | None
    split: str | None
    label: str
    are_several: bool
    class_names: tuple[str, ...] | None


def image_columns(path: Path, schema: Any) -> ImageColumns:
    """The columns of a schema of pyarrow; raises DataError where one is missing or in doubt."""
    declared = _declared_features(schema)
    candidates = image_candidates(schema)
    if not candidates:
        raise DataError(
            f"{path} has no images: expected a column of bytes, or of a structure of bytes and "
            f"path as Hugging Face writes it; found {', '.join(schema.names) or 'no columns'}"
        )
    image = _chosen(path, "images", candidates, _IMAGE_NAMES, _of_type(declared, "Image"))
    if image in schema.names and "." in image:
        raise DataError(
            f"{path} has the column {image}: expected a name without a dot, which stands for a "
            f"part of a structure; rename it, for example to {_IMAGE_NAMES[0]}"
        )
    labels = [name for name in schema.names if name != image.partition(".")[0]]
    label = _label_column(path, labels, declared)
    split = next((name for name in schema.names if name.lower() == "split"), None)
    _require_each_once(path, schema.names, [image.partition(".")[0], label, split])
    return ImageColumns(
        image=image,
        path=_path_column(schema, image),
        split=split,
        label=label,
        are_several=_are_lists(schema.field(label).type),
        class_names=_class_names(path, declared.get(label)),
    )


def _require_each_once(path: Path, names: Sequence[str], used: Sequence[str | None]) -> None:
    """Raise DataError where two columns have a name that is used, whatever its case."""
    for name in filter(None, used):
        same = [each for each in names if each.lower() == name.lower()]
        if len(same) > 1:
            raise DataError(
                f"{path} has two columns of the same name: {', '.join(same)}. Remove or rename "
                "the one that is not meant."
            )


def _are_lists(given: Any) -> bool:
    kind = importlib.import_module("pyarrow").types
    return bool(kind.is_list(given) or kind.is_large_list(given) or kind.is_fixed_size_list(given))


def image_candidates(schema: Any) -> list[str]:
    """The columns of bytes, and those of a structure with such a part."""
    kind = importlib.import_module("pyarrow").types
    found = []
    for field in schema:
        if _are_bytes(field.type):
            found.append(field.name)
        elif kind.is_struct(field.type):
            place = field.type.get_field_index("bytes")
            if place >= 0 and _are_bytes(field.type.field(place).type):
                found.append(f"{field.name}.bytes")
    return found


def _are_bytes(given: Any) -> bool:
    """Whether a type of pyarrow is one of bytes of any length, also by way of a dictionary."""
    kind = importlib.import_module("pyarrow").types
    if kind.is_dictionary(given):
        given = given.value_type
    return bool(kind.is_binary(given) or kind.is_large_binary(given) or kind.is_binary_view(given))


def _path_column(schema: Any, image: str) -> str | None:
    name, _, part = image.partition(".")
    if part and schema.field(name).type.get_field_index("path") >= 0:
        return f"{name}.path"
    # Of two columns of the same name, neither can be read.
    once = [name for name, times in Counter(schema.names).items() if times == 1]
    return next((each for each in ("path", "file_name", "__key__") if each in once), None)


def _label_column(path: Path, names: Sequence[str], declared: Mapping[str, Any]) -> str:
    classes = [name for name in names if _names_of(declared.get(name))]
    known = [name for name in names if name.lower() in _LABEL_NAMES]
    if not classes and not known:
        raise DataError(
            f"{path} has no labels: expected a column named label; found "
            f"{', '.join(names) or 'only images'}"
        )
    return _chosen(path, "labels", known or classes, _LABEL_NAMES, classes)


def _chosen(
    path: Path, what: str, names: Sequence[str], usual: Sequence[str], declared: Sequence[str]
) -> str:
    """The column of these names: the only one, the declared one, or the one that is called so."""
    first = [n for n in names if n.partition(".")[0] in declared] or list(names)
    for name in usual:
        for each in first:
            if each.partition(".")[0].lower() == name:
                return each
    if len(first) > 1:
        raise DataError(
            f"{path} has several columns of {what} ({', '.join(first)}): name the one to be used "
            f"'{usual[0]}', or leave the others out"
        )
    return first[0]


def _declared_features(schema: Any) -> dict[str, Any]:
    """What Hugging Face's metadata says of each column; nothing where there is none."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(text)["info"]["features"]
        return dict(features)
    except (ValueError, KeyError, TypeError):
        return {}


def _of_type(declared: Mapping[str, Any], kind: str) -> list[str]:
    return [n for n, f in declared.items() if isinstance(f, Mapping) and f.get("_type") == kind]


def _names_of(feature: Any) -> list[str] | None:
    """The class names of a feature: of a label, or of a list of them."""
    if isinstance(feature, list) and len(feature) == 1:
        return _names_of(feature[0])
    if not isinstance(feature, Mapping):
        return None
    if "feature" in feature:
        return _names_of(feature["feature"])
    names = feature.get("names")
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _class_names(path: Path, feature: Any) -> tuple[str, ...] | None:
    names = _names_of(feature)
    if names is None:
        return None
    plain = tuple(map(normal_name, names))
    twice, times = Counter(plain).most_common(1)[0]
    if times > 1 or not all(plain):
        raise DataError(f"{path} declares the class {twice!r} {times} times: expected each once")
    return plain
