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
    """List the runs in FOLDER and its subfolders with their test metrics, newest first."""
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
    score = run.score
    return {
        "run": str(run.folder),
        "source": run.source,
        "recipe": run.recipe,
        "epochs": run.epochs,
        "of": run.of,
        "status": run.status,
        "finished": run.status == "finished",
        "metric": run.metric,
        "value": score[0] if score else None,
        "interval": list(score[1:]) if score else None,
        "seconds": round(run.seconds, 1),
        "started": run.started,
        **({"tried": run.tried} if run.status == "tried" else {}),
        **({"problem": run.problem} if run.problem else {}),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    metrics = " or ".join(sorted({row["metric"] for row in rows}))
    lines: list[tuple[str, ...]] = [
        ("run", "source", "recipe", "epochs", f"test {metrics}, 95 % interval", "seconds")
    ]
    lines += [_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if row["status"] == "damaged":
        return row["run"], "", "", "", "damaged", ""
    from glasshouse.wording import epochs_so_far, metric_text

    score = "failed" if row["status"] == "failed" else "not finished"
    if row["status"] == "tried":
        score = "not tested"
        if row["tried"] is not None:
            score = f"{metric_text(row['metric'], row['tried'])} in validation"
    if row["value"] is not None:
        shown, low, high = (
            metric_text(row["metric"], each) for each in (row["value"], *row["interval"])
        )
        score = f"{shown} ({low} to {high})"
    epochs = epochs_so_far(row["epochs"], row["of"]) if row["of"] else "features"
    seconds = f"{row['seconds']:,.1f}"
    return row["run"], shown_path(row["source"]), row["recipe"], epochs, score, seconds
