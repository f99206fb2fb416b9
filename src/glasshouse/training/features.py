"""Features of images from a frozen backbone, computed once and cached on disk.

The cache is keyed by the content of backbone and images, the preprocessing and the precision. It
is one ``.npy`` file that is whole or absent; until then, blocks of rows lie in a folder next to it,
so that an interrupted extraction resumes.
"""

import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from glasshouse.data.images import ImageSet
from glasshouse.data.pixel_blocks import blocks, gather
from glasshouse.data.splits import limit
from glasshouse.data.targets import Targets, combinations_of, is_matrix, one_label_each
from glasshouse.errors import ProcessError
from glasshouse.models.agreement import changed_by_class_means
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import Classifier, Preprocessing, scale
from glasshouse.models.devices import choose_device
from glasshouse.models.image_inputs import require_network_size
from glasshouse.models.inference import InferenceNet, inference_net
from glasshouse.progress import Progress
from glasshouse.settings import TrainSettings
from glasshouse.storage import cache_folder, sha256_of_bytes
from glasshouse.training.feature_cache import Values, cached_rows
from glasshouse.training.precision import choose_precision

# Part of every key: increase it with any change that alters features.
FEATURES_VERSION = "2"
_BLOCK_ROWS, _BATCH = 512, 32
# At most this many images and classes decide whether the lower precision agrees.
_EXAMPLES, _EXAMPLE_CLASSES = 64, 32
# Stored as float16, whose largest number is 65,504; a block that comes close is stored as float32.
_LARGEST = 60_000.0


@dataclass(frozen=True)
class Origin:
    """What an extractor is made from, here or on another machine.

    pixels: of a few images of each class, on which the lower precision is judged; labels: theirs,
    None where an image may have several.
    """

    classifier: Classifier
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    settings: TrainSettings


@dataclass(frozen=True)
class Extractor:
    """A frozen backbone ready for inference; key identifies it by content, name is for people."""

    body: InferenceNet
    preprocessing: Preprocessing
    device: torch.device
    key: str
    name: str
    origin: Origin

    def describe(self) -> str:
        """A sentence on how the features are computed."""
        bits = str(self.body.precision).removeprefix("torch.")
        ready = self.body
        low = ""
        if ready.refused is not None:
            low = f" A lower precision was rejected, with {ready.refused.describe()}."
        return (
            f"Features are computed in {bits} with {ready.folded} normalisations folded; compared "
            f"with the original network they have {ready.agreement.describe()}.{low}"
        )


# The one that another machine needs this process for.
_known: dict[str, Extractor] = {}


@dataclass(frozen=True)
class Features:
    """The features of a set of images, in the order of the images.

    values: ``(n, width)``, read-only and memory-mapped; mirrored: the same for the mirrored
    images, on request. targets, ids and class_names are those of the images.
    """

    values: Values
    targets: Targets
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    mirrored: Values | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The only label of each image, ``(n,)``; raises DataError where there may be several."""
        return one_label_each(self.targets)

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may have any number of labels, rather than exactly one."""
        return is_matrix(self.targets)


def make_extractor(
    classifier: Classifier, images: ImageSet, settings: TrainSettings | None = None
) -> Extractor:
    """The backbone of a classifier, prepared for inference; the classifier is left unchanged.

    images: a few of each class decide whether the lower precision agrees. settings: device and
    precision. Raises DataError for images of another size than the classifier takes.
    """
    require_network_size(images, classifier.preprocessing)
    chosen = _examples(images)
    labels = None if images.is_multi_label else images.labels[chosen]
    pixels = gather(images.pixels, chosen)
    return _made(Origin(classifier, pixels, labels, settings or TrainSettings()))


def _made(origin: Origin) -> Extractor:
    classifier, settings = origin.classifier, origin.settings
    device = choose_device(settings.device)
    body = backbone_of(classifier.net).to(device).eval()
    rows = torch.from_numpy(origin.pixels).to(device)
    changed = None
    if origin.labels is not None:
        labels = torch.from_numpy(origin.labels).to(device)
        changed = partial(changed_by_class_means, labels)
    ready = inference_net(
        body,
        scale(rows, classifier.preprocessing),
        choose_precision(settings, device),
        changed=changed,
    )
    facts = {
        "version": FEATURES_VERSION,
        "preprocessing": asdict(classifier.preprocessing),
        "precision": str(ready.precision),
        "body": _structure(classifier),
        "weights": sha256_of_bytes(
            save({k: v.clone().cpu() for k, v in body.state_dict().items()})
        ),
    }
    key = sha256_of_bytes(json.dumps(facts, sort_keys=True).encode())
    name = str(_structure(classifier).get("pretrained", "a network of your own"))
    return Extractor(ready, classifier.preprocessing, device, key, name, origin)


def _examples(images: ImageSet) -> NDArray[np.int64]:
    """Positions of a few images of each class, or of some classes where there are many."""
    groups = combinations_of(images.targets)
    present = np.unique(groups)
    places = np.linspace(0, len(present) - 1, min(_EXAMPLE_CLASSES, len(present))).round()
    own = np.flatnonzero(np.isin(groups, present[places.astype(np.int64)]))
    return own[limit(images.ids[own], groups[own], min(_EXAMPLES, len(own)), seed=0)]


def extract(
    extractor: Extractor,
    images: ImageSet,
    *,
    flips: bool = False,
    progress: Progress | None = None,
    name: str = "features",
    piecework: Callable[..., Iterator[Any]] | None = None,
) -> Features:
    """The features of every image, from the cache where possible.

    flips: include those of the mirrored images. progress: called with (name, rows done, rows in
    total). piecework: of `block_elsewhere` and arguments for it, one after another, to what it
    gives for them; unset: the features are computed here. Raises DataError for images of another
    size than the extractor takes, and StorageError when the cache cannot be written.
    """
    require_network_size(images, extractor.preprocessing)
    key = _images_key(images)
    found = [
        _cached(extractor, images, f"{key}{'-mirrored' * mirror}", (progress, label), piecework)
        for mirror, label in ((False, name), (True, f"{name}, mirrored"))[: 1 + flips]
    ]
    mirrored = found[1] if flips else None
    return Features(found[0], images.targets, images.ids, images.class_names, mirrored)


def _cached(
    extractor: Extractor,
    images: ImageSet,
    key: str,
    reporting: tuple[Progress | None, str],
    piecework: Callable[..., Iterator[Any]] | None,
) -> Values:
    whole = cache_folder() / "features" / extractor.key[:32] / f"{key}.npy"
    starts = range(0, len(images), _BLOCK_ROWS)
    bounds = [(start, min(start + _BLOCK_ROWS, len(images))) for start in starts]
    is_mirrored = key.endswith("-mirrored")
    said, label = reporting

    def report(done: int) -> None:
        if said is not None:
            said(label, done, len(images))

    def compute(blocks: list[tuple[int, int]]) -> Iterator[Values]:
        # The first report is the starting point, so that cached rows do not count towards the
        # speed.
        if blocks:
            report(blocks[0][0])
        if piecework is None:
            for block in blocks:
                yield _block(extractor, images.pixels, block, is_mirrored, report)
            return
        pieces = (
            (extractor.origin, extractor.key, gather(images.pixels, np.arange(*block)), is_mirrored)
            for block in blocks
        )
        for (_, end), values in zip(blocks, piecework(block_elsewhere, pieces), strict=True):
            yield values
            report(end)

    return cached_rows(whole, bounds, compute, source=f"{extractor.name}, {len(images):,} images")


def block_elsewhere(
    origin: Origin, key: str, pixels: NDArray[np.uint8], is_mirrored: bool
) -> Values:
    """The features of images ``(n, 3, h, w)`` on a machine that has to make the extractor.

    key: of the extractor that they are for. Raises ProcessError where another one comes of it.
    """
    extractor = _known.get(key)
    if extractor is None:
        extractor = _made(origin)
        if extractor.key != key:
            raise ProcessError(
                f"{socket.gethostname()} makes another extractor of the network, as its processor "
                "computes other precisions: choose one with --set train.precision=fp32"
            )
        _known.clear()
        _known[key] = extractor
    return _block(extractor, pixels, (0, len(pixels)), is_mirrored)


def _block(
    extractor: Extractor,
    pixels: NDArray[np.uint8],
    bounds: tuple[int, int],
    is_mirrored: bool,
    report: Callable[[int], None] = lambda done: None,
) -> Values:
    rows = []
    for start in range(*bounds, _BATCH):
        end = min(start + _BATCH, bounds[1])
        batch = torch.from_numpy(gather(pixels, np.arange(start, end))).to(extractor.device)
        if is_mirrored:
            batch = batch.flip(-1)
        rows.append(extractor.body(scale(batch, extractor.preprocessing)).cpu().numpy())
        report(end)
    values: Values = np.concatenate(rows)
    return values.astype(np.float16) if np.abs(values).max() < _LARGEST else values


def _structure(classifier: Classifier) -> dict[str, object]:
    """What identifies the backbone apart from its weights; features do not depend on the head."""
    known = classifier.architecture or {"net": type(classifier.net).__name__}
    return {key: known[key] for key in known if key not in ("head", "class_count")}


def _images_key(images: ImageSet) -> str:
    digest = hashlib.sha256(str(images.pixels.shape).encode())
    for block in blocks(images.pixels):
        digest.update(block.data)
    return digest.hexdigest()[:32]
