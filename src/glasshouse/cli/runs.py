"""`glasshouse runs`: a list of training runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from glasshouse.cli.options import Json, print_json


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to search.")] = Path(
        "runs"
    ),
    json: Json = False,
) -> None:
    """List the runs in FOLDER and its subfolders with their accuracy, newest first."""
    from glasshouse.errors import UsageError
    from glasshouse.runs.folder import find_runs

    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder; `glasshouse train SOURCE` writes its runs to runs/"
        )
    rows = [_row(run) for run in find_runs(folder)]
    if json:
        print_json(rows)
    elif rows:
        _print_table(rows)
    else:
        print(f"no runs in {folder}; `glasshouse train SOURCE` creates one")


def _row(run: Any) -> dict[str, Any]:
    accuracy = run.evaluation["accuracy"] if run.evaluation else None
    return {
        "run": str(run.folder),
        "source": run.environment["data"]["source"],
        "recipe": run.recipe.name,
        "epochs": len(run.epochs),
        "of": 0 if run.recipe.transfer.way == "features" else run.recipe.train.epochs,
        "finished": run.is_finished,
        "accuracy": accuracy["value"] if accuracy else None,
        "interval": [accuracy["low"], accuracy["high"]] if accuracy else None,
        "seconds": round(run.seconds, 1),
        "started": run.environment["started"],
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
    accuracy = "not finished"
    if row["accuracy"] is not None:
        low, high = row["interval"]
        accuracy = f"{row['accuracy']:.2%} ({low:.2%} to {high:.2%})"
    epochs = f"{row['epochs']}/{row['of']}" if row["of"] else "features"
    seconds = f"{row['seconds']:,.1f}"
    return row["run"], row["source"], row["recipe"], epochs, accuracy, seconds
