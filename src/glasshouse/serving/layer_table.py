"""The layers of a run's network with their shapes and costs.

It needs torch: the page reaches it through a function that is imported at its first call.
"""

from functools import lru_cache
from pathlib import Path

from glasshouse.models.summary import summarize
from glasshouse.runs import folder as runs
from glasshouse.serving.run_cache import busy, net_of
from glasshouse.serving.run_lookup import run_folder
from glasshouse.serving.workbench import Workbench


def layer_rows(workbench: Workbench, name: str) -> tuple[list[tuple[str, ...]], str]:
    """One row per layer (name, type, output shape, parameters, MACs), and the totals in words.

    Raises UsageError where the network is not known before the run is finished.
    """
    folder = run_folder(workbench, name)
    model = folder / runs.MODEL
    return _layer_rows(folder, model.stat().st_mtime_ns if model.is_file() else 0)


@lru_cache(maxsize=16)
def _layer_rows(folder: Path, changed: int) -> tuple[list[tuple[str, ...]], str]:
    with busy:
        net, shape = net_of(folder)
        found = summarize(net, shape)
    rows: list[tuple[str, ...]] = [
        (
            row.name,
            row.kind,
            "x".join(str(size) for size in row.output_shape or ()),
            f"{row.parameters:,}",
            f"{row.macs:,}",
        )
        for row in found.rows
    ]
    total = f"{found.parameters:,} parameters and {found.macs:,} multiply-adds for one image of"
    return rows, f"{total} {shape[2]}x{shape[1]} pixels."
