"""What a command does with many photos, one piece after another here, or on a cluster."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from glasshouse.errors import BadImage
    from glasshouse.models.classifier import Classifier
    from glasshouse.workflow.use.photo_pieces import PhotoJob, Work

Result = TypeVar("Result")


@dataclass(frozen=True)
class Place:
    """Where photos are done: on a cluster, or here where on is None, and on which device there."""

    on: str | None
    device: str

    @property
    def device_here(self) -> str:
        """The device of this machine that a classifier is loaded on."""
        return self.device if self.on is None else "cpu"


def done_with_photos(
    place: Place,
    classifier: "Classifier",
    paths: Sequence[Path],
    work: "Work[Result]",
    bad: "list[BadImage]",
    *,
    most: int,
) -> Iterator[Result]:
    """The results of the photos in order; files that cannot be read are added to bad.

    work: of the classifier, some names and their pixels; most: of how many at once.
    """
    if place.on is not None:
        from glasshouse.workflow.use.photo_pieces import PhotoJob

        command = shlex.join(["glasshouse", *sys.argv[1:]])
        job = PhotoJob(classifier, place.device, work, command)
        yield from _done_on_cluster(place.on, job, paths, bad, most)
        return
    from glasshouse.cli.image_paths import readable_batches

    for names, pixels in readable_batches(paths, classifier, bad, most=most):
        yield from work(classifier, names, pixels)


def _done_on_cluster(
    on: str, job: "PhotoJob[Result]", paths: Sequence[Path], bad: "list[BadImage]", most: int
) -> Iterator[Result]:
    from glasshouse.cli.on_cluster import cluster_at
    from glasshouse.cli.signals import catch_signals
    from glasshouse.workflow.use.photo_pieces import done_on

    with cluster_at(on, job.device) as cluster, catch_signals() as signal_received:
        yield from done_on(cluster, job, paths, bad, most=most, signal_received=signal_received)
