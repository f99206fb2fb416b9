"""`glasshouse groups`: does a classifier fail on a group of similar images?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from glasshouse.cli.options import DataDir, Json, Net, Offline, Reread, UseDevice, print_json


def groups(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    net: Net = None,
    device: UseDevice = "cpu",
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Find groups of similar images that RUN misclassifies more often than the rest.

    Of validation images; the test split is not used. The results are written to groups.json and
    groups.html in the run folder.
    """
    from glasshouse.cli.named_classifier import classifier_named, finished_run
    from glasshouse.cli.progress_bars import say

    named = finished_run(run, net, reread=reread, offline=offline, device=device)
    from glasshouse.runs import folder as runs
    from glasshouse.workflow.use.run_groups import find_run_groups

    found = find_run_groups(
        run, data_dir=data_dir, offline=offline, classifier=classifier_named(named)
    )
    if json:
        print_json(found)
    else:
        _print(found)
    say(f"page with images: {run / runs.GROUPS_PAGE}")


def _print(found: Mapping[str, Any]) -> None:
    print(found["verdict"])
    for number, group in enumerate(found["groups"][1:], 2):
        print(f"\n{number}. {group['words']}")
