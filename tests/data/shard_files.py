"""A folder of class folders, and the same images in Parquet files and in tars."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NAMES = ("ant", "bee")
FEATURES = {"image": {"_type": "Image"}, "label": {"names": list(NAMES), "_type": "ClassLabel"}}


def images_below(folder: Path) -> dict[str, bytes]:
    """The bytes of each file by its relative path, in order."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def write_parquet(
    path: Path,
    images: Mapping[str, bytes],
    labels: Sequence[Any] | None = None,
    features: Mapping[str, Any] | None = FEATURES,
    **more: Sequence[Any],
) -> Path:
    """A file as Hugging Face writes it; labels: by default the positions of the class folders."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "image": [{"bytes": data, "path": name} for name, data in images.items()],
            "label": labels or [NAMES.index(name.partition("/")[0]) for name in images],
            **more,
        }
    )
    if features is not None:
        text = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": text})
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several groups of rows, and several blocks of rows in each.
    pq.write_table(table, path, row_group_size=40)
    return path


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    """An uncompressed tar with these files in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
