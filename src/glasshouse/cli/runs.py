"""`glasshouse runs`: a list of training runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.options import Json, print_json
from glasshouse.wording import shown_path

if TYPE_CHECKING:
    from glasshouse.runs.listing import Listed


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to search.")] = Path(
        "runs"
    ),
    json: Json = False,
) -> None:
    """List the runs in FOLDER and its subfolders with their accuracy, newest first."""
    from glasshouse.errors import UsageError
    from glasshouse.runs.listing import RunListing

    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder; `glasshouse train SOURCE` writes its runs to runs/"
        )
    found = RunListing(folder).read()
    rows = [_row(run) for run in found]
    if json:
        print_json(rows)
    elif rows:
        _print_table(rows)
    else:
        print(f"no runs in {folder}; `glasshouse train SOURCE` creates one")
    for run in found:
        if run.problem:
            print(f"glasshouse: {run.problem}", file=sys.stderr)


def _row(run: "Listed") -> dict[str, Any]:
    accuracy, precision = run.accuracy, run.mean_average_precision
    return {
        "run": str(run.folder),
        "source": run.source,
        "recipe": run.recipe,
        "epochs": run.epochs,
        "of": run.of,
        "status": run.status,
        "finished": run.status == "finished",
        "accuracy": accuracy[0] if accuracy else None,
        "interval": list(accuracy[1:]) if accuracy else None,
        **(
            {"mean_average_precision": precision[0], "precision_interval": list(precision[1:])}
            if precision
            else {}
        ),
        "seconds": round(run.seconds, 1),
        "started": run.started,
        **({"problem": run.problem} if run.problem else {}),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    lines: list[tuple[str, ...]] = [
        ("run", "source", "recipe", "epochs", "test accuracy, 95 % interval", "seconds")
    ]
    lines += [_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if row["status"] == "damaged":
        return row["run"], "", "", "", "damaged", ""
    accuracy = "failed" if row["status"] == "failed" else "not finished"
    if "mean_average_precision" in row:
        low, high = row["precision_interval"]
        accuracy = f"mAP {row['mean_average_precision']:.3f} ({low:.3f} to {high:.3f})"
    elif row["accuracy"] is not None:
        low, high = row["interval"]
        accuracy = f"{row['accuracy']:.2%} ({low:.2%} to {high:.2%})"
    epochs = f"{row['epochs']}/{row['of']}" if row["of"] else "features"
    seconds = f"{row['seconds']:,.1f}"
    return row["run"], shown_path(row["source"]), row["recipe"], epochs, accuracy, seconds
