"""The page of all runs."""

from fastapi import Request

from glasshouse.serving.pages.parts import empty_state, heading, table
from glasshouse.serving.workbench import Page, Workbench
from glasshouse.workflow.runs import find_runs


async def build(workbench: Workbench, request: Request) -> None:
    """Every run below the folder, the newest first."""
    runs = find_runs(workbench.runs) if workbench.runs.is_dir() else []
    heading("Runs", str(workbench.runs))
    if not runs:
        empty_state(
            "No runs yet",
            f"Nothing has been trained into {workbench.runs}. Train a first classifier, here or "
            "on the command line:",
            icon="view_list",
            command=f"glasshouse train digits --out {workbench.runs / 'digits-1'}",
        )
        return
    rows = [(str(run.folder.relative_to(workbench.runs)), run.recipe.name) for run in runs]
    table(("Run", "Recipe"), rows, numbers_from=2)


PAGE = Page("/", "Runs", build, label="Runs", icon="view_list")
