"""Training on a data set of the page Teach: which backbone, and what became of the training."""

from dataclasses import dataclass
from pathlib import Path

from glasshouse.data.sources import absolute_source
from glasshouse.runs import folder as runs
from glasshouse.runs.background import Launch, launches, start_training
from glasshouse.runs.listing import Listed
from glasshouse.serving.run_lookup import listed_runs
from glasshouse.serving.workbench import Workbench

BUNDLED = "cifar10-small"
_RECIPE = "transfer-features"
# Small networks whose features suit photos, in the order of preference.
_PREFERRED = ("mobilenet_v2", "resnet18", "efficientnet_b0", "mobilenet_v3_large", "resnet50")
_DOWNLOAD, _DOWNLOAD_SIZE = "mobilenet_v2", "14 MB from download.pytorch.org"


@dataclass(frozen=True)
class BackboneChoice:
    """A network whose features a new head is fitted to; is_download: its weights are not here."""

    name: str
    is_download: bool = False

    @property
    def title(self) -> str:
        """A name for a list."""
        if self.name == BUNDLED:
            return f"{BUNDLED} (comes with Glasshouse)"
        return f"{self.name} ({'downloads its weights' if self.is_download else 'on this machine'})"

    @property
    def description(self) -> str:
        """What the choice means, in a sentence or two."""
        if self.name == BUNDLED:
            return (
                "A small network trained on 32x32 pixel images of animals and vehicles. Nothing is "
                "downloaded. It tells apart what differs in colour and rough shape; for fine "
                "differences, use a network pretrained on ImageNet."
            )
        if self.is_download:
            return (
                f"Pretrained on ImageNet at 224x224 pixels. Its weights are downloaded once, "
                f"{_DOWNLOAD_SIZE}; your images stay on this machine."
            )
        return "Pretrained on ImageNet. Its weights are on this machine: nothing is downloaded."


def backbones(workbench: Workbench, at_hand: list[str]) -> list[BackboneChoice]:
    """The choices, the best first; at_hand: networks whose weights are on this machine.

    A download is offered last and only where the workbench may download.
    """
    good = [name for name in _PREFERRED if name in at_hand]
    found = [BackboneChoice(name) for name in (*good, BUNDLED)]
    others = [BackboneChoice(name) for name in at_hand if name not in good]
    is_open = not workbench.offline and _DOWNLOAD not in at_hand
    return [*found, *others, *([BackboneChoice(_DOWNLOAD, is_download=True)] if is_open else [])]


def start_teaching(workbench: Workbench, source: Path, backbone: BackboneChoice) -> str:
    """Start training in the background; returns the name of the run.

    No connection is opened, unless the backbone is a download. Raises UsageError.
    """
    name = runs.next_run_folder(workbench.runs, source.name).name
    arguments = ["--backbone", backbone.name]
    where = ("--data-dir", str(workbench.data_dir)) if workbench.data_dir else ()
    offline = () if backbone.is_download else ("--offline",)
    start_training(workbench.runs, name, str(source), _RECIPE, [*arguments, *where, *offline])
    return name


def runs_of_set(workbench: Workbench, source: Path) -> list[Listed]:
    """The runs that were trained on a data set, the newest first."""
    return [run for run in listed_runs(workbench) if run.source == absolute_source(source)]


def launch_of_set(workbench: Workbench, source: Path) -> Launch | None:
    """The training on a data set that is running now."""
    running = [each for each in launches(workbench.runs) if each.is_running]
    return next((each for each in running if each.command[4] == str(source)), None)


def step_of(workbench: Workbench, run: str) -> str:
    """What a run in the background is doing, judged by the files that it has written."""
    folder = workbench.runs / run
    if (folder / runs.MODEL).is_file():
        return "Writing the report"
    if (folder / runs.HEADS).is_file():
        return "Testing on images that were held out"
    if (folder / runs.RECIPE).is_file():
        return "Computing features and fitting the classifier"
    return "Loading the network and the images"
