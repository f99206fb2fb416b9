"""`glasshouse shortcuts`: does a classifier use what it should not?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import DataDir, Json, Net, Offline, Reread, UseDevice, print_json
from glasshouse.wording import percentage

if TYPE_CHECKING:
    from glasshouse.explanation.shortcuts.find import Shortcuts

Count = Annotated[
    int | None,
    typer.Option(
        "--images",
        min=20,
        help="Number of validation images that are changed. Default: up to 1,000, fewer for large "
        "networks.",
    ),
]


def shortcuts(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    count: Count = None,
    net: Net = None,
    device: UseDevice = "cpu",
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Test whether RUN uses a shortcut: a tag, border, watermark, tint, compression or background.

    Validation images are given what images of another class have; the test split is not used. The
    results are written to shortcuts.json and shortcuts.html in the run folder.
    """
    from glasshouse.cli.named_classifier import classifier_named, finished_run
    from glasshouse.cli.progress_bars import data_progress, say

    named = finished_run(run, net, reread=reread, offline=offline, device=device)
    from glasshouse.explanation.shortcuts.verdict import shortcuts_as_json
    from glasshouse.runs import folder as runs
    from glasshouse.workflow.use.run_shortcuts import find_run_shortcuts

    with data_progress() as progress:
        found = find_run_shortcuts(
            run,
            count=count,
            data_dir=data_dir,
            offline=offline,
            classifier=classifier_named(named),
            progress=progress,
        )
    if json:
        print_json(shortcuts_as_json(found))
    else:
        _print(found)
    say(f"page with images: {run / runs.SHORTCUTS_PAGE}")


def _print(found: "Shortcuts") -> None:
    from glasshouse.explanation.shortcuts.verdict import (
        limits_of,
        shortcut_advice,
        shortcut_sentence,
        shortcut_verdict,
    )

    print(shortcut_verdict(found))
    for test in found.used[1:]:
        print(f"\nThe {test.name}: {shortcut_sentence(test)}")
    if found.used:
        print(f"\nWhat to do: {shortcut_advice(found.used[0])}")
    if found.tests:
        _print_tests(found)
    for words in limits_of(found):
        print(f"note: {words}")


def _print_tests(found: "Shortcuts") -> None:
    width = max(len(test.name) for test in found.tests)
    print(
        f"\n{'exchanged between classes':{width}}  excess loss  points, corrected interval  alone"
    )
    for test in found.tests:
        if test.subject == "all":
            value, low, high = (100 * x for x in (test.excess.value, test.excess.low,
                                                  test.excess.high))  # fmt: skip
            alone = found.alone[test.name].accuracy
            mark = "  SHORTCUT" if test.is_used else ""
            print(f"{test.name:{width}}  {value:+11.1f}  {low:+7.1f} to {high:+7.1f}  "
                  f"{percentage(alone, 0):>13}{mark}")  # fmt: skip
    print("\nalone: the accuracy of a classifier that sees nothing else")
