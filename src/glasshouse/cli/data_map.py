"""`glasshouse map`: what a classifier's images look like to it, as points of a plane."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import DataDir, Json, Net, Offline, Reread, UseDevice, print_json
from glasshouse.wording import percentage

if TYPE_CHECKING:
    from glasshouse.evaluation.data_map import DataMap

Split = Annotated[
    list[str] | None,
    typer.Option(
        "--split",
        metavar="SPLIT",
        help="Whose images are shown: train, validation or test; repeatable. Default: validation.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal maps.")]


def data_map(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    split: Split = None,
    seed: Seed = 0,
    net: Net = None,
    device: UseDevice = "cpu",
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Make a map of the images of RUN: points that are near if the network sees nearly the same.

    By PCA, then by t-SNE, which takes minutes for many images; up to 50,000. Written to
    map.safetensors, map.json and map.html in the run folder. `glasshouse ui` shows it with the
    images, to select some and name them as a group.
    """
    from glasshouse.cli.named_classifier import classifier_named, finished_run
    from glasshouse.cli.progress_bars import data_progress, say

    named = finished_run(run, net, reread=reread, offline=offline, device=device)
    from glasshouse.report.map_page import map_as_json
    from glasshouse.runs import folder as runs
    from glasshouse.workflow.use.map_groups import named_groups
    from glasshouse.workflow.use.run_map import make_run_map

    with data_progress() as progress:
        found = make_run_map(
            run,
            split or ["validation"],
            seed=seed,
            data_dir=data_dir,
            offline=offline,
            classifier=classifier_named(named),
            progress=progress,
        )
    if json:
        print_json(map_as_json(found, named_groups(run, found)))
    else:
        _print(found, run)
    say(f"page with the map: {run / runs.MAP_PAGE}")


def _print(found: "DataMap", run: Path) -> None:
    from glasshouse.workflow.use.map_groups import named_groups

    print(found.words)
    print(f"PCA has {percentage(found.pca_share)} of the variance.")
    for each in named_groups(run, found):
        print(f"\n{each.name}: {each.words}")
