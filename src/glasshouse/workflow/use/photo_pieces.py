"""Photos in pieces on a cluster, each done by a function of a classifier, names and pixels.

The bytes of the files travel, so that no machine of the cluster needs to see the disk that they are
on, and so do the classifier and what else the function holds.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import packages_distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor, nn

from glasshouse.cluster.folders import Files, read_files, write_files
from glasshouse.cluster.kept_results import KeptResults, kept_results
from glasshouse.cluster.pieces import Cluster
from glasshouse.cluster.piecework import at_the_same_time
from glasshouse.data.decode import Pixels, decode, read_file
from glasshouse.data.headers import FileLosses, losses_of, warn_of_losses
from glasshouse.errors import BadImage
from glasshouse.models.classifier import Classifier
from glasshouse.models.devices import use_device
from glasshouse.models.preprocessing import preprocess
from glasshouse.storage import sha256_of_bytes, sha256_of_file, tensors_to_bytes
from glasshouse.workflow.use.explain_files import Explained
from glasshouse.workflow.use.image_files import batches_of

Result = TypeVar("Result")
Work = Callable[[Classifier, list[Path], Pixels], Iterable[Result]]


@dataclass(frozen=True)
class PhotoJob(Generic[Result]):
    """What is done with photos: the work of a classifier on a device of the machine that does it.

    work: of the classifier, names, and pixels ``(n, 3, h, w)`` of as many images. command: that
    alone decides, with the classifier and the files, what the results are.
    """

    classifier: Classifier
    device: str
    work: Work[Result]
    command: str | None = None


def done_on(
    cluster: Cluster,
    job: PhotoJob[Result],
    paths: Sequence[Path],
    bad: list[BadImage],
    *,
    most: int,
    signal_received: Callable[[], int | None] = lambda: None,
) -> Iterator[Result]:
    """The results of the files in order; those that cannot be read are added to bad.

    most: files of a piece. The results of a command that does not end are kept for when it is
    repeated. Raises what the work raises, and Interrupted.
    """
    for module in own_modules(job.classifier.net):
        cluster.send_code(module)
    with _kept(cluster, job) as kept:
        compute = at_the_same_time(cluster, kept=kept, signal_received=signal_received)
        # Read when their turn has come.
        pieces = ((job, [(path, _read(path)) for path in each]) for each in batches_of(paths, most))
        for found, unread in compute(_done, pieces):
            bad += unread
            yield from found


def own_modules(net: nn.Module) -> list[ModuleType]:
    """The modules with a network's code that are not installed, and others of its folder."""
    installed = {*packages_distributions(), *sys.stdlib_module_names, "glasshouse"}
    own = {
        name: Path(file).parent
        for name, module in list(sys.modules.items())
        if name.split(".")[0] not in installed and (file := getattr(module, "__file__", None))
    }
    used = {kind.__module__ for layer in net.modules() for kind in type(layer).__mro__}
    folders = {own[name] for name in used & own.keys()}
    # What its functions import from other files of the folder is not seen in the network.
    return [
        sys.modules[name]
        for name, folder in sorted(own.items())
        if any(folder.is_relative_to(each) for each in folders)
    ]


@dataclass(frozen=True)
class SentExplanations:
    """What was explained elsewhere of one image, and the files of it by their path in a folder."""

    explained: tuple[Explained, ...]
    files: Files

    def put_into(self, out: Path) -> tuple[Explained, ...]:
        """Write the files below a folder; returns what was explained, with their places there."""
        write_files(self.files, out)
        return tuple(
            replace(each, files=tuple(out / path for path in each.files)) for each in self.explained
        )


def with_files(explain: Callable[[Path], Sequence[Explained]]) -> SentExplanations:
    """What is explained of an image into a folder that is not kept, and its files."""
    with TemporaryDirectory(prefix="glasshouse-") as place:
        out = Path(place)
        inside = (
            replace(each, files=tuple(path.relative_to(out) for path in each.files))
            for each in explain(out)
        )
        return SentExplanations(tuple(inside), read_files(out))


def _kept(cluster: Cluster, job: PhotoJob[Result]) -> AbstractContextManager[KeptResults | None]:
    """What an earlier attempt at a command has left, if its results would be the same now."""
    if job.command is None:
        return nullcontext(None)
    classifier = job.classifier
    facts = {
        "command": job.command,
        "device": job.device,
        "terms": [dict(cluster.terms.versions), cluster.terms.threads],
        "preprocessing": asdict(classifier.preprocessing),
        "class names": classifier.class_names,
        "weights": _digest(classifier.net),
        "code": [sha256_of_file(Path(str(m.__file__))) for m in own_modules(classifier.net)],
    }
    return kept_results(job.command, json.dumps(facts, sort_keys=True), _name_of)


def _digest(net: nn.Module) -> str:
    """A hash of the values of a network."""
    # Copies, since some may be parts of others.
    values = {name: v.clone() for name, v in net.state_dict().items() if isinstance(v, Tensor)}
    return sha256_of_bytes(tensors_to_bytes(values))


def _name_of(job: PhotoJob[Result], files: "Sequence[_File]") -> str:
    """The name of a piece: a hash of the names and bytes of its files."""
    digest = hashlib.sha256()
    for path, data in files:
        content = data if isinstance(data, bytes) else str(data).encode()
        for part in (str(path).encode(errors="surrogateescape"), content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


# The bytes of a file, or why it cannot be read, by its path.
_File = tuple[Path, bytes | BadImage]


def _read(path: Path) -> bytes | BadImage:
    try:
        return read_file(path)
    except BadImage as error:
        return error


def _done(job: PhotoJob[Result], files: Sequence[_File]) -> tuple[list[Result], list[BadImage]]:
    read: list[tuple[Path, Pixels]] = []
    bad: list[BadImage] = []
    losses: list[tuple[str, FileLosses]] = []
    for path, data in files:
        name = str(path)
        try:
            if isinstance(data, BadImage):
                raise data
            read.append((path, preprocess(decode(data, name=name), job.classifier.preprocessing)))
        except BadImage as error:
            bad.append(error)
        else:
            losses.append((name, losses_of(data, name)))
    warn_of_losses(losses)
    if not read:
        return [], bad
    classifier = use_device(job.classifier, job.device)
    names = [path for path, _ in read]
    results = job.work(classifier, names, np.stack([pixels for _, pixels in read]))
    return list(results), bad
