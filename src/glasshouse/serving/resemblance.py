"""What a photo has to do with the images of the run that answers it; it needs torch."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from glasshouse.data.images import images_by_id
from glasshouse.errors import GlasshouseError
from glasshouse.models.predict import logits_of
from glasshouse.report.encoding import image_uri
from glasshouse.runs import folder as runs
from glasshouse.serving.explainer import ExplainedPhoto
from glasshouse.serving.run_cache import busy, classifier_of, run_splits
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.known_images import are_known, known_images
from glasshouse.workflow.use.model_choices import ModelChoice, run_of_choice
from glasshouse.workflow.use.photo_and_run import Resemblance, RunComparison
from glasshouse.workflow.use.predictions import load_run_classifier

# Training images whose features are computed without being asked for: those of a set that somebody
# teaches take seconds.
_FEW = 500
# Apart from the lock for torch: features of many images take minutes, with a network of their own.
_comparing = threading.Lock()


@dataclass(frozen=True)
class ShownResemblance:
    """What was found of one photo.

    images: the nearest training images that can still be read, as data: URIs by id.
    """

    found: Resemblance
    images: Mapping[str, str]


def run_to_compare(workbench: Workbench, model: ModelChoice) -> Path | None:
    """The run whose images a model's photos are compared with; None for other models.

    An earlier epoch is another network than the one whose features a run keeps.
    """
    is_final = model.epoch is None and model.weights is None
    return run_of_choice(workbench.runs, model) if is_final else None


def is_compared_at_once(workbench: Workbench, run: Path) -> bool:
    """Whether a comparison takes no long computation first, nor writes where that is refused."""
    if are_known(run):
        return True
    return not workbench.read_only and training_count(run) <= _FEW


def training_count(run: Path) -> int:
    """How many images a run was trained on."""
    return int(runs.read_run(run).environment["data"]["images"]["train"])


def resemblance_of(workbench: Workbench, answer: ExplainedPhoto, run: Path) -> ShownResemblance:
    """Compare an explained photo with the images of its run, and read the nearest ones.

    The features of the run are computed where they are not kept yet. Raises what `known_images`
    raises.
    """
    if not are_known(run):
        workbench.require_changes()
    comparison = _comparison(workbench, run)
    image = answer.page.images[:1]
    with busy:
        logits = logits_of(comparison.classifier, image, ids=[answer.photo.name])
    (found,) = comparison.compare(image, logits)
    near = found.similar.ids if found.similar is not None else ()
    return ShownResemblance(found, _images(workbench, run, near))


def _images(workbench: Workbench, run: Path, ids: tuple[str, ...]) -> dict[str, str]:
    try:
        found = images_by_id(run_splits(workbench, run).train, ids)
    except GlasshouseError:
        return {}  # the source is gone: names and labels are kept in the run
    return {name: image_uri(pixels) for name, pixels in found.items()}


def _comparison(workbench: Workbench, run: Path) -> RunComparison:
    run = run.resolve()
    with _comparing:
        if not are_known(run):
            # Computed by a network that no other thread explains meanwhile.
            known_images(
                run, load_run_classifier(run),
                data_dir=workbench.data_dir, offline=workbench.offline,
            )  # fmt: skip
        return _kept_comparison(run, (run / runs.MODEL).stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _kept_comparison(run: Path, version: int) -> RunComparison:
    with busy:
        return RunComparison.of(run, classifier_of(run))
